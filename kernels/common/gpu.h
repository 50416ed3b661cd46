#pragma once
// A CUDA GPU as a device: a stream, and scratch memory for operations. No CUDA header is needed to read this one.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

struct CUevent_st;
struct CUstream_st;

namespace moleblend {

/// What CUDA or one of its libraries answered, in one line.
struct GpuError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct GpuOutOfMemory : GpuError {
  GpuOutOfMemory(std::size_t wanted, std::size_t free, std::size_t all);
  std::size_t wanted, free, all;  // bytes
};

/// A growing block of device memory, 256-byte aligned, reused from step to step.
class GpuBlock {
 public:
  GpuBlock() = default;
  GpuBlock(GpuBlock&& o) noexcept : memory_(o.memory_), size_(o.size_) { o.memory_ = nullptr, o.size_ = 0; }
  GpuBlock& operator=(GpuBlock&& o) noexcept;
  ~GpuBlock();
  /// At least `bytes` bytes, contents undefined. When the block has to grow, the device is waited for and the former contents are lost.
  /// Throws GpuOutOfMemory.
  void* reserve(std::size_t bytes);
  std::size_t size() const { return size_; }

 private:
  void* memory_ = nullptr;
  std::size_t size_ = 0;
};

class Gpu;

/// Where the device's time goes: a mark says what is queued from then on. Each is an event on the stream.
class GpuMarks {
 public:
  explicit GpuMarks(Gpu& gpu) : gpu_(gpu) {}
  ~GpuMarks();
  GpuMarks(const GpuMarks&) = delete;
  GpuMarks& operator=(const GpuMarks&) = delete;
  void mark(int part);
  /// Adds to seconds[part] what was spent on each part up to now, and begins anew with the last one. Waits for the device.
  void collect(std::span<double> seconds);

 private:
  struct Mark {
    int part;
    CUevent_st* event;
  };
  Gpu& gpu_;
  std::vector<Mark> marks_;
  std::vector<CUevent_st*> unused_;
};

/// Device context handed to every GPU operation as its first argument. Operations are queued on one stream and return at once; they run in
/// the order of the calls. Not thread-safe.
///
/// Determinism: every operation gives the same bits in every run on the same kind of GPU. No float is added by an atomic operation.
class Gpu {
 public:
  using Block = GpuBlock;
  using Marks = GpuMarks;
  /// What one is made of: its ordinal.
  using Place = int;

  /// Device `ordinal` of those visible. Throws GpuError where there is none, or its driver is too old for the program.
  explicit Gpu(int ordinal = 0);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  CUstream_st* stream() const { return stream_; }
  int multiprocessors() const { return multiprocessors_; }
  /// Most shared memory that a block can have: 227 KiB of an H200, 163 of an A100, 99 of most others.
  std::size_t shared_bytes_of_block() const { return shared_bytes_of_block_; }
  /// As "cuda, NVIDIA H200 with 150.1 GB".
  const std::string& name() const { return name_; }
  /// Of a network whose activations are T.
  template <class T>
  static const char* precision() {
    return sizeof(T) == 2 ? "bf16" : "fp32";
  }

  /// Scratch of the operation being queued: valid for the kernels that it queues, and taken over by the next operation. Take it
  /// once an operation and cut it with a Carver. It grows at the first steps and then stays.
  void* scratch(std::size_t bytes) { return scratch_.reserve(bytes); }
  std::size_t scratch_bytes() const { return scratch_.size(); }

  /// Queued: `bytes` zero bytes at `memory`.
  void zero_bytes(void* memory, std::size_t bytes);
  /// Queued: from host to device. Returns when `from` may be changed.
  void upload_bytes(void* to, const void* from, std::size_t bytes);
  /// Queued: within the device's memory.
  void copy_bytes(void* to, const void* from, std::size_t bytes);
  /// From device to host, after all that is queued; waits.
  void download_bytes(void* to, const void* from, std::size_t bytes);
  void wait();

  template <class T>
  void zero(T* memory, std::int64_t count) {
    zero_bytes(memory, static_cast<std::size_t>(count) * sizeof(T));
  }
  template <class T>
  void upload(T* to, const T* from, std::int64_t count) {
    upload_bytes(to, from, static_cast<std::size_t>(count) * sizeof(T));
  }
  template <class T>
  void copy(T* to, const T* from, std::int64_t count) {
    copy_bytes(to, from, static_cast<std::size_t>(count) * sizeof(T));
  }
  template <class T>
  void download(T* to, const T* from, std::int64_t count) {
    download_bytes(to, from, static_cast<std::size_t>(count) * sizeof(T));
  }

  /// Handles of libraries (cuBLASLt), owned by the operations that use them.
  struct Library {
    virtual ~Library() = default;
  };
  std::unique_ptr<Library> products;

 private:
  CUstream_st* stream_ = nullptr;
  int multiprocessors_ = 0;
  std::size_t shared_bytes_of_block_ = 0;
  std::string name_;
  GpuBlock scratch_;
};

/// A block of host memory and its copy on the device, sent beside the computation.
class GpuUpload {
 public:
  explicit GpuUpload(Gpu& gpu);
  ~GpuUpload();
  GpuUpload(const GpuUpload&) = delete;
  GpuUpload& operator=(const GpuUpload&) = delete;

  /// Page-locked host memory of at least `bytes` to write to; contents undefined. Waits until the last send has left it.
  void* host(std::size_t bytes);
  /// Starts the copy of the first `bytes`. Nothing that is queued or runs may still read the device's side.
  void send(std::size_t bytes);
  /// The device's side; operations queued from now on wait for the copy.
  void* receive();

 private:
  Gpu& gpu_;
  CUstream_st* stream_ = nullptr;
  CUevent_st* sent_ = nullptr;
  void* host_ = nullptr;
  std::size_t host_size_ = 0;
  GpuBlock device_;
};

}  // namespace moleblend
