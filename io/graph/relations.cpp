#include "io/graph/relations.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "io/support/error.h"
#ifdef __SSSE3__
#include <immintrin.h>
#endif

// Floyd–Warshall's choice among shortest paths, without its pivot table
//
// In the specified rule, pair (i, j) ends with the pivot k at which its distance was last improved. Since pivots
// ascend, k is the smallest possible highest-numbered inner atom over all shortest paths from i to j, and path(i, j) =
// path(i, k) + path(k, j).
//
// (a) When (i, j) gets its final pivot k, the distances of (i, k) and (k, j) are final, because a prefix of a shortest
// path is one.
//     So the first atom after i, next(i, j) = next(i, k), can be kept instead of the pivot, updated at each
//     improvement.
// (b) path(i, j) = i, then path(v, j) with v = next(i, j). For v ≠ k: v < k, and were there a shortest path from v to j
// whose
//     highest inner atom is below k, then i + that path would beat k for (i, j); so the pivot of (v, j) is k as well,
//     and the claim follows by induction on path(i, k). So a path is walked with `next` alone, and stopping after five
//     hops is free.
// (c) An atom with one neighbour is inner to no shortest path and need not be a pivot.
// (d) By (b), hop h of path(i, j) is hop h − 1 of path(next(i, j), j). So for all i at once, the row of first hops to j, looked up at
//     next(·, j), gives the row of second hops, and so on: five hops are four table look-ups of bytes in registers.

