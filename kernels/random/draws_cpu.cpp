#include <algorithm>

#include "kernels/random/draws.h"
#include "kernels/random/modality.h"
#include "kernels/random/normal.h"
#include "kernels/random/philox_blocks.h"

namespace moleblend {
namespace {

/// out[e] = decide(word of element e) for e in [0, count).
template <class Decide>
void draw_elements(std::uint64_t key, Draw purpose, std::int64_t count, const Decide& decide, std::uint8_t* out) {
  constexpr int kWords = 4 * kPhiloxRun;
  std::uint32_t words[kWords];
  for (std::int64_t done = 0; done < count; done += kWords) {
    philox_run(key, static_cast<std::uint32_t>(done / 4), purpose, 0, words);
    const int here = static_cast<int>(std::min<std::int64_t>(kWords, count - done));
    for (int k = 0; k < here; ++k) out[done + k] = decide(words[k]);
  }
}

}  // namespace

void draw_modalities(Cpu& cpu, const DrawModalities& a) {
  const BlendThresholds thresholds = BlendThresholds::of(a.blend);
  cpu.parallel([&](int thread) {
    const auto [begin, end] = cost_part(a.packed.pair_offset, a.packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t n = a.packed.atoms_of(b);
      std::uint8_t* pairs = a.pair_visible ? a.pair_visible + a.packed.pair_offset[b] : nullptr;
      std::uint8_t* atoms = a.atom_visible ? a.atom_visible + a.packed.atom_offset[b] : nullptr;
      if (!a.has_positions[b]) {
        if (pairs) std::fill_n(pairs, n * n, kFlatPair);
        if (atoms) std::fill_n(atoms, n, kFlatAtom);
        continue;
      }
      const auto pair = [&](std::uint32_t word) { return pair_modality(word, thresholds); };
      const auto atom = [&](std::uint32_t word) { return atom_modality(word, thresholds); };
      if (pairs) draw_elements(a.molecule_key[b], Draw::pair_modality, n * n, pair, pairs);
      if (atoms) draw_elements(a.molecule_key[b], Draw::atom_modality, n, atom, atoms);
    }
  });
}

void draw_noise(Cpu& cpu, const DrawNoise& a) {
  cpu.parallel([&](int thread) {
    const auto [begin, end] = cost_part(a.packed.atom_offset, a.packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t first = a.packed.atom_offset[b], n = a.packed.atoms_of(b);
      for (std::int64_t i = 0; i < n; ++i) {
        float* noise = a.noise + 3 * (first + i);
        const bool draws = a.has_positions[b] && (!a.position_known || a.position_known[first + i]);
        for (std::int64_t axis = 0; axis < 3; ++axis) {
          const auto element = static_cast<std::uint64_t>(3 * i + axis);
          noise[axis] =
              draws ? static_cast<float>(double{a.scale} * standard_normal(a.molecule_key[b], Draw::noise, element))
                    : 0.0f;
        }
      }
    }
  });
}

void show_relations(Cpu& cpu, const ShowRelations& a) {
  cpu.parallel([&](int thread) {
    const auto [begin, end] = cost_part(a.packed.pair_offset, a.packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = begin; b < end; ++b) {
      const Visible visible = visible_of(a.graph, a.distance, a.has_positions[b]);
      std::fill(a.pair_visible + a.packed.pair_offset[b], a.pair_visible + a.packed.pair_offset[b + 1], visible.pair);
      std::fill(a.atom_visible + a.packed.atom_offset[b], a.atom_visible + a.packed.atom_offset[b + 1], visible.atom);
    }
  });
}

template <class T>
void add_noise(Cpu& cpu, std::int64_t count, const float* positions, const float* noise, T* noised) {
  cpu.parallel([&](int thread) {
    const Range part = even_part(count, cpu.threads(), thread, 64);
    for (std::int64_t k = part.begin; k < part.end; ++k)
      noised[k] = static_cast<T>(positions[k]) + (noise ? static_cast<T>(noise[k]) : T(0));
  });
}

template void add_noise(Cpu&, std::int64_t, const float*, const float*, float*);
template void add_noise(Cpu&, std::int64_t, const float*, const float*, double*);

}  // namespace moleblend
