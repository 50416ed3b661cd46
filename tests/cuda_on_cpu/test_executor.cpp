// The executor itself: what it must do as a GPU does, and the faults of kernels that it must find. Each kernel stands before its test.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/common/cuda/cuda.cuh"

#ifdef __has_feature
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
#define UNDER_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#define UNDER_TSAN 1
// A death test ends at the first race.
extern "C" const char* __tsan_default_options() {
  return "halt_on_error=1";
}
#endif

namespace moleblend::cuda {
namespace {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    void* memory = nullptr;
    if (cudaMalloc(&memory, count * sizeof(T)) != cudaSuccess) throw std::bad_alloc();
    data_ = static_cast<T*>(memory);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }
  T* data() const { return data_; }
  T operator[](std::size_t k) const { return data_[k]; }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

template <class... P, class... A>
cudaError_t run(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, A... args) {
  return cuda_on_cpu::launch(kernel, grid, block, shared_bytes, nullptr, args...);
}

void expect_failure(cudaError_t error, const std::string& reason) {
  EXPECT_EQ(error, cudaErrorLaunchFailure);
  EXPECT_NE(std::string(cuda_on_cpu::last_error()).find(reason), std::string::npos) << cuda_on_cpu::last_error();
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "an error is told once";
}
#define EXPECT_RUNS(...) EXPECT_EQ(__VA_ARGS__, cudaSuccess) << cuda_on_cpu::last_error()

// ---- barriers -----------------------------------------------------------------------------------

__global__ void exit_early(int* out, int live) {
  const int t = static_cast<int>(threadIdx.x);
  if (t >= live) return;
  __syncthreads();
  out[t] = __syncthreads_count(t % 2);
}
TEST(Executor, BarriersWaitOnlyForThreadsThatLive) {
  DeviceArray<int> out(96);
  EXPECT_RUNS(run(exit_early, 1, 96, 0, out.data(), 70));
  EXPECT_EQ(out[0], 35);
  EXPECT_EQ(out[69], 35);
  EXPECT_EQ(out[70], -1) << "not written: 0xFF bytes";
}

__global__ void reduce_in_barriers(int* out, int odd_one) {
  const int t = static_cast<int>(threadIdx.x);
  const int all = __syncthreads_and(t != odd_one);
  const int any = __syncthreads_or(t == odd_one);
  const int how_many = __syncthreads_count(t < odd_one);
  out[t] = all * 10000 + any * 1000 + how_many;
}
TEST(Executor, BarriersReduce) {
  DeviceArray<int> out(64);
  EXPECT_RUNS(run(reduce_in_barriers, 1, 64, 0, out.data(), 40));
  EXPECT_EQ(out[0], 1040);
  EXPECT_EQ(out[63], 1040);
  EXPECT_RUNS(run(reduce_in_barriers, 1, 64, 0, out.data(), 64));
  EXPECT_EQ(out[0], 10064);
}

__global__ void meet_at_different_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
TEST(Executor, FindsDivergentBarriers) {
  expect_failure(run(meet_at_different_barriers, 1, 64, 0), "divergent __syncthreads");
}

__global__ void wait_for_each_other(int* out) {
  if (threadIdx.x < 16) {
    __shfl_sync(kFullWarp, 1, 0);
  } else {
    __syncthreads();
  }
  out[0] = 1;
}
TEST(Executor, FindsDeadlocksAndSaysWhoWaitsWhere) {
  DeviceArray<int> out(1);
  expect_failure(run(wait_for_each_other, 1, 32, 0, out.data()), "deadlock in block (0,0,0)");
  const std::string text = cuda_on_cpu::last_error();
  EXPECT_NE(text.find("thread (0,0,0) at "), std::string::npos) << text;
  EXPECT_NE(text.find("thread (16,0,0) at "), std::string::npos) << text;
  EXPECT_NE(text.find("test_executor.cpp:"), std::string::npos) << text;
  EXPECT_EQ(out[0], -1);
}

// Warp 0 produces, warp 1 consumes, warp 2 has no part in it.
__global__ void produce_and_consume(int* out) {
  GPU_SHARED(int, buffer, [32]);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  constexpr int kFull = 1, kEmpty = 2;
  if (threadIdx.x >= 64) return;
  for (int k = 0; k < 4; ++k) {
    if (threadIdx.x < 32) {
      buffer[lane] = k * 100 + lane;
      named_barrier(kFull, 64);
      named_barrier(kEmpty, 64);
    } else {
      named_barrier(kFull, 64);
      out[k * 32 + lane] = buffer[31 - lane];
      named_barrier(kEmpty, 64);
    }
  }
}
TEST(Executor, NamedBarriersServeSpecialisedWarps) {
  DeviceArray<int> out(128);
  EXPECT_RUNS(run(produce_and_consume, 1, 96, 0, out.data()));
  for (int k = 0; k < 4; ++k) EXPECT_EQ(out[k * 32 + 5], k * 100 + 26);
}

__global__ void disagree_on_a_barrier() {
  named_barrier(1, threadIdx.x < 32 ? 64 : 96);
}
TEST(Executor, FindsThreadsThatDisagreeOnANamedBarrier) {
  expect_failure(run(disagree_on_a_barrier, 1, 96, 0), "disagree on a named barrier's thread count");
}

// ---- warps --------------------------------------------------------------------------------------

__global__ void sum_by_half_warps(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const unsigned mask = lane < 16 ? 0xFFFFu : 0xFFFF0000u;
  int sum = lane;
  if (lane < 16) {
    for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(mask, sum, step, 16);
  } else {
    for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(mask, sum, step, 16);
  }
  out[threadIdx.x] = sum;
}
TEST(Executor, HalfWarpsMeetAmongThemselves) {
  DeviceArray<int> out(64);
  EXPECT_RUNS(run(sum_by_half_warps, 1, 64, 0, out.data()));
  EXPECT_EQ(out[3], 120);   // 0 + … + 15
  EXPECT_EQ(out[50], 376);  // 16 + … + 31
}

__global__ void shuffle(int* out, int width) {
  const int lane = static_cast<int>(threadIdx.x);
  out[lane] = __shfl_sync(kFullWarp, lane, 5, width);
  out[32 + lane] = __shfl_xor_sync(kFullWarp, lane, 3, width);
  out[64 + lane] = __shfl_up_sync(kFullWarp, lane, 2, width);
  out[96 + lane] = __shfl_down_sync(kFullWarp, lane, 2, width);
}
TEST(Executor, ShufflesStayInTheirSegments) {
  DeviceArray<int> out(128);
  for (int width : {32, 16, 8}) {
    EXPECT_RUNS(run(shuffle, 1, 32, 0, out.data(), width));
    for (int lane = 0; lane < 32; ++lane) {
      const int segment = lane / width;
      const auto inside = [&](int source) { return source >= 0 && source / width == segment ? source : lane; };
      EXPECT_EQ(out[lane], segment * width + 5);
      EXPECT_EQ(out[32 + lane], lane ^ 3);
      EXPECT_EQ(out[64 + lane], inside(lane - 2)) << lane << " of " << width;
      EXPECT_EQ(out[96 + lane], inside(lane + 2)) << lane << " of " << width;
    }
  }
}

__global__ void vote(unsigned* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const unsigned odd = __ballot_sync(kFullWarp, lane % 2);
  const unsigned same = __match_any_sync(kFullWarp, lane / 4);
  const int sum = __reduce_add_sync(kFullWarp, lane);
  const int most = __reduce_max_sync(kFullWarp, lane % 7);
  const int least = __reduce_min_sync(kFullWarp, lane - 4);
  const int any = __any_sync(kFullWarp, lane == 9), all = __all_sync(kFullWarp, lane < 32);
  const bool right = odd == 0xAAAAAAAAu && same == 0xFu << (lane & ~3) && sum == 496 && most == 6 && least == -4 &&
                     any && all && !__any_sync(kFullWarp, lane > 31) && !__all_sync(kFullWarp, lane != 9);
  out[lane] = right;
}
TEST(Executor, WarpsVoteAndReduce) {
  DeviceArray<unsigned> out(32);
  EXPECT_RUNS(run(vote, 1, 32, 0, out.data()));
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(out[lane], 1u) << lane;
}

__global__ void shuffle_from_absent_lane() {
  if (threadIdx.x >= 8) return;
  __shfl_sync(kFullWarp, 1, 20);
}
TEST(Executor, FindsShufflesFromLanesThatAreNotThere) {
  expect_failure(run(shuffle_from_absent_lane, 1, 32, 0), "shuffle reads a lane that is not in the mask or has exited");
}

__global__ void shuffle_apart() {
  if (threadIdx.x % 2 == 0) {
    __shfl_xor_sync(kFullWarp, 1, 1);
  } else {
    __shfl_xor_sync(kFullWarp, 1, 1);
  }
}
TEST(Executor, FindsWarpsThatMeetAtDifferentStatements) {
  expect_failure(run(shuffle_apart, 1, 32, 0), "different warp-wide statements");
}

// ---- tensor cores -------------------------------------------------------------------------------

// c [16, 8] = a [16, 16] · b [16, 8], by way of shared memory as attention does it.
__global__ void multiply_tile(const bf16* a, const bf16* b, float* c) {
  GPU_SHARED(bf16, shared_a, [16][16]);
  GPU_SHARED(bf16, shared_b, [16][16]);  // columns 8 to 15 are zero
  const int lane = static_cast<int>(threadIdx.x);
  for (int k = lane; k < 256; k += 32) {
    shared_a[k / 16][k % 16] = a[k];
    shared_b[k / 16][k % 16] = k % 16 < 8 ? b[k / 16 * 8 + k % 16] : bf16{0};
  }
  __syncwarp();
  std::uint32_t fragment_a[4], fragment_b[4];
  float sum[4] = {};
  ldmatrix_x4(fragment_a, &shared_a[lane % 16][lane / 16 * 8]);
  ldmatrix_x4_trans(fragment_b, &shared_b[lane % 16][lane / 16 * 8]);
  mma_m16n8k16_bf16(sum, fragment_a, fragment_b[0], fragment_b[1]);
  for (int k = 0; k < 4; ++k) c[(lane / 4 + k / 2 * 8) * 8 + lane % 4 * 2 + k % 2] = sum[k];
}
TEST(Executor, MultipliesMatricesAsTensorCoresDo) {
  std::vector<bf16> a(256), b(128);
  // Small integers: exact in bf16, and so are their sums in float.
  for (int k = 0; k < 256; ++k) a[k] = to_bf16(static_cast<float>(k * 7 % 23 - 11));
  for (int k = 0; k < 128; ++k) b[k] = to_bf16(static_cast<float>(k * 5 % 19 - 9));
  DeviceArray<bf16> device_a(a), device_b(b);
  DeviceArray<float> c(128);
  EXPECT_RUNS(run(multiply_tile, 1, 32, 0, device_a.data(), device_b.data(), c.data()));
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += to_float(a[i * 16 + k]) * to_float(b[k * 8 + j]);
      EXPECT_EQ(c[i * 8 + j], sum) << i << ", " << j;
    }
  }
}

