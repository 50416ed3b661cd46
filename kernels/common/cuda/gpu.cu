#include <utility>

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/common/gpu.h"
#include "kernels/common/gpus.h"

namespace moleblend {

namespace {
std::string gigabytes(std::size_t bytes) {
  const std::size_t tenths = bytes / 100000000;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " GB";
}
}  // namespace

GpuOutOfMemory::GpuOutOfMemory(std::size_t wanted_bytes, std::size_t free_bytes, std::size_t all_bytes)
    : GpuError("the GPU has no room for another " + gigabytes(wanted_bytes) + ": " + gigabytes(free_bytes) + " of " +
               gigabytes(all_bytes) + " are free"),
      wanted(wanted_bytes),
      free(free_bytes),
      all(all_bytes) {}

GpuBlock& GpuBlock::operator=(GpuBlock&& o) noexcept {
  std::swap(memory_, o.memory_);
  std::swap(size_, o.size_);
  return *this;
}

GpuBlock::~GpuBlock() {
  cudaFree(memory_);
}

void* GpuBlock::reserve(std::size_t bytes) {
  if (bytes <= size_) return memory_;
  // An eighth more than asked for: batches differ a little in size, and each growth waits for the device.
  const std::size_t size = (bytes + bytes / 8 + 0xFFFF) & ~std::size_t{0xFFFF};
  cudaFree(memory_);
  memory_ = nullptr;
  size_ = 0;
  const cudaError_t error = cudaMalloc(&memory_, size);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free = 0, all = 0;
    cudaMemGetInfo(&free, &all);
    throw GpuOutOfMemory(size, free, all);
  }
  cuda::check(error, "cudaMalloc");
  size_ = size;
  return memory_;
}

Gpu::Gpu(int ordinal) {
  const int count = visible_gpus();
  if (ordinal < 0 || ordinal >= count) {
    throw GpuError("there is no GPU " + std::to_string(ordinal) + ": " + std::to_string(count) +
                   " are visible, counted from 0");
  }
  cuda::check(cudaSetDevice(ordinal), "cudaSetDevice");
  cudaDeviceProp properties{};
  cuda::check(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  if (properties.major < 8) {
    throw GpuError(std::string(properties.name) + " has compute capability " + std::to_string(properties.major) + "." +
                   std::to_string(properties.minor) + "; 8.0 (A100) is the least");
  }
  multiprocessors_ = properties.multiProcessorCount;
  shared_bytes_of_block_ = properties.sharedMemPerBlockOptin;
  name_ = "cuda, " + std::string(properties.name) + " with " + gigabytes(properties.totalGlobalMem);
  cuda::check(cudaStreamCreate(&stream_), "cudaStreamCreate");
}

Gpu::~Gpu() {
  products.reset();
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

void Gpu::zero_bytes(void* memory, std::size_t bytes) {
  if (bytes > 0) cuda::check(cudaMemsetAsync(memory, 0, bytes, stream_), "cudaMemsetAsync");
}

void Gpu::upload_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) cuda::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copying to the GPU");
}

void Gpu::copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) cuda::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copying on the GPU");
}

void Gpu::download_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) cuda::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copying from the GPU");
  wait();
}

void Gpu::wait() {
  cuda::check(cudaStreamSynchronize(stream_), "the GPU");
}

GpuMarks::~GpuMarks() {
  for (const Mark& mark : marks_) cudaEventDestroy(mark.event);
  for (CUevent_st* event : unused_) cudaEventDestroy(event);
}

void GpuMarks::mark(int part) {
  CUevent_st* event = nullptr;
  if (unused_.empty()) {
    cuda::check(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreate");
  } else {
    event = unused_.back();
    unused_.pop_back();
  }
  marks_.push_back({part, event});
  cuda::check(cudaEventRecord(event, gpu_.stream()), "cudaEventRecord");
}

void GpuMarks::collect(std::span<double> seconds) {
  if (marks_.empty()) return;
  mark(marks_.back().part);
  gpu_.wait();
  for (std::size_t k = 0; k + 1 < marks_.size(); ++k) {
    float milliseconds = 0;
    cuda::check(cudaEventElapsedTime(&milliseconds, marks_[k].event, marks_[k + 1].event), "cudaEventElapsedTime");
    seconds[static_cast<std::size_t>(marks_[k].part)] += 1e-3 * static_cast<double>(milliseconds);
    unused_.push_back(marks_[k].event);
  }
  marks_.erase(marks_.begin(), marks_.end() - 1);
}

GpuUpload::GpuUpload(Gpu& gpu) : gpu_(gpu) {
  cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  cuda::check(cudaEventCreateWithFlags(&sent_, cudaEventDisableTiming), "cudaEventCreate");
}

GpuUpload::~GpuUpload() {
  cudaStreamSynchronize(stream_);
  cudaEventDestroy(sent_);
  cudaStreamDestroy(stream_);
  cudaFreeHost(host_);
}

void* GpuUpload::host(std::size_t bytes) {
  cuda::check(cudaStreamSynchronize(stream_), "copying to the GPU");
  if (bytes > host_size_) {
    const std::size_t size = bytes + bytes / 8;
    cudaFreeHost(host_);
    host_ = nullptr;
    host_size_ = 0;
    cuda::check(cudaMallocHost(&host_, size), "page-locked host memory");
    host_size_ = size;
  }
  return host_;
}

void GpuUpload::send(std::size_t bytes) {
  void* to = device_.reserve(bytes);
  cuda::check(cudaMemcpyAsync(to, host_, bytes, cudaMemcpyHostToDevice, stream_), "copying to the GPU");
  cuda::check(cudaEventRecord(sent_, stream_), "cudaEventRecord");
}

void* GpuUpload::receive() {
  cuda::check(cudaStreamWaitEvent(gpu_.stream(), sent_, 0), "cudaStreamWaitEvent");
  return device_.reserve(0);
}

}  // namespace moleblend
