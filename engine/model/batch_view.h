#pragma once
// A batch as operations read it: arrays in the memory of a device.

#include "io/loader/batch.h"
#include "kernels/common/cpu.h"

namespace moleblend {

/// The arrays of a Batch that the network reads; shapes as there.
struct BatchView {
  Packed packed;
  const std::uint64_t* key;
  const std::uint8_t* has_positions;
  const std::uint16_t* atom_codes;
  const std::uint16_t* degree;
  const float* positions;
  const std::uint8_t* position_known;
  const std::uint16_t* spd;
  const std::uint8_t* path;
};

/// Brings batches into a device's memory.
template <class Device>
class DeviceBatch;

/// On the CPU they are where they should be.
template <>
class DeviceBatch<Cpu> {
 public:
  explicit DeviceBatch(Cpu&) {}
  void stage(const Batch&) {}
  BatchView load(Cpu&, const Batch& batch) {
    return {.packed = batch.packed(),
            .key = batch.key.data(),
            .has_positions = batch.has_positions.data(),
            .atom_codes = batch.atom_codes.data(),
            .degree = batch.degree.data(),
            .positions = batch.positions.data(),
            .position_known = batch.position_known.data(),
            .spd = batch.spd.data(),
            .path = batch.path.data()};
  }
};

}  // namespace moleblend