namespace moleblend {
namespace {

constexpr std::uint8_t kFar = 127;   // unreached; sums of two stay below 256
constexpr std::size_t kSmall = 127;  // the longest distance among so many atoms is 126 < kFar
constexpr std::size_t kMostAtoms = 65535;

typedef std::uint8_t Bytes16 __attribute__((vector_size(16)));
typedef std::uint8_t Bytes32 __attribute__((vector_size(32)));
typedef std::uint16_t Words8 __attribute__((vector_size(16)));
typedef std::uint32_t Words4 __attribute__((vector_size(16)));

template <class V>
V load(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
void store(void* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

/// table[index] for each byte of `index`; 0 where its top bit is set. Others are below 16 in their low four bits.
Bytes16 look_up(Bytes16 table, Bytes16 index) {
#ifdef __SSSE3__
  return reinterpret_cast<Bytes16>(
      _mm_shuffle_epi8(reinterpret_cast<__m128i>(table), reinterpret_cast<__m128i>(index)));
#else
  Bytes16 out{};
  for (int k = 0; k < 16; ++k) out[k] = index[k] < 128 ? table[index[k] & 15] : 0;
  return out;
#endif
}

/// The elements of the lower halves (upper: of the upper ones) of a and b in turns.
template <bool upper>
Bytes16 zip(Bytes16 a, Bytes16 b) {
  if constexpr (upper)
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
template <bool upper>
Words8 zip(Words8 a, Words8 b) {
  if constexpr (upper) return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
template <bool upper>
Words4 zip(Words4 a, Words4 b) {
  if constexpr (upper) return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}

/// out[8 i + h] = hop[h][i]; three zeroes after the five hops.
void interleave(const Bytes16 hop[kPathHops], std::uint8_t* out) {
  const auto eight = [&]<bool upper>(std::bool_constant<upper>) {
    const auto first = reinterpret_cast<Words8>(zip<upper>(hop[0], hop[1]));
    const auto second = reinterpret_cast<Words8>(zip<upper>(hop[2], hop[3]));
    const auto third = reinterpret_cast<Words8>(zip<upper>(hop[4], Bytes16{}));
    const auto four = [&]<bool half>(std::bool_constant<half>) {
      const auto begin = reinterpret_cast<Words4>(zip<half>(first, second));
      const auto end = reinterpret_cast<Words4>(zip<half>(third, Words8{}));
      std::uint8_t* to = out + 64 * upper + 32 * half;
      store(to, zip<false>(begin, end));
      store(to + 16, zip<true>(begin, end));
    };
    four(std::false_type());
    four(std::true_type());
  };
  eight(std::false_type());
  eight(std::true_type());
}

/// Says where a bond leads if it leads nowhere.
void check(std::size_t n, const CodedBond& bond) {
  if (bond.begin >= n || bond.end >= n)
    throw Error("a bond joins atoms {} and {} of a molecule with {} atoms; prepare the data set again", bond.begin,
                bond.end, n);
}

/// Floyd–Warshall over bytes, for up to 16 · R atoms, with rows of R registers. Row j of each table has an entry for every atom i: of
/// the path from i to j. So all reads and writes run along rows, and the tables of a drug lie in the first cache.
template <std::size_t R>
class SmallRelations {
 public:
  explicit SmallRelations(std::size_t n) : n_(n) {
    // Every other entry is its own: no hop.
    Bytes16 itself[R];
    for (std::size_t r = 0; r < R; ++r)
      for (std::size_t k = 0; k < 16; ++k) itself[r][k] = static_cast<std::uint8_t>(16 * r + k);
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t r = 0; r < R; ++r) {
        store(distance_[j] + 16 * r, Bytes16{} + kFar);
        store(next_[j] + 16 * r, itself[r]);
        store(first_[j] + 16 * r, Bytes16{});
      }
      distance_[j][j] = 0;
    }
  }

  void read_bonds(std::span<const CodedBond> bonds, std::uint16_t* degree) {
    std::fill_n(degree, n_, std::uint16_t{0});
    for (const CodedBond& bond : bonds) {
      check(n_, bond);
      const std::size_t a = bond.begin, b = bond.end;
      if (a == b) continue;
      if (first_[a][b] == 0) {
        ++degree[a];
        ++degree[b];
        distance_[a][b] = distance_[b][a] = 1;
        next_[a][b] = static_cast<std::uint8_t>(a);
        next_[b][a] = static_cast<std::uint8_t>(b);
      }
      first_[a][b] = first_[b][a] = bond.code;
    }
  }

  void find_paths(const std::uint16_t* degree) {
    // Whole rows at a time: in registers of 32 bytes where that comes out even.
    using V = std::conditional_t<R % 2 == 0, Bytes32, Bytes16>;
    constexpr std::size_t vectors = 16 * R / sizeof(V);
    for (std::size_t k = 0; k < n_; ++k) {
      if (degree[k] < 2) continue;
      V from[vectors], next[vectors], first[vectors];
      for (std::size_t v = 0; v < vectors; ++v) {
        from[v] = load<V>(distance_[k] + v * sizeof(V));
        next[v] = load<V>(next_[k] + v * sizeof(V));
        first[v] = load<V>(first_[k] + v * sizeof(V));
      }
      for (std::size_t j = 0; j < n_; ++j) {
        const std::uint8_t onward = distance_[j][k];
        if (onward == kFar || j == k) continue;
        for (std::size_t v = 0; v < vectors; ++v) {
          std::uint8_t *d = distance_[j] + v * sizeof(V), *s = next_[j] + v * sizeof(V), *f = first_[j] + v * sizeof(V);
          const V before = load<V>(d), through = from[v] + onward, best = before < through ? before : through;
          const auto kept = best == before;
          store(d, best);
          store(s, kept ? load<V>(s) : next[v]);
          store(f, kept ? load<V>(f) : first[v]);
        }
      }
    }
  }

  void write_distances(std::uint16_t* spd) const {
    for (std::size_t i = 0; i < n_; ++i) {  // row i is column i
      std::uint16_t row[16 * R];
      // Whole registers go straight to their place where what is too much is overwritten by the rows after it.
      const bool room = i * n_ + 16 * R <= n_ * n_;
      std::uint16_t* to = room ? spd + i * n_ : row;
      for (std::size_t r = 0; r < R; ++r) {
        const auto d = load<Bytes16>(distance_[i] + 16 * r);
        for (const auto words :
             {reinterpret_cast<Words8>(zip<false>(d, Bytes16{})), reinterpret_cast<Words8>(zip<true>(d, Bytes16{}))}) {
          store(to, words == kFar ? Words8{} + static_cast<std::uint16_t>(kUnreachable) : words);
          to += 8;
        }
      }
      if (!room) std::copy_n(row, n_, spd + i * n_);
    }
  }

  void write_paths(std::uint8_t* path) const {
    for (std::size_t j = 0; j < n_; ++j) {
      // hop[r][h]: the codes of hop h on the paths from the atoms of register r to j. at[r][q]: where in register q their next atoms
      // are; the top bit is set if they are in another one, by an addition that does not overflow.
      Bytes16 hop[R][kPathHops], at[R][R];
      for (std::size_t r = 0; r < R; ++r) {
        hop[r][0] = load<Bytes16>(first_[j] + 16 * r);
        const auto next = load<Bytes16>(next_[j] + 16 * r);
        for (std::size_t q = 0; q < R; ++q) {
          const Bytes16 index = next - static_cast<std::uint8_t>(16 * q), most = Bytes16{} + std::uint8_t{0x8F};
          at[r][q] = (index < most ? index : most) + std::uint8_t{0x70};
        }
      }
      for (std::size_t h = 1; h < kPathHops; ++h) {
        for (std::size_t r = 0; r < R; ++r) {
          Bytes16 codes{};
          for (std::size_t q = 0; q < R; ++q) codes |= look_up(hop[q][h - 1], at[r][q]);
          hop[r][h] = codes;
        }
      }
      std::uint8_t column[8 * 16 * R];
      for (std::size_t r = 0; r < R; ++r) interleave(hop[r], column + 128 * r);
      std::uint8_t* to = path + j * kPathHops;
      const std::size_t row = n_ * kPathHops;
      if (j + 1 < n_) {
        // Eight bytes at once: the three too many are overwritten with column j + 1.
        for (std::size_t i = 0; i < n_; ++i) std::memcpy(to + i * row, column + 8 * i, 8);
      } else {
        for (std::size_t i = 0; i < n_; ++i) std::memcpy(to + i * row, column + 8 * i, kPathHops);
      }
    }
  }

 private:
  std::size_t n_;
  alignas(32) std::uint8_t distance_[16 * R][16 * R];  // hops, kFar for none
  alignas(32) std::uint8_t next_[16 * R][16 * R];      // the first atom after i; i itself where there is no hop
  alignas(32) std::uint8_t first_[16 * R][16 * R];     // the code of the first hop; 0 where there is none
};

template <std::size_t R>
void small_relations(std::size_t n, std::span<const CodedBond> bonds, std::uint16_t* spd, std::uint8_t* path,
                     std::uint16_t* degree, RelationScratch&) {
  SmallRelations<R> all(n);
  all.read_bonds(bonds, degree);
  all.find_paths(degree);
  all.write_distances(spd);
  all.write_paths(path);
}

/// The bond codes of adjacent atoms as a matrix, and the degrees.
void read_bonds(std::size_t n, std::span<const CodedBond> bonds, std::vector<std::uint8_t>& code,
                std::uint16_t* degree) {
  code.assign(n * n, 0);
  std::fill_n(degree, n, std::uint16_t{0});
  for (const CodedBond& bond : bonds) {
    check(n, bond);
    if (bond.begin == bond.end) continue;
    std::uint8_t& forth = code[bond.begin * n + bond.end];
    if (forth == 0) {
      ++degree[bond.begin];
      ++degree[bond.end];
    }
    forth = code[bond.end * n + bond.begin] = bond.code;
  }
}

/// Writes the path codes by walking `next`.
void walk(std::size_t n, const std::uint8_t* code, const std::uint16_t* next, const std::uint16_t* spd,
          std::uint8_t* path) {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      std::uint64_t codes = 0;
      const unsigned distance = *spd++;
      std::size_t at = i;
      const unsigned steps = distance < kUnreachable ? std::min<unsigned>(distance, kPathHops) : 0;
      for (unsigned hop = 0; hop < steps; ++hop) {
        const std::size_t after = next[at * n + j];
        codes |= std::uint64_t{code[at * n + after]} << (8 * hop);
        at = after;
      }
      std::memcpy(path, &codes, kPathHops);
      path += kPathHops;
    }
  }
}

/// A breadth-first search from each atom, O(n · bonds): the pivot of (i, j) is the smallest over the atoms u before j
/// on a shortest path of the larger of u and the pivot of (i, u).
void large_relations(std::size_t n, std::span<const CodedBond> bonds, std::uint16_t* spd, std::uint8_t* path,
                     std::uint16_t* degree, RelationScratch& scratch) {
  read_bonds(n, bonds, scratch.code, degree);
  scratch.first_neighbour.assign(1, 0);
  scratch.neighbour.clear();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      if (scratch.code[i * n + j] != 0) scratch.neighbour.push_back(static_cast<std::uint16_t>(j));
    }
    scratch.first_neighbour.push_back(static_cast<std::uint32_t>(scratch.neighbour.size()));
  }
  scratch.next.resize(n * n);
  std::vector<std::uint16_t>& queue = scratch.queue;
  std::vector<std::int32_t>& pivot = scratch.pivot;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint16_t* distance = spd + i * n;
    std::uint16_t* next = scratch.next.data() + i * n;
    std::fill_n(distance, n, static_cast<std::uint16_t>(kUnreachable));
    pivot.assign(n, std::numeric_limits<std::int32_t>::max());
    distance[i] = 0;
    queue.assign(1, static_cast<std::uint16_t>(i));
    for (std::size_t head = 0; head < queue.size(); ++head) {
      const std::uint16_t u = queue[head];
      const auto hops = static_cast<std::uint16_t>(distance[u] + 1);
      // All atoms before u have left the queue: its pivot is final, and its pivot's `next` is known.
      if (hops == 2) next[u] = u;
      if (hops > 2) next[u] = next[pivot[u]];
      if (hops >= kUnreachable) continue;
      const std::int32_t through_u = u == i ? -1 : std::max<std::int32_t>(hops == 2 ? -1 : pivot[u], u);
      for (std::uint32_t e = scratch.first_neighbour[u]; e < scratch.first_neighbour[u + 1u]; ++e) {
        const std::uint16_t w = scratch.neighbour[e];
        if (distance[w] == kUnreachable) {
          distance[w] = hops;
          queue.push_back(w);
        }
        if (distance[w] == hops) pivot[w] = std::min(pivot[w], through_u);
      }
    }
  }
  walk(n, scratch.code.data(), scratch.next.data(), spd, path);
}

}  // namespace

void relations(std::size_t n, std::span<const CodedBond> bonds, std::uint16_t* spd, std::uint8_t* path,
               std::uint16_t* degree, RelationScratch& scratch) {
  if (n > kMostAtoms)
    throw Error("a molecule has {} atoms, and relations are computed for up to {}; leave it out", n, kMostAtoms);
  const auto compute = n <= 16       ? small_relations<1>
                       : n <= 32     ? small_relations<2>
                       : n <= 48     ? small_relations<3>
                       : n <= 64     ? small_relations<4>
                       : n <= kSmall ? small_relations<8>
                                     : large_relations;
  compute(n, bonds, spd, path, degree, scratch);
}

void relations(std::size_t n, std::span<const Bond> bonds, std::uint16_t* spd, std::uint8_t* path,
               std::uint16_t* degree, RelationScratch& scratch) {
  std::vector<CodedBond>& coded = scratch.view.bonds;
  coded.clear();
  for (const Bond& b : bonds) coded.push_back({b.begin, b.end, bond_code(b.type, b.stereo, b.conjugated)});
  relations(n, std::span<const CodedBond>(coded), spd, path, degree, scratch);
}

}  // namespace moleblend