__global__ void load_misaligned_rows() {
  GPU_SHARED(bf16, rows, [33][8]);
  std::uint32_t fragment[4];
  ldmatrix_x4(fragment, &rows[threadIdx.x][1]);
}
TEST(Executor, FindsMisalignedRowsOfMatrices) {
  expect_failure(run(load_misaligned_rows, 1, 32, 0), "ldmatrix row address is not 16-byte aligned");
}

// ---- shared memory ------------------------------------------------------------------------------

template <int N>
__device__ void reverse_through(float (&values)[N], float* out) {
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = values[N - 1 - threadIdx.x];
}

__global__ void reverse_in_plain_shared(float* out) {
  __shared__ float values[64];
  reverse_through(values, out);
}
TEST(Executor, RunsPlainSharedMemory) {
  DeviceArray<float> out(64);
  EXPECT_RUNS(run(reverse_in_plain_shared, 1, 64, 0, out.data()));
  EXPECT_EQ(out[5], 58);
}

__global__ void reverse(float* out) {
  GPU_SHARED(float, values, [1024]);
  reverse_through(values, out);
}
TEST(Executor, RunsTheLargestBlocks) {
  DeviceArray<float> out(1024);
  EXPECT_RUNS(run(reverse, 1, 1024, 0, out.data()));
  EXPECT_EQ(out[5], 1018);
}

