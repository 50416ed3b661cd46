#include "kernels/common/cuda/cuda.cuh"
#include "kernels/common/gpus.h"

namespace moleblend {

int visible_gpus() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    throw GpuError(error == cudaSuccess || error == cudaErrorNoDevice
                       ? "no GPU is visible on this machine"
                       : std::string("no GPU can be used: ") + cudaGetErrorString(error));
  }
  return count;
}

std::string gpu_address() {
  int device = 0;
  cuda::check(cudaGetDevice(&device), "cudaGetDevice");
  char address[32] = {};
  cuda::check(cudaDeviceGetPCIBusId(address, sizeof address, device), "cudaDeviceGetPCIBusId");
  return address;
}

GpuBranch::GpuBranch(Gpu& gpu) : gpu_(gpu) {
  int least = 0, most = 0;
  cuda::check(cudaDeviceGetStreamPriorityRange(&least, &most), "cudaDeviceGetStreamPriorityRange");
  cuda::check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, most), "cudaStreamCreate");
  cuda::check(cudaEventCreateWithFlags(&followed_, cudaEventDisableTiming), "cudaEventCreate");
  cuda::check(cudaEventCreateWithFlags(&merged_, cudaEventDisableTiming), "cudaEventCreate");
}

GpuBranch::~GpuBranch() {
  cudaEventDestroy(merged_);
  cudaEventDestroy(followed_);
  cudaStreamDestroy(stream_);  // waits for nothing: what it runs may never end
}

void GpuBranch::follow() {
  cuda::check(cudaEventRecord(followed_, gpu_.stream()), "cudaEventRecord");
  cuda::check(cudaStreamWaitEvent(stream_, followed_, 0), "cudaStreamWaitEvent");
}

void GpuBranch::merge() {
  cuda::check(cudaEventRecord(merged_, stream_), "cudaEventRecord");
  cuda::check(cudaStreamWaitEvent(gpu_.stream(), merged_, 0), "cudaStreamWaitEvent");
}

bool GpuBranch::done() const {
  const cudaError_t answer = cudaEventQuery(merged_);
  if (answer == cudaErrorNotReady) return false;
  cuda::check(answer, "the GPU");
  return true;
}

}  // namespace moleblend
