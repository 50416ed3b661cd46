// mutants --list      every mutation, and which detectors are known to catch it
// mutants MUTATION    runs its kernel and compares with a plain computation; exit status 1 where the values or the launch are wrong.
//                     A sanitizer ends the program with a status of its own.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/cuda_on_cpu/mutants/sample_kernels.h"

namespace moleblend::mutants {
namespace {

std::mt19937 generator(7);

std::vector<float> random_floats(std::size_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& x : values) x = normal(generator);
  return values;
}
std::vector<std::uint8_t> random_keys(std::size_t count, int below) {
  std::vector<std::uint8_t> keys(count);
  for (std::uint8_t& k : keys) k = static_cast<std::uint8_t>(generator() % static_cast<unsigned>(below));
  return keys;
}

/// A copy in device memory, exactly as large, so that AddressSanitizer sees steps outside. It lives as long as the program.
template <class T>
T* on_device(const std::vector<T>& values) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, values.size() * sizeof(T)) != cudaSuccess) throw std::bad_alloc();
  cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  return static_cast<T*>(memory);
}

/// Sums of at most 300 products of order 1 in float: off by 300 · 2⁻²⁴ · 10 ≈ 2e-4 at most.
bool close(const float* values, const std::vector<double>& truth, const char* what) {
  for (std::size_t i = 0; i < truth.size(); ++i) {
    if (!(std::abs(values[i] - truth[i]) <= 2e-4 * (1 + std::abs(truth[i])))) {
      std::printf("%s: wrong values: [%zu] is %g, not %g\n", what, i, values[i], truth[i]);
      return false;
    }
  }
  return true;
}
bool launched(cudaError_t error, const char* what) {
  if (error != cudaSuccess) std::printf("%s: %s\n", what, cudaGetErrorString(error));
  return error == cudaSuccess;
}

bool check_attend() {
  constexpr int n = 75, relations = 17;  // two full tiles and a tail; the last block's rows end early
  const auto q = random_floats(n * kWidth), k = random_floats(n * kWidth), v = random_floats(n * kWidth);
  const auto table = random_floats(relations);
  const auto relation = random_keys(n * n, relations);
  float* out = on_device(std::vector<float>(n * kWidth, NAN));
  if (!launched(
          attend({on_device(q), on_device(k), on_device(v), on_device(relation), on_device(table), out, n, relations}),
          "attend"))
    return false;
  std::vector<double> truth(n * kWidth);
  for (int i = 0; i < n; ++i) {
    double total = 0;
    for (int j = 0; j < n; ++j) {
      double score = table[relation[i * n + j]];
      for (int c = 0; c < kWidth; ++c) score += double{q[i * kWidth + c]} * k[j * kWidth + c];
      const double share = std::exp(score);
      total += share;
      for (int c = 0; c < kWidth; ++c) truth[i * kWidth + c] += share * v[j * kWidth + c];
    }
    for (int c = 0; c < kWidth; ++c) truth[i * kWidth + c] /= total;
  }
  return close(out, truth, "attend");
}

bool check_multiply() {
  constexpr int m = 64, k = 16 * 5, columns = 16;
  std::vector<bf16> a, b;
  for (float x : random_floats(m * k)) a.push_back(to_bf16(x));
  for (float x : random_floats(k * columns)) b.push_back(to_bf16(x));
  float* c = on_device(std::vector<float>(m * columns, NAN));
  if (!launched(multiply(on_device(a), on_device(b), c, m, k), "multiply")) return false;
  std::vector<double> truth(m * columns);
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < columns; ++j) {
      for (int l = 0; l < k; ++l)
        truth[i * columns + j] += double{to_float(a[i * k + l])} * to_float(b[l * columns + j]);
    }
  }
  return close(c, truth, "multiply");
}