__global__ void read_before_writing(int* seen) {
  GPU_SHARED(float, variable, [4]);
  GPU_DYNAMIC_SHARED(bytes);
  float* dynamic = reinterpret_cast<float*>(bytes);
  seen[blockIdx.x] = std::isnan(variable[3]) && std::isnan(dynamic[3]);
  variable[3] = dynamic[3] = 1;
}
TEST(Executor, SharedMemoryOfEveryBlockStartsAsNaN) {
  DeviceArray<int> seen(5);
  EXPECT_RUNS(run(read_before_writing, 5, 1, 16, seen.data()));
  for (int k = 0; k < 5; ++k) EXPECT_EQ(seen[k], 1) << k;
}
TEST(Executor, DeviceMemoryStartsAsNaN) {
  DeviceArray<float> memory(3);
  EXPECT_TRUE(std::isnan(memory[2]));
}

__global__ void use_much_static_shared() {
  GPU_SHARED(float, values, [12289]);  // 48 KiB and 4 bytes
  values[0] = 1;
}
TEST(Executor, RefusesTooMuchSharedMemory) {
  DeviceArray<float> out(1024);
  EXPECT_EQ(run(reverse, 1, 1024, 227 * 1024 + 1, out.data()), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_RUNS(run(reverse, 1, 1024, 227 * 1024, out.data()));
  expect_failure(run(use_much_static_shared, 1, 1, 0), "static shared memory above 48 KiB");
}

TEST(Executor, RefusesImpossibleGrids) {
  DeviceArray<float> out(1024);
  for (const auto& [grid, block] :
       {std::pair(dim3(1), dim3(1025)), {dim3(1), dim3(0)}, {dim3(0), dim3(32)}, {dim3(1, 65536), dim3(32)}}) {
    EXPECT_EQ(run(reverse, grid, block, 0, out.data()), cudaErrorInvalidConfiguration);
  }
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
}

// ---- asynchronous copies ------------------------------------------------------------------------

__global__ void copy_and_look(const float* from, float* out) {
  GPU_SHARED(float, tile, [8]);
  copy_async_16(&tile[0], from);
  copy_async_commit();
  copy_async_16(&tile[4], from + 4, 8);
  copy_async_commit();
  out[0] = tile[0];
  copy_async_wait<1>();
  out[1] = tile[0];
  out[2] = tile[4];
  copy_async_wait<0>();
  for (int k = 0; k < 4; ++k) out[3 + k] = tile[4 + k];
}
TEST(Executor, CopiesArriveWhenTheyAreWaitedFor) {
  DeviceArray<float> from(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}), out(7);
  EXPECT_RUNS(run(copy_and_look, 1, 1, 0, from.data(), out.data()));
  EXPECT_TRUE(std::isnan(out[0])) << "not waited for";
  EXPECT_EQ(out[1], 1);
  EXPECT_TRUE(std::isnan(out[2])) << "the newer group may still be on its way";
  EXPECT_EQ(out[3], 5);
  EXPECT_EQ(out[4], 6);
  EXPECT_EQ(out[5], 0) << "past the source: zero";
  EXPECT_EQ(out[6], 0);
}

