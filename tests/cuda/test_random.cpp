// Draws of a step on the GPU: the bits of the CPU.

#include <initializer_list>

#include "kernels/random/draws.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

class RandomCuda : public CudaTest {};

struct Molecules {
  PackedSizes sizes;
  std::vector<std::uint64_t> key;
  std::vector<std::uint8_t> has_positions, position_known;

  explicit Molecules(std::initializer_list<int> atoms) : sizes(atoms) {
    for (std::size_t b = 0; b < atoms.size(); ++b) {
      key.push_back(0x9E3779B97F4A7C15u * (b + 1));
      has_positions.push_back(b % 4 != 3);
    }
    for (std::int64_t i = 0; i < sizes.packed().atoms(); ++i) position_known.push_back(i % 7 != 4);
  }
  Packed packed() const { return sizes.packed(); }
};
// A row of pairs shorter than a warp, as long, longer, and of several warps; one molecule without positions.
const std::initializer_list<int> kSizes = {1, 2, 31, 32, 33, 15, 70, 3, 150, 1};

std::size_t size(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

TEST_F(RandomCuda, ModalitiesAreThoseOfTheCpu) {
  const Molecules m(kSizes);
  const Packed host = m.packed();
  const Blend blend{.pair_spd = 0.3, .pair_edge = 0.1, .pair_distance = 0.6, .atom_2d = 0.7, .atom_3d = 0.3};
  Cpu cpu(1);
  std::vector<std::uint8_t> pairs(size(host.pairs())), atoms(size(host.atoms()));
  draw_modalities(cpu, {host, m.key.data(), m.has_positions.data(), blend, pairs.data(), atoms.data()});

  const DevicePacked packed(gpu(), host);
  const DeviceVector key(gpu(), m.key);
  const DeviceVector has_positions(gpu(), m.has_positions);
  for (const bool want_pairs : {true, false}) {
    for (const bool want_atoms : {true, false}) {
      const DeviceVector ours_pairs(gpu(), std::vector<std::uint8_t>(pairs.size(), 99)),
          ours_atoms(gpu(), std::vector<std::uint8_t>(atoms.size(), 99));
      draw_modalities(gpu(), {packed.packed(), key.data(), has_positions.data(), blend,
                              want_pairs ? ours_pairs.data() : nullptr, want_atoms ? ours_atoms.data() : nullptr});
      EXPECT_EQ(ours_pairs.host(), want_pairs ? pairs : std::vector<std::uint8_t>(pairs.size(), 99));
      EXPECT_EQ(ours_atoms.host(), want_atoms ? atoms : std::vector<std::uint8_t>(atoms.size(), 99));
    }
  }
}

TEST_F(RandomCuda, NoiseHasTheBitsOfTheCpu) {
  // A thousand atoms more, so that a difference in the last bit, which most rounding to float hides, meets many chances to show.
  const Molecules m({1, 2, 31, 32, 33, 15, 70, 3, 1000, 1});
  const Packed host = m.packed();
  Cpu cpu(1);
  const DevicePacked packed(gpu(), host);
  const DeviceVector key(gpu(), m.key);
  const DeviceVector has_positions(gpu(), m.has_positions), known(gpu(), m.position_known);
  for (const bool all_known : {false, true}) {
    // A scale that is no power of two: the product with it rounds.
    const float scale = 0.3f;
    std::vector<float> expected(size(3 * host.atoms()), std::nanf(""));
    draw_noise(cpu, {host, m.key.data(), m.has_positions.data(), all_known ? nullptr : m.position_known.data(), scale,
                     expected.data()});
    const DeviceVector<float> noise(gpu(), expected.size());
    draw_noise(gpu(), {packed.packed(), key.data(), has_positions.data(), all_known ? nullptr : known.data(), scale,
                       noise.data()});
    const auto ours = noise.host();
    for (std::size_t k = 0; k < ours.size(); ++k) ASSERT_EQ(ours[k], expected[k]) << k;
  }
}

TEST_F(RandomCuda, ShownRelationsAreThoseOfTheCpu) {
  const Molecules m(kSizes);
  const Packed host = m.packed();
  Cpu cpu(1);
  const DevicePacked packed(gpu(), host);
  const DeviceVector has_positions(gpu(), m.has_positions);
  for (const bool graph : {true, false}) {
    for (const bool distance : {true, false}) {
      std::vector<std::uint8_t> pairs(size(host.pairs())), atoms(size(host.atoms()));
      show_relations(cpu, {host, m.has_positions.data(), graph, distance, pairs.data(), atoms.data()});
      const DeviceVector<std::uint8_t> ours_pairs(gpu(), pairs.size()), ours_atoms(gpu(), atoms.size());
      show_relations(gpu(),
                     {packed.packed(), has_positions.data(), graph, distance, ours_pairs.data(), ours_atoms.data()});
      EXPECT_EQ(ours_pairs.host(), pairs);
      EXPECT_EQ(ours_atoms.host(), atoms);
    }
  }
}

TEST_F(RandomCuda, NoisedPositionsAreOneSum) {
  for (const std::size_t count : {0u, 1u, 255u, 256u, 1003u}) {
    const auto positions = as<float>(random_values(count, 1)), noise = as<float>(random_values(count, 2));
    const DeviceVector device_positions(gpu(), positions), device_noise(gpu(), noise);
    const DeviceVector<float> noised(gpu(), count);
    add_noise(gpu(), std::int64_t(count), device_positions.data(), device_noise.data(), noised.data());
    auto expected = positions;
    for (std::size_t k = 0; k < count; ++k) expected[k] += noise[k];
    EXPECT_EQ(noised.host(), expected);
    add_noise(gpu(), std::int64_t(count), device_positions.data(), nullptr, noised.data());
    EXPECT_EQ(noised.host(), positions);
  }
}

TEST_F(RandomCuda, EmptyBatchDrawsNothing) {
  const Molecules m(std::initializer_list<int>{});
  const DevicePacked packed(gpu(), m.packed());
  draw_modalities(gpu(), {packed.packed(), nullptr, nullptr, Blend{}, nullptr, nullptr});
  draw_noise(gpu(), {packed.packed(), nullptr, nullptr, nullptr, 1, nullptr});
  show_relations(gpu(), {packed.packed(), nullptr, true, true, nullptr, nullptr});
  EXPECT_NO_THROW(gpu().wait());
}

}  // namespace
}  // namespace moleblend::testing
