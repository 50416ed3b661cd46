#pragma once
// What work on several GPUs needs beside Gpu: which one is whose, and a second stream.

#include <string>

#include "kernels/common/gpu.h"

namespace moleblend {

/// How many this process sees. Throws GpuError where there is none, or the driver is too old for the program.
int visible_gpus();
/// Where on the PCI bus the GPU of this thread is, the same for all processes of a machine: "0000:3b:00.0".
std::string gpu_address();

/// A stream beside a Gpu's own, for what runs while the Gpu computes; its kernels go first where both have some.
class GpuBranch {
 public:
  explicit GpuBranch(Gpu& gpu);
  ~GpuBranch();
  GpuBranch(const GpuBranch&) = delete;
  GpuBranch& operator=(const GpuBranch&) = delete;

  CUstream_st* stream() const { return stream_; }
  /// What is queued here from now on waits for what is queued on the Gpu so far.
  void follow();
  /// What is queued on the Gpu from now on waits for what is queued here so far.
  void merge();
  /// Whether the GPU has done all that was queued here before the last merge().
  bool done() const;

 private:
  Gpu& gpu_;
  CUstream_st* stream_ = nullptr;
  CUevent_st* followed_ = nullptr;
  CUevent_st* merged_ = nullptr;
};

}  // namespace moleblend