__global__ void copy_and_exit(const float* from) {
  GPU_DYNAMIC_SHARED(bytes);
  copy_async_16(bytes + threadIdx.x * 16, from + threadIdx.x * 4);
  copy_async_commit();
}
TEST(Executor, FindsCopiesNeverWaitedFor) {
  DeviceArray<float> from(16);
  expect_failure(run(copy_and_exit, 1, 4, 64, from.data()), "never waited for");
}

__global__ void copy_misaligned(const float* from) {
  GPU_SHARED(float, tile, [8]);
  copy_async_16(&tile[1], from);
}
TEST(Executor, FindsMisalignedCopies) {
  DeviceArray<float> from(16);
  expect_failure(run(copy_misaligned, 1, 1, 0, from.data()), "cp.async address not aligned");
}

// ---- launches -----------------------------------------------------------------------------------

TEST(Executor, GoesOnAfterAnError) {
  DeviceArray<int> out(1);
  DeviceArray<float> values(1024);
  expect_failure(run(wait_for_each_other, 3, 32, 0, out.data()), "deadlock");
  EXPECT_RUNS(run(reverse, 1, 1024, 0, values.data()));
  EXPECT_EQ(values[0], 1023);
}

__global__ void count(int* sum, unsigned long long* per_block) {
  atomicAdd(sum, 1);
  atomicMax(&per_block[blockIdx.x + gridDim.x * blockIdx.y],
            static_cast<unsigned long long>(threadIdx.x + blockDim.x * threadIdx.y));
}
TEST(Executor, RunsEveryThreadOfEveryBlockOnce) {
  DeviceArray<int> sum(std::vector<int>{0});
  DeviceArray<unsigned long long> last(std::vector<unsigned long long>(17 * 3, 0));
  EXPECT_RUNS(run(count, dim3(17, 3), dim3(50, 2), 0, sum.data(), last.data()));
  EXPECT_EQ(sum[0], 17 * 3 * 100);
  for (int k = 0; k < 17 * 3; ++k) EXPECT_EQ(last[k], 99u) << k;
}

__global__ void note_order(int* order, int* next) {
  if (threadIdx.x % 32 == 0) order[atomicAdd(next, 1)] = static_cast<int>(threadIdx.x / 32);
}
TEST(Executor, RunsThreadsInTheOrderAskedFor) {
  const char* asked = std::getenv("CUDA_ON_CPU_ORDER");
  const std::string name = asked ? asked : "fwd";
  std::vector<int> sorted(32), seen;
  std::iota(sorted.begin(), sorted.end(), 0);
  for (int repeat = 0; repeat < 2; ++repeat) {
    DeviceArray<int> order(32), next(std::vector<int>{0});
    EXPECT_RUNS(run(note_order, 1, 1024, 0, order.data(), next.data()));
    std::vector<int> warps(order.data(), order.data() + 32);
    if (repeat == 0) seen = warps;
    EXPECT_EQ(warps, seen) << "another order in another run";
    if (name == "rev") std::reverse(warps.begin(), warps.end());
    if (name.rfind("rand", 0) == 0) {
      EXPECT_NE(warps, sorted);
      std::sort(warps.begin(), warps.end());
    }
    EXPECT_EQ(warps, sorted) << name;
  }
}

