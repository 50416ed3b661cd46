#pragma once
// Batches on their way to a GPU: laid out in one block of page-locked memory, sent in one copy, beside the computation where the next
// batch is known early.

#include <algorithm>
#include <array>
#include <vector>

#include "engine/model/batch_view.h"
#include "kernels/common/carve.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed_order.h"

namespace moleblend {

template <>
class DeviceBatch<Gpu> {
 public:
  explicit DeviceBatch(Gpu& gpu) : slots_{Slot(gpu), Slot(gpu)} {}

  /// The batch in device memory, valid until the next but one. Whoever calls has waited for the pass before the last.
  BatchView load(Gpu&, const Batch& batch) {
    if (!(ahead_ == &batch && ahead_keys_ == batch.key)) send(batch);
    ahead_ = nullptr;
    return view(batch);
  }
  /// Sends a batch that load() will be called with next, while the device works on the one before.
  void stage(const Batch& batch) {
    send(batch);
    ahead_ = &batch;
    ahead_keys_ = batch.key;
  }

 private:
  struct Slot {
    explicit Slot(Gpu& gpu) : upload(gpu) {}
    GpuUpload upload;
    PackedOrder order;
  };

  /// Where each array lies in a block; with a source, copies it there.
  struct Layout {
    Carver carver;
    bool copies;
    template <class T>
    const T* put(const std::vector<T>& from) {
      T* to = carver.take<T>(static_cast<std::int64_t>(from.size()));
      if (copies) std::copy(from.begin(), from.end(), to);
      return to;
    }
  };
  static BatchView lay_out(Layout& layout, const Batch& batch, const PackedOrder& order) {
    BatchView v{};
    v.packed = batch.packed();
    v.packed.atom_offset = layout.put(batch.atom_offset);
    v.packed.pair_offset = layout.put(batch.pair_offset);
    v.packed.token_pair_offset = layout.put(batch.token_pair_offset);
    v.packed.token_molecule = layout.put(order.token_molecule);
    v.packed.by_size = layout.put(order.by_size);
    v.packed.beyond_16 = order.beyond_16;
    v.packed.beyond_24 = order.beyond_24;
    v.packed.beyond_32 = order.beyond_32;
    v.packed.beyond_64 = order.beyond_64;
    v.packed.beyond_128 = order.beyond_128;
    v.key = layout.put(batch.key);
    v.has_positions = layout.put(batch.has_positions);
    v.atom_codes = layout.put(batch.atom_codes);
    v.degree = layout.put(batch.degree);
    v.positions = layout.put(batch.positions);
    v.position_known = layout.put(batch.position_known);
    v.spd = layout.put(batch.spd);
    v.path = layout.put(batch.path);
    return v;
  }

  void send(const Batch& batch) {
    current_ = 1 - current_;
    Slot& slot = slots_[current_];
    slot.order.build(batch.packed());
    Layout size{Carver(), false};
    lay_out(size, batch, slot.order);
    const std::size_t bytes = size.carver.bytes();
    Layout host{Carver(slot.upload.host(bytes)), true};
    lay_out(host, batch, slot.order);
    slot.upload.send(bytes);
  }
  BatchView view(const Batch& batch) {
    Slot& slot = slots_[current_];
    Layout device{Carver(slot.upload.receive()), false};
    return lay_out(device, batch, slot.order);
  }

  std::array<Slot, 2> slots_;
  std::size_t current_ = 0;
  const Batch* ahead_ = nullptr;
  std::vector<std::uint64_t> ahead_keys_;
};

}  // namespace moleblend
