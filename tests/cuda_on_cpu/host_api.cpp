// The part of the CUDA runtime's host API that the program calls, on memory of the host. Everything queued is done at once.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "allocations.h"
#include "launch.h"
#include "sanitizers.h"

namespace {
constexpr std::size_t kAlignment = 256;  // of cudaMalloc
using Clock = std::chrono::steady_clock;
constexpr std::size_t kMemory = std::size_t{1} << 33;
}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  *p = std::aligned_alloc(kAlignment, rounded);
  if (!*p) return cudaErrorMemoryAllocation;
  std::memset(*p, 0xFF, bytes);
  cuda_on_cpu::poison(static_cast<char*>(*p) + bytes, rounded - bytes);
  cuda_on_cpu::note_allocation(*p, bytes);
  return cudaSuccess;
}

cudaError_t cudaFree(void* p) {
  cuda_on_cpu::forget_allocation(p);
  std::free(p);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  cuda_on_cpu::count(cuda_on_cpu::Queued::transfer);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* p, int value, std::size_t bytes) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t) {
  cuda_on_cpu::count(cuda_on_cpu::Queued::transfer);
  std::memset(p, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = nullptr;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = nullptr;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* most) {
  *least = *most = 0;
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t) {
  return cuda_on_cpu::peek_error();
}

// An event is the time at which it was recorded.
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new Clock::time_point);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  *reinterpret_cast<Clock::time_point*>(event) = Clock::now();
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(*reinterpret_cast<Clock::time_point*>(end) -
                                                           *reinterpret_cast<Clock::time_point*>(begin))
                      .count();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<Clock::time_point*>(event);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  *p = std::malloc(bytes);
  if (!*p) return cudaErrorMemoryAllocation;
  cuda_on_cpu::note_allocation(*p, bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* p) {
  cuda_on_cpu::forget_allocation(p);
  std::free(p);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cuda_on_cpu::peek_error();
}

cudaError_t cudaDeviceSynchronize() {
  return cuda_on_cpu::peek_error();
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

// Every thread of the host has a device of its own.
cudaError_t cudaDeviceGetPCIBusId(char* address, int size, int) {
  static std::atomic<int> devices{0};
  thread_local const int device = devices++;
  std::snprintf(address, static_cast<std::size_t>(size), "0000:%02x:00.0", static_cast<unsigned>(device));
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = cudaDeviceProp{};
  std::strcpy(properties->name, "CPU executor");
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = kMemory;
  properties->sharedMemPerBlockOptin = cuda_on_cpu::shared_limit();
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* all) {
  *free_bytes = *all = kMemory;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  return cuda_on_cpu::take_error();
}

cudaError_t cudaPeekAtLastError() {
  return cuda_on_cpu::peek_error();
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    default:
      return cuda_on_cpu::last_error();
  }
}
}
