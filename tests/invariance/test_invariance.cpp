// What must not change the result: the order of atoms, how the molecule lies in space, what else is in the batch, the
// number of threads.

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/model/cpu_model.h"
#include "tests/kernels/check.h"
#include "tests/model/random_batch.h"

namespace moleblend::testing {
namespace {

std::vector<Molecule> molecules() {
  std::vector<Molecule> m;
  for (std::size_t k = 0; k < 12; ++k) m.push_back(random_molecule(2 + 3 * (k % 5), k + 1, k % 4 != 3));
  return m;
}

template <class T>
CpuModel<T> make(int threads, DistanceTarget target = DistanceTarget::distance) {
  ModelConfig config = ModelConfig::named("tiny");
  config.target = target;
  CpuModel<T> model(config, threads);
  initialise(model, 3, false);
  for (std::size_t k = 0; k < model.values(0).size(); ++k)
    model.values(0)[k] *= T(4);  // away from the near-linear start
  return model;
}

struct Draws {
  std::vector<std::uint8_t> pairs, atoms;
  std::vector<float> noise;
  FixedDraws fixed() const { return {pairs, atoms, noise}; }
};

template <class T>
Draws drawn(const CpuModel<T>& model, const Batch& batch) {
  const auto& s = model.state();
  const Packed p = batch.packed();
  return {{s.pair_visible, s.pair_visible + p.pairs()},
          {s.atom_visible, s.atom_visible + p.atoms()},
          {s.noise, s.noise + 3 * p.atoms()}};
}

/// Final states of molecule b's tokens.
template <class T>
std::vector<T> states(const CpuModel<T>& model, const Batch& batch, std::int64_t b) {
  const Packed p = batch.packed();
  const std::int64_t D = model.config().width;
  const T* x = model.state().layer.back().out + p.token_offset(b) * D;
  return {x, x + (p.atoms_of(b) + 1) * D};
}

/// The same molecule with its atoms in another order: every array permuted, the draws too. (Relations are permuted
/// rather than computed anew, because which of several shortest paths is taken depends on the order, by the method's
/// own rule.)
Batch permuted(const Batch& batch, const std::vector<std::size_t>& order, Draws& draws) {
  Batch out = batch;
  const Draws from = draws;
  const std::size_t n = order.size();
  for (std::size_t i = 0; i < n; ++i) {
    std::copy_n(&batch.atom_codes[9 * order[i]], 9, &out.atom_codes[9 * i]);
    out.degree[i] = batch.degree[order[i]];
    draws.atoms[i] = from.atoms[order[i]];
    for (std::size_t axis = 0; axis < 3; ++axis) {
      out.positions[3 * i + axis] = batch.positions[3 * order[i] + axis];
      draws.noise[3 * i + axis] = from.noise[3 * order[i] + axis];
    }
    for (std::size_t j = 0; j < n; ++j) {
      const std::size_t to = i * n + j, at = order[i] * n + order[j];
      out.spd[to] = batch.spd[at];
      std::copy_n(&batch.path[5 * at], 5, &out.path[5 * to]);
      draws.pairs[to] = from.pairs[at];
    }
  }
  return out;
}

TEST(Invariance, AtomOrder) {
  const Batch batch = batch_of({random_molecule(13, 3)}, {0});
  const Objective objective;
  auto model = make<double>(1);
  const PretrainStep step{.objective = &objective, .counts = count_targets(batch, objective), .dropout = false};
  const PretrainResult expected = model.pretrain(batch, step);
  const std::vector<double> x = states(model, batch, 0);
  Draws draws = drawn(model, batch);

  std::vector<std::size_t> order(13);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(5));
  const Batch other = permuted(batch, order, draws);
  const FixedDraws fixed = draws.fixed();
  PretrainStep other_step = step;
  other_step.draws = &fixed;
  const PretrainResult result = model.pretrain(other, other_step);
  EXPECT_NEAR(result.total, expected.total, 1e-11);
  const std::vector<double> y = states(model, other, 0);
  const auto D = static_cast<std::size_t>(model.config().width);
  for (std::size_t i = 0; i < 13; ++i)
    expect_close<double, double>(std::span(y).subspan((i + 1) * D, D), std::span(x).subspan((order[i] + 1) * D, D),
                                 1e-11, 1, "state");
}

TEST(Invariance, RotationAndTranslation) {
  const Objective objective;
  for (const DistanceTarget target : {DistanceTarget::distance, DistanceTarget::displacement}) {
    const Batch batch = batch_of({random_molecule(11, 2)}, {0});
    auto model = make<double>(1, target);
    // The method has one map an axis for the denoised force, without which it would turn with the molecule: so one map for all three.
    const ParameterLayout::Linear map = model.layout().force;
    const auto D = model.config().width;
    for (const std::int64_t axis : {1, 2}) {
      std::copy_n(model.values(0).begin() + map.weight, D, model.values(0).begin() + map.weight + axis * D);
    }
    std::vector<double> force(3 * 11), turned_force(3 * 11);
    model.probe.denoise_prediction = force.data();
    const PretrainStep step{.objective = &objective, .counts = count_targets(batch, objective), .dropout = false};
    const PretrainResult expected = model.pretrain(batch, step);
    const std::vector<double> x = states(model, batch, 0);
    Draws draws = drawn(model, batch);

    // A rotation by exact arithmetic on floats: axes permuted and a sign changed (determinant 1), then a shift by
    // powers of two.
    const auto turn = [](const float* v, float shift, float* out) {
      out[0] = -v[1] + shift;
      out[1] = v[0] + shift;
      out[2] = v[2] + shift;
    };
    Batch turned = batch;
    Draws turned_draws = draws;
    for (std::size_t i = 0; i < 11; ++i) {
      turn(&batch.positions[3 * i], 0, &turned.positions[3 * i]);
      turn(&draws.noise[3 * i], 0, &turned_draws.noise[3 * i]);
    }
    const FixedDraws fixed = turned_draws.fixed();
    PretrainStep turned_step = step;
    turned_step.draws = &fixed;
    model.probe.denoise_prediction = turned_force.data();
    const PretrainResult result = model.pretrain(turned, turned_step);
    // Distances are the same numbers, so all that depends on them is equal to rounding.
    expect_close<double, double>(states(model, turned, 0), x, 1e-12, 1, "state");
    EXPECT_NEAR(result.denoise, expected.denoise, 1e-12) << "the predicted noise turns with the molecule";
    for (std::size_t i = 0; i < 11; ++i) {
      EXPECT_NEAR(turned_force[3 * i], -force[3 * i + 1], 1e-12);
      EXPECT_NEAR(turned_force[3 * i + 1], force[3 * i], 1e-12);
      EXPECT_NEAR(turned_force[3 * i + 2], force[3 * i + 2], 1e-12);
    }
    if (target == DistanceTarget::distance) {
      EXPECT_NEAR(result.distance, expected.distance, 1e-12);
    } else {
      EXPECT_GT(std::abs(result.distance - expected.distance), 1e-4)
          << "displacements turn with the molecule, their prediction does not";
    }

    // A shift rounds float positions: differences keep about 1e-7 of the 8 Å that were added.
    Batch shifted = batch;
    for (float& v : shifted.positions) v += 8;
    const FixedDraws same = draws.fixed();
    turned_step.draws = &same;
    const PretrainResult moved = model.pretrain(shifted, turned_step);
    EXPECT_NEAR(moved.total, expected.total, 1e-4 * std::abs(expected.total));
    expect_close<double, double>(states(model, shifted, 0), x, 1e-4, 1, "shifted state");
  }
}

TEST(Invariance, BatchComposition) {
  const std::vector<Molecule> all = molecules();
  const Objective objective;
  auto model = make<double>(2);
  // With dropout: each molecule draws its own, whatever is around it.
  const Batch together = batch_of(all, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  const PretrainStep step{.objective = &objective, .counts = count_targets(together, objective), .gradients = false};
  model.pretrain(together, step);
  const Draws draws = drawn(model, together);
  std::vector<std::vector<double>> expected;
  for (std::int64_t b = 0; b < together.molecules(); ++b) expected.push_back(states(model, together, b));
  for (std::uint64_t k = 0; k < all.size(); ++k) {
    const std::uint64_t neighbour = (k + 5) % all.size();
    const Batch pair = batch_of(all, {neighbour, k});
    model.pretrain(pair, step);
    expect_close<double, double>(states(model, pair, 1), expected[k], 1e-12, 1, "state");
    const Draws own = drawn(model, pair);
    const Packed p = pair.packed(), q = together.packed();
    const auto kb = static_cast<std::int64_t>(k);
    EXPECT_TRUE(
        std::equal(own.pairs.begin() + p.pair_offset[1], own.pairs.end(), draws.pairs.begin() + q.pair_offset[kb]));
    EXPECT_TRUE(std::equal(own.noise.begin() + 3 * p.atom_offset[1], own.noise.end(),
                           draws.noise.begin() + 3 * q.atom_offset[kb]));
  }
}

template <class T>
void check_threads(double tolerance) {
  const Batch batch = batch_of(molecules(), {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  const Objective objective;
  const PretrainStep step{.objective = &objective, .counts = count_targets(batch, objective)};
  const auto run = [&](int threads) {
    auto model = make<T>(threads);
    std::vector<double> out;
    for (int update = 1; update <= 3; ++update) {
      model.zero_gradients();
      out.push_back(model.pretrain(batch, step).total);
      out.push_back(model.update({}, 1e-3, update));
    }
    out.insert(out.end(), model.values(0).begin(), model.values(0).end());
    return out;
  };
  for (const int threads : {1, 2, 3}) {
    const std::vector<double> first = run(threads), again = run(threads);
    EXPECT_EQ(first, again) << "the same number of threads gives the same bits: " << threads;
    expect_close<double, double>(first, run(1), tolerance, 1, "another number of threads");
  }
}
TEST(Invariance, ThreadsDouble) {
  check_threads<double>(1e-10);
}
// Three steps of Adam: where a gradient is rounding noise, its sign and so the whole step (1e-3 each) may differ.
TEST(Invariance, ThreadsFloat) {
  check_threads<float>(6e-3);
}

TEST(Invariance, SeedAndEpochChangeTheDraws) {
  const std::vector<Molecule> all = molecules();
  const Objective objective;
  auto model = make<float>(1);
  const Batch one = batch_of(all, {0, 1, 2, 4}, 1), two = batch_of(all, {0, 1, 2, 4}, 2);
  model.pretrain(one, {.objective = &objective, .counts = count_targets(one, objective), .gradients = false});
  const Draws a = drawn(model, one);
  model.pretrain(two, {.objective = &objective, .counts = count_targets(two, objective), .gradients = false});
  const Draws b = drawn(model, two);
  EXPECT_NE(a.pairs, b.pairs);
  EXPECT_NE(a.noise, b.noise);
}

}  // namespace
}  // namespace moleblend::testing