// ---- what the sanitizers find -------------------------------------------------------------------
#if UNDER_ASAN

__global__ void step_outside(float* memory, int index, int where) {
  GPU_SHARED(float, variable, [32]);
  GPU_DYNAMIC_SHARED(bytes);
  float* dynamic = reinterpret_cast<float*>(bytes);
  float* const places[] = {variable, dynamic, memory};
  places[where][index] = 1;
}
class Bounds : public testing::TestWithParam<int> {};
TEST_P(Bounds, AreSeenByAddressSanitizer) {
  DeviceArray<float> memory(32);
  EXPECT_RUNS(run(step_outside, 1, 1, 128, memory.data(), 31, GetParam()));
  EXPECT_DEATH(run(step_outside, 1, 1, 128, memory.data(), 32, GetParam()), "AddressSanitizer");
}
INSTANTIATE_TEST_SUITE_P(OfSharedVariablesDynamicSharedAndDeviceMemory, Bounds, testing::Values(0, 1, 2));

__global__ void copy_from_outside(const float* from) {
  GPU_SHARED(float, tile, [4]);
  copy_async_16(&tile[0], from + 4);
  copy_async_commit();
  copy_async_wait<0>();
}
TEST(Sanitizers, SeeCopiesFromOutside) {
  DeviceArray<float> from(7);
  EXPECT_DEATH(run(copy_from_outside, 1, 1, 0, from.data()), "AddressSanitizer");
}

__global__ void load_vector(const float* from, float* out, int offset) {
  const float4 v = *reinterpret_cast<const float4*>(from + offset);
  out[0] = v.x + v.w;
}
TEST(Sanitizers, SeeMisalignedVectors) {
  DeviceArray<float> from(std::vector<float>(8, 1.0f)), out(1);
  EXPECT_RUNS(run(load_vector, 1, 1, 0, from.data(), out.data(), 4));
  EXPECT_DEATH(run(load_vector, 1, 1, 0, from.data(), out.data(), 1), "misaligned address");
}

#endif
#if UNDER_TSAN

__global__ void exchange(int* out, bool with_barrier) {
  GPU_SHARED(int, values, [64]);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (with_barrier) __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
}
TEST(Sanitizers, SeeRacesBetweenThreads) {
  DeviceArray<int> out(64);
  EXPECT_RUNS(run(exchange, 1, 64, 0, out.data(), true));
  EXPECT_DEATH(run(exchange, 1, 64, 0, out.data(), false), "data race");
}

__global__ void exchange_in_warp(int* out, bool with_barrier) {
  GPU_SHARED(int, values, [32]);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  // A shuffle brings the lanes together, and orders no memory.
  const int one = __shfl_sync(kFullWarp, 1, 0);
  if (with_barrier) __syncwarp();
  out[threadIdx.x] = values[31 - threadIdx.x] * one;
}
TEST(Sanitizers, SeeRacesWithinAWarp) {
  DeviceArray<int> out(32);
  EXPECT_RUNS(run(exchange_in_warp, 1, 32, 0, out.data(), true));
  EXPECT_DEATH(run(exchange_in_warp, 1, 32, 0, out.data(), false), "data race");
}

__global__ void add_up(int* sum, bool atomically) {
  if (atomically) {
    atomicAdd(sum, 1);
  } else {
    *sum += 1;
  }
}
TEST(Sanitizers, SeeRacesBetweenBlocks) {
  DeviceArray<int> sum(std::vector<int>{0});
  EXPECT_RUNS(run(add_up, 4, 1, 0, sum.data(), true));
  EXPECT_EQ(sum[0], 4);
  EXPECT_DEATH(run(add_up, 4, 1, 0, sum.data(), false), "data race");
}
TEST(Sanitizers, SeeTheOrderOfLaunches) {
  DeviceArray<int> sum(std::vector<int>{0});
  for (int k = 0; k < 3; ++k) EXPECT_RUNS(run(add_up, 1, 1, 0, sum.data(), false));
  EXPECT_EQ(sum[0], 3);
}

#endif

}  // namespace
}  // namespace moleblend::cuda