bool check_normalise() {
  constexpr int rows = 3, columns = 300;
  const auto x = random_floats(rows * columns);
  float* y = on_device(std::vector<float>(rows * columns, NAN));
  if (!launched(normalise(on_device(x), y, rows, columns), "normalise")) return false;
  std::vector<double> truth(rows * columns);
  for (int r = 0; r < rows; ++r) {
    double mean = 0, squares = 0;
    for (int c = 0; c < columns; ++c) mean += x[r * columns + c] / columns;
    for (int c = 0; c < columns; ++c) squares += std::pow(x[r * columns + c] - mean, 2) / columns;
    for (int c = 0; c < columns; ++c) truth[r * columns + c] = (x[r * columns + c] - mean) / std::sqrt(squares);
  }
  return close(y, truth, "normalise");
}

bool check_histogram() {
  constexpr int count = 1000, bins = 9;
  const auto key = random_keys(count, bins);
  const auto value = random_floats(count);
  float* sums = on_device(std::vector<float>(bins, 1.0f));
  if (!launched(histogram(on_device(key), on_device(value), sums, count, bins), "histogram")) return false;
  std::vector<double> truth(bins, 1.0);
  for (int i = 0; i < count; ++i) truth[key[i]] += value[i];
  return close(sums, truth, "histogram");
}

// Detectors: `order`, wrong values or an error of the executor in at least one of the orders of threads; `asan`, AddressSanitizer or
// UndefinedBehaviorSanitizer; `tsan`, ThreadSanitizer.
struct Entry {
  Mutation mutation;
  const char* name;
  const char* caught_by;
  bool (*check)();
};
const Entry kEntries[] = {
    {Mutation::no_barrier_before_refill, "no_barrier_before_refill", "order,tsan", check_attend},
    {Mutation::no_barrier_after_fill, "no_barrier_after_fill", "order,tsan", check_attend},
    {Mutation::forgotten_tail, "forgotten_tail", "asan", check_attend},
    {Mutation::divergent_shuffle, "divergent_shuffle", "order", check_attend},
    {Mutation::no_syncwarp, "no_syncwarp", "order,tsan", check_attend},
    {Mutation::too_little_shared, "too_little_shared", "asan", check_attend},
    {Mutation::waits_for_too_few_copies, "waits_for_too_few_copies", "order", check_multiply},
    {Mutation::no_barrier_before_async_refill, "no_barrier_before_async_refill", "order,tsan", check_multiply},
    {Mutation::misaligned_rows, "misaligned_rows", "order", check_multiply},
    {Mutation::static_shared_out_of_bounds, "static_shared_out_of_bounds", "asan", check_normalise},
    {Mutation::no_barrier_after_partial_sums, "no_barrier_after_partial_sums", "order,tsan", check_normalise},
    {Mutation::reads_absent_partial_sums, "reads_absent_partial_sums", "order", check_normalise},
    {Mutation::divergent_barrier, "divergent_barrier", "order", check_normalise},
    {Mutation::shared_sum_not_atomic, "shared_sum_not_atomic", "tsan", check_histogram},
    {Mutation::device_sum_not_atomic, "device_sum_not_atomic", "tsan", check_histogram},
};

int run(const std::string& argument) {
  if (argument == "--list") {
    for (const Entry& entry : kEntries) std::printf("%s %s\n", entry.name, entry.caught_by);
    return 0;
  }
  if (argument == "none") {
    bool right = true;
    for (const auto check : {check_attend, check_multiply, check_normalise, check_histogram}) right = check() && right;
    return right ? 0 : 1;
  }
  for (const Entry& entry : kEntries) {
    if (argument != entry.name) continue;
    mutation = entry.mutation;
    return entry.check() ? 0 : 1;
  }
  std::fprintf(stderr, "there is no mutation %s\n", argument.c_str());
  return 2;
}

}  // namespace
}  // namespace moleblend::mutants

int main(int count, char** arguments) {
  return moleblend::mutants::run(count == 2 ? arguments[1] : "");
}
