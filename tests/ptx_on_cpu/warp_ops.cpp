// What the lanes of a warp do together, and those that are not there: shuffles, votes, matches, reductions.

#include "decoder.h"

namespace ptx_on_cpu {
namespace {

using Words = std::array<std::uint32_t, kLanes>;

/// Calls f(lanes) for each team: lanes of the mask that named the same companions.
template <class F>
void each_team(Warp& w, const Instruction& in, F&& f) {
  const auto* members = w.at<Mask>(in.members);
  for (Mask rest = w.mask; rest;) {
    const int first = std::countr_zero(rest);
    const Mask team = rest & members[first];
    f(team);
    rest &= ~team;
  }
}

enum ShuffleHow : std::uint8_t { kUp, kDown, kButterfly, kIndex };

template <ShuffleHow How>
void shuffle(Warp& w, const Instruction& in) {
  const auto* a = w.at<std::uint32_t>(in.operand[2]);
  const auto* b = w.at<std::uint32_t>(in.operand[3]);
  const auto* c = w.at<std::uint32_t>(in.operand[4]);
  const auto* members = w.at<Mask>(in.members);
  Words result{};
  Mask in_range = 0;
  each_lane(w.mask, [&](int l) {
    const int distance = static_cast<int>(b[l] & 31), clamp = static_cast<int>(c[l] & 31);
    const int segment = static_cast<int>(c[l] >> 8 & 31);
    const int most = (l & segment) | (clamp & ~segment & 31), least = l & segment;
    int from = 0;
    bool there = false;
    if (How == kUp) {
      from = l - distance;
      there = from >= most;
    } else {
      from = How == kDown ? l + distance : How == kButterfly ? l ^ distance : least | (distance & ~segment & 31);
      there = from <= most;
    }
    if (there)
      in_range |= 1u << l;
    else
      from = l;
    if (!((w.mask & members[l]) >> from & 1u))
      w.fail("a shuffle from lane " + std::to_string(from) + ", which does not take part", l);
    result[static_cast<std::size_t>(l)] = a[from];
  });
  auto* to = w.at<std::uint32_t>(in.operand[0]);
  each_lane(w.mask, [&](int l) { to[l] = result[static_cast<std::size_t>(l)]; });
  if (in.operand[1] != kNoOperand) w.set_predicate(in.operand[1], in_range);
}

void together(Decoder& d, std::size_t members) {
  d.out.flow = Flow::together;
  d.out.members = d.source(members, Type::b32);
  d.out.kind = Class::warp_wide;
}

bool shfl(Decoder& d) {
  if (!d.take("sync") || !d.take("b32")) d.refuse("shfl.sync….b32?");
  if (d.operands() != 5) d.refuse("another number of operands");
  const std::string_view to = d.operand(0);
  const std::size_t bar = to.find('|');
  d.out.operand = {d.target(trimmed(to.substr(0, bar)), Type::b32),
                   bar == std::string_view::npos ? kNoOperand : d.target(trimmed(to.substr(bar + 1)), Type::pred),
                   d.source(1, Type::b32), d.source(2, Type::b32), d.source(3, Type::b32)};
  together(d, 4);
  d.out.run = d.take("up")     ? &shuffle<kUp>
              : d.take("down") ? &shuffle<kDown>
              : d.take("bfly") ? &shuffle<kButterfly>
              : d.take("idx")  ? &shuffle<kIndex>
                               : nullptr;
  return true;
}

void ballot(Warp& w, const Instruction& in) {
  auto* to = w.at<Mask>(in.operand[0]);
  const Mask p = w.predicate(in.operand[1]);
  Words result{};
  each_team(w, in, [&](Mask team) { each_lane(team, [&](int l) { result[static_cast<std::size_t>(l)] = p & team; }); });
  each_lane(w.mask, [&](int l) { to[l] = result[static_cast<std::size_t>(l)]; });
}

enum VoteHow : std::uint8_t { kAll, kAny, kUniform };

void vote_predicate(Warp& w, const Instruction& in) {
  const Mask p = w.predicate(in.operand[1]);
  Mask result = 0;
  each_team(w, in, [&](Mask team) {
    const Mask held = p & team;
    const bool all = held == team, none = held == 0;
    if (in.detail == kAll ? all : in.detail == kAny ? !none : all || none) result |= team;
  });
  w.set_predicate(in.operand[0], result);
}

bool vote(Decoder& d) {
  if (!d.take("sync")) d.refuse("vote.sync?");
  if (d.operands() != 3) d.refuse("another number of operands");
  together(d, 2);
  d.out.operand[1] = d.source(1, Type::pred);
  if (d.take("ballot")) {
    if (!d.take("b32")) d.refuse("vote.sync.ballot.b32?");
    d.out.operand[0] = d.target(0, Type::b32);
    d.out.run = &ballot;
    return true;
  }
  d.out.detail = d.take("all") ? kAll : d.take("any") ? kAny : kUniform;
  if (d.out.detail == kUniform && !d.take("uni")) d.refuse("no vote");
  if (!d.take("pred")) d.refuse("vote.sync….pred?");
  d.out.operand[0] = d.target(0, Type::pred);
  d.out.run = &vote_predicate;
  return true;
}

template <class T>
void match_any(Warp& w, const Instruction& in) {
  const T* a = w.at<T>(in.operand[1]);
  Words result{};
  each_team(w, in, [&](Mask team) {
    each_lane(team, [&](int l) {
      each_lane(team, [&](int other) {
        if (a[other] == a[l]) result[static_cast<std::size_t>(l)] |= 1u << other;
      });
    });
  });
  auto* to = w.at<std::uint32_t>(in.operand[0]);
  each_lane(w.mask, [&](int l) { to[l] = result[static_cast<std::size_t>(l)]; });
}

bool match(Decoder& d) {
  if (!d.take("any") || !d.take("sync")) d.refuse("match.any.sync?");
  const Type type = d.take_last_type();
  if (d.operands() != 3) d.refuse("another number of operands");
  d.out.operand = {d.target(0, Type::b32), d.source(1, type)};
  together(d, 2);
  d.out.run = bytes_of(type) == 4   ? &match_any<std::uint32_t>
              : bytes_of(type) == 8 ? &match_any<std::uint64_t>
                                    : nullptr;
  return true;
}

enum ReduceHow : std::uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor };

template <class T>
void reduce(Warp& w, const Instruction& in) {
  const T* a = w.at<T>(in.operand[1]);
  Words result{};
  each_team(w, in, [&](Mask team) {
    T sum = a[std::countr_zero(team)];
    each_lane(team & (team - 1), [&](int l) {
      const T x = a[l];
      switch (in.detail) {
        case kAdd:
          sum = static_cast<T>(static_cast<std::uint32_t>(sum) + static_cast<std::uint32_t>(x));
          break;
        case kMin:
          sum = x < sum ? x : sum;
          break;
        case kMax:
          sum = x > sum ? x : sum;
          break;
        case kAnd:
          sum &= x;
          break;
        case kOr:
          sum |= x;
          break;
        default:
          sum ^= x;
      }
    });
    each_lane(team, [&](int l) { result[static_cast<std::size_t>(l)] = static_cast<std::uint32_t>(sum); });
  });
  auto* to = w.at<std::uint32_t>(in.operand[0]);
  each_lane(w.mask, [&](int l) { to[l] = result[static_cast<std::size_t>(l)]; });
}

bool redux(Decoder& d) {
  static constexpr std::pair<const char*, ReduceHow> kHow[] = {{"add", kAdd}, {"min", kMin}, {"max", kMax},
                                                               {"and", kAnd}, {"or", kOr},   {"xor", kXor}};
  if (!d.take("sync")) d.refuse("redux.sync?");
  const Type type = d.take_last_type();
  const ReduceHow* how = nullptr;
  for (const auto& [name, value] : kHow)
    if (!how && d.take(name)) how = &value;
  if (!how || bytes_of(type) != 4 || type == Type::f32) d.refuse("no such reduction");
  if (d.operands() != 3) d.refuse("another number of operands");
  d.out.detail = *how;
  d.out.operand = {d.target(0, Type::b32), d.source(1, Type::b32)};
  together(d, 2);
  d.out.run = is_signed(type) ? &reduce<std::int32_t> : &reduce<std::uint32_t>;
  return true;
}

void active_lanes(Warp& w, const Instruction& in) {
  auto* to = w.at<Mask>(in.operand[0]);
  each_lane(w.mask, [&](int l) { to[l] = w.mask; });
}
bool activemask(Decoder& d) {
  if (!d.take("b32")) d.refuse("activemask.b32?");
  d.out.operand = {d.target(0, Type::b32)};
  d.out.kind = Class::warp_wide;
  d.out.run = &active_lanes;
  return true;
}

}  // namespace

Opcodes warp_opcodes() {
  return {{"shfl", shfl}, {"vote", vote}, {"match", match}, {"redux", redux}, {"activemask", activemask}};
}

}  // namespace ptx_on_cpu
