#include "tests/cuda/device.h"

#include <cuda_runtime.h>

#include <limits>

#include "kernels/common/packed_order.h"

namespace moleblend::testing {

void CudaTest::SetUp() {
  gpu_ = std::make_unique<Gpu>();
}

template <class T>
void* DeviceVector<T>::allocate(std::size_t bytes) {
  void* p = nullptr;
  if (cudaMalloc(&p, std::max<std::size_t>(bytes, 1)) != cudaSuccess) throw std::bad_alloc();
  return p;
}
template <class T>
void DeviceVector<T>::release(void* p) {
  cudaFree(p);
}
template class DeviceVector<float>;
template class DeviceVector<double>;
template class DeviceVector<bf16>;
template class DeviceVector<std::uint8_t>;
template class DeviceVector<std::uint16_t>;
template class DeviceVector<std::uint32_t>;
template class DeviceVector<std::uint64_t>;
template class DeviceVector<std::int32_t>;
template class DeviceVector<std::int64_t>;

namespace {
template <class T>
std::vector<T> copy_of(const T* begin, std::int64_t count) {
  return {begin, begin + count};
}
}  // namespace

DevicePacked::DevicePacked(Gpu& gpu, const Packed& host)
    : atom_(gpu, copy_of(host.atom_offset, host.molecules + 1)),
      pair_(gpu, copy_of(host.pair_offset, host.molecules + 1)),
      token_pair_(gpu, copy_of(host.token_pair_offset, host.molecules + 1)),
      token_molecule_(gpu, static_cast<std::size_t>(host.tokens())),
      by_size_(gpu, static_cast<std::size_t>(host.molecules)),
      packed_(host) {
  PackedOrder order;
  order.build(host);
  gpu.upload(token_molecule_.data(), order.token_molecule.data(), host.tokens());
  gpu.upload(by_size_.data(), order.by_size.data(), host.molecules);
  packed_.atom_offset = atom_.data();
  packed_.pair_offset = pair_.data();
  packed_.token_pair_offset = token_pair_.data();
  packed_.token_molecule = token_molecule_.data();
  packed_.by_size = by_size_.data();
  packed_.beyond_16 = order.beyond_16;
  packed_.beyond_24 = order.beyond_24;
  packed_.beyond_32 = order.beyond_32;
  packed_.beyond_64 = order.beyond_64;
  packed_.beyond_128 = order.beyond_128;
}

double rms_difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k) sum += (a[k] - b[k]) * (a[k] - b[k]);
  return a.empty() ? 0 : std::sqrt(sum / static_cast<double>(a.size()));
}

void expect_within_plain_bf16(const std::vector<double>& ours, const std::vector<double>& plain,
                              const std::vector<double>& truth, double factor, const char* what) {
  ASSERT_EQ(ours.size(), truth.size()) << what;
  ASSERT_EQ(plain.size(), truth.size()) << what;
  const double error = rms_difference(ours, truth), allowed = factor * rms_difference(plain, truth);
  EXPECT_GT(allowed, 0) << what << ": the plain version makes no error, so that it is no measure";
  EXPECT_TRUE(error <= allowed) << what << ": rms error " << error << ", allowed " << allowed;
  double worst_plain = 0;
  for (std::size_t k = 0; k < truth.size(); ++k) worst_plain = std::max(worst_plain, std::abs(plain[k] - truth[k]));
  for (std::size_t k = 0; k < truth.size(); ++k) {
    const double one = std::abs(ours[k] - truth[k]);
    if (!(one <= 8 * factor * worst_plain)) {
      ADD_FAILURE() << what << "[" << k << "]: " << ours[k] << " against " << truth[k]
                    << ", plain bf16 is off by at most " << worst_plain;
      return;
    }
  }
}

}  // namespace moleblend::testing
