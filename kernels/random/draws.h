#pragma once
// The random draws of one training step: which modality a pair and an atom show, and the noise on positions.

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"

namespace moleblend {

/// Probabilities of the blend; each group sums to 1.
struct Blend {
  double pair_spd = 0.2, pair_edge = 0.2, pair_distance = 0.6;
  double atom_2d = 0.4, atom_3d = 0.6;
};

/// pair_visible [P], atom_visible [N]: one bit each (PairVisible, AtomVisible), drawn from (molecule_key, i · n + j) and
/// (molecule_key, i). A molecule without positions shows SPD + edge on every pair and the degree on every atom.
struct DrawModalities {
  Packed packed;
  const std::uint64_t* molecule_key;  // [B]
  const std::uint8_t* has_positions;  // [B]
  Blend blend;
  std::uint8_t* pair_visible;  // [P], or null
  std::uint8_t* atom_visible;  // [N], or null
};
void draw_modalities(Cpu& cpu, const DrawModalities& a);
void draw_modalities(Gpu& gpu, const DrawModalities& a);

/// noise [N, 3] = scale · standard normal from (molecule_key, 3 · i + axis); zero for atoms whose position is not known.
/// Box-Muller in double with explicit fma only, so that CPU and CUDA agree bit for bit.
struct DrawNoise {
  Packed packed;
  const std::uint64_t* molecule_key;   // [B]
  const std::uint8_t* has_positions;   // [B]
  const std::uint8_t* position_known;  // [N], or null: all known
  float scale;                         // ångström
  float* noise;                        // [N, 3]
};
void draw_noise(Cpu& cpu, const DrawNoise& a);
void draw_noise(Gpu& gpu, const DrawNoise& a);

/// What is visible outside of pretraining: everything that a molecule has and that is asked for. A molecule without positions shows its
/// graph (SPD, edge, degree) whatever is asked.
struct ShowRelations {
  Packed packed;
  const std::uint8_t* has_positions;  // [B]
  bool graph, distance;
  std::uint8_t* pair_visible;  // [P]
  std::uint8_t* atom_visible;  // [N]
};
void show_relations(Cpu& cpu, const ShowRelations& a);
void show_relations(Gpu& gpu, const ShowRelations& a);

/// noised [count] = positions + noise, in T (float; also double on the CPU); a null noise adds nothing.
template <class T>
void add_noise(Cpu& cpu, std::int64_t count, const float* positions, const float* noise, T* noised);
template <class T>
void add_noise(Gpu& gpu, std::int64_t count, const float* positions, const float* noise, T* noised);

}  // namespace moleblend
