// Lanes that part and meet, what they do together, barriers, matrices.

#include <bit>

#include "machine_test.h"

namespace ptx_on_cpu::testing {
namespace {

bool says(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

// ---- divergence ---------------------------------------------------------------------------------
TEST(Divergence, LanesGoTheirWaysAndMeetAgain) {
  const std::string body =
      "and.b32 %r2, %r1, 1;\nsetp.eq.s32 %p1, %r2, 0;\n@%p1 bra $even;\nmov.u32 %r0, 100;\nbra.uni $join;\n"
      "$even:\nmov.u32 %r0, 200;\n$join:\nadd.s32 %r0, %r0, %r1;\nmul.lo.s32 %r0, %r0, 2;";
  clear_counts();
  const auto values = words(body);
  for (std::size_t l = 0; l < 32; ++l) EXPECT_EQ(values[l], 2 * (l + (l % 2 ? 100 : 200)));
  // After the join each instruction ran once, for all lanes.
  EXPECT_EQ(counted().of(Class::integer), 2u + 2 + 2);  // two before the body
}

TEST(Divergence, LoopsRunAsLongAsTheLongestLane) {
  // Σ of i from 1 to the lane's number, in a loop with a loop within.
  const auto values = words(
      "mov.u32 %r0, 0;\nmov.u32 %r2, 0;\n$outer:\nsetp.ge.u32 %p1, %r2, %r1;\n@%p1 bra $done;\nadd.s32 %r2, %r2, "
      "1;\nmov.u32 %r3, 0;\n"
      "$inner:\nadd.s32 %r0, %r0, 1;\nadd.s32 %r3, %r3, 1;\nsetp.lt.u32 %p2, %r3, %r2;\n@%p2 bra $inner;\nbra.uni "
      "$outer;\n$done:");
  for (std::size_t l = 0; l < 32; ++l) EXPECT_EQ(values[l], l * (l + 1) / 2) << l;
}

TEST(Divergence, LanesThatEndedAreGone) {
  const std::string body =
      "setp.lt.u32 %p1, %r1, 10;\n@%p1 ret;\nvote.sync.ballot.b32 %r0, %p2, -1;\nactivemask.b32 %r0;";
  const auto values = words(body);
  EXPECT_EQ(values[31], ~0u << 10);
  EXPECT_EQ(values[0], ~0u);  // never written
}

TEST(Divergence, WhoWaitsForLanesThatEndGoesOn) {
  const std::string apart = "setp.lt.u32 %p1, %r1, 10;\n@%p1 bra $late;\n";
  EXPECT_EQ(
      words(apart + "vote.sync.ballot.b32 %r0, %p1, -1;\nmov.u32 %r0, 5;\nbra.uni $end;\n$late:\nret;\n$end:")[31], 5u);
  EXPECT_EQ(words(apart + "bar.sync 0;\nmov.u32 %r0, 5;\nbra.uni $end;\n$late:\nret;\n$end:", 64)[31], 5u);
}

// ---- warp-wide ----------------------------------------------------------------------------------
TEST(WarpWide, ShufflesStayInTheirSegments) {
  const auto shuffled = [](const std::string& how, const std::string& b, const std::string& c) {
    return words("add.s32 %r2, %r1, 100;\nshfl.sync." + how + ".b32 %r3|%p1, %r2, " + b + ", " + c +
                 ", -1;\nselp.b32 %r4, 1000, 0, %p1;\nadd.s32 %r0, %r3, %r4;");
  };
  const auto whole = shuffled("bfly", "5", "31"), up = shuffled("up", "3", "0"), down = shuffled("down", "3", "31"),
             index = shuffled("idx", "7", "31"), eights = shuffled("down", "3", "0x181F"),
             eights_up = shuffled("up", "3", "0x1800"), eights_index = shuffled("idx", "13", "0x181F"),
             beyond = shuffled("bfly", "16", "0x0F");
  for (std::uint32_t l = 0; l < 32; ++l) {
    EXPECT_EQ(whole[l], 1100 + (l ^ 5));
    EXPECT_EQ(up[l], l >= 3 ? 1100 + l - 3 : 100 + l);
    EXPECT_EQ(down[l], l + 3 < 32 ? 1100 + l + 3 : 100 + l);
    EXPECT_EQ(index[l], 1107u);
    EXPECT_EQ(eights[l], l % 8 + 3 < 8 ? 1100 + l + 3 : 100 + l);
    EXPECT_EQ(eights_up[l], l % 8 >= 3 ? 1100 + l - 3 : 100 + l);
    EXPECT_EQ(eights_index[l], 1100 + l / 8 * 8 + 5);
    EXPECT_EQ(beyond[l], l < 16 ? 100 + l : 1100 + l - 16);
  }
}

TEST(WarpWide, WaitsForTheLanesItNames) {
  // Even lanes come later, along a longer way; the shuffle needs all.
  const auto values = words(
      "and.b32 %r2, %r1, 1;\nsetp.ne.s32 %p1, %r2, 0;\nmov.u32 %r3, 7;\n@%p1 bra $meet;\nmov.u32 %r4, 0;\n$loop:\n"
      "add.s32 %r4, %r4, 1;\nsetp.lt.s32 %p2, %r4, 20;\n@%p2 bra $loop;\nmov.u32 %r3, %r4;\n$meet:\n"
      "shfl.sync.bfly.b32 %r0, %r3, 1, 31, -1;");
  for (std::size_t l = 0; l < 32; ++l) EXPECT_EQ(values[l], l % 2 ? 20u : 7u);
}

TEST(WarpWide, LanesThatJumpBackAreWaitedFor) {
  const auto values = words(
      "and.b32 %r2, %r1, 1;\nsetp.ne.s32 %p1, %r2, 0;\n@%p1 bra $later;\n$meet:\nvote.sync.ballot.b32 %r0, %p1, -1;\n"
      "bra.uni $end;\n$later:\nmov.u32 %r3, 1;\nbra.uni $meet;\n$end:");
  for (std::size_t l = 0; l < 32; ++l) EXPECT_EQ(values[l], 0xAAAAAAAAu);
}

TEST(WarpWide, TeamsWorkOnTheirOwn) {
  // Each half votes by itself, at the same instruction, and at different ones.
  const std::string half =
      "setp.lt.u32 %p1, %r1, 16;\nselp.b32 %r2, 0x0000FFFF, 0xFFFF0000, %p1;\nand.b32 %r3, %r1, 3;\nsetp.eq.s32 %p2, "
      "%r3, 0;\n";
  const auto same = words(half + "vote.sync.ballot.b32 %r0, %p2, %r2;");
  const auto apart = words(half +
                           "@%p1 bra $low;\nvote.sync.ballot.b32 %r0, %p2, %r2;\nbra.uni "
                           "$end;\n$low:\nvote.sync.ballot.b32 %r0, %p2, 0xFFFF;\n$end:");
  for (std::size_t l = 0; l < 32; ++l) {
    EXPECT_EQ(same[l], l < 16 ? 0x00001111u : 0x11110000u);
    EXPECT_EQ(apart[l], same[l]);
  }
}

TEST(WarpWide, VotesMatchesAndReductions) {
  const std::string thirds = "rem.u32 %r2, %r1, 3;\nsetp.eq.s32 %p1, %r2, 0;\n";
  const auto matched = words(thirds + "match.any.sync.b32 %r0, %r2, -1;");
  for (std::uint32_t l = 0; l < 32; ++l) {
    std::uint32_t expected = 0;
    for (std::uint32_t k = l % 3; k < 32; k += 3) expected |= 1u << k;
    EXPECT_EQ(matched[l], expected);
  }
  EXPECT_EQ(words(thirds + "vote.sync.any.pred %p2, %p1, -1;\nselp.b32 %r0, 1, 0, %p2;")[5], 1u);
  EXPECT_EQ(words(thirds + "vote.sync.all.pred %p2, %p1, -1;\nselp.b32 %r0, 1, 0, %p2;")[5], 0u);
  EXPECT_EQ(words(thirds + "vote.sync.uni.pred %p2, %p1, -1;\nselp.b32 %r0, 1, 0, %p2;")[5], 0u);
  EXPECT_EQ(words("redux.sync.add.s32 %r0, %r1, -1;")[7], 496u);
  EXPECT_EQ(words("sub.s32 %r2, %r1, 9;\nredux.sync.min.s32 %r0, %r2, -1;")[7], static_cast<std::uint32_t>(-9));
  EXPECT_EQ(words("sub.s32 %r2, %r1, 9;\nredux.sync.max.u32 %r0, %r2, -1;")[7], 0xFFFFFFFFu);
}

TEST(WarpWide, MistakesFail) {
  // A lane that does not take part is read.
  EXPECT_TRUE(
      says(failure_of("setp.ge.u32 %p1, %r1, 16;\n@%p1 bra $end;\nshfl.sync.bfly.b32 %r0, %r1, 16, 31, 0xFFFF;\n$end:"),
           "does not take part"));
  EXPECT_TRUE(says(failure_of("setp.ge.u32 %p1, %r1, 16;\n@%p1 ret;\nshfl.sync.bfly.b32 %r0, %r1, 16, 31, -1;"),
                   "does not take part"));
  EXPECT_TRUE(says(failure_of("bar.warp.sync 1;"), "not among those it names"));
  // Halves wait for each other at different places.
  const std::string deadlock = failure_of(
      "setp.ge.u32 %p1, %r1, 16;\n@%p1 bra $high;\nbar.warp.sync -1;\nbra.uni $end;\n$high:\nvote.sync.ballot.b32 %r0, "
      "%p1, -1;\n$end:");
  EXPECT_TRUE(says(deadlock, "wait for each other at different places") && says(deadlock, "0x0000ffff") &&
              says(deadlock, "bar.warp.sync"))
      << deadlock;
  EXPECT_TRUE(says(failure_of("setp.ge.u32 %p1, %r1, 16;\n@%p1 ret;\nmovmatrix.sync.aligned.m8n8.trans.b16 %r0, %r1;"),
                   "lanes have ended"));
  EXPECT_TRUE(says(failure_of("trap;"), "trap"));
}

// ---- barriers -----------------------------------------------------------------------------------
constexpr const char* kOwn = ".shared .align 4 .b8 own[512];\nmov.u32 %r10, own;\nmad.lo.s32 %r11, %r1, 4, %r10;\n";

TEST(Barriers, WarpsExchangeThroughSharedMemory) {
  const auto values = words(std::string(kOwn) +
                                "st.shared.u32 [%r11], %r1;\nbar.sync 0;\nxor.b32 %r2, %r1, 64;\nmad.lo.s32 %r3, %r2, "
                                "4, %r10;\nld.shared.u32 %r0, [%r3];",
                            128);
  for (std::uint32_t t = 0; t < 128; ++t) EXPECT_EQ(values[t], t ^ 64);
}

TEST(Barriers, NamedOnesTakePartOfABlock) {
  // Warps 1 and 2 meet at barrier 3, warp 0 ends at once.
  const auto values =
      words(std::string(kOwn) +
                "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra $end;\nst.shared.u32 [%r11], %r1;\nbar.sync 3, 64;\n"
                "xor.b32 %r2, %r1, 96;\nmad.lo.s32 %r3, %r2, 4, %r10;\nld.shared.u32 %r0, [%r3];\n$end:",
            96);
  EXPECT_EQ(values[32], 64u);
  EXPECT_EQ(values[95], 63u);
  // Warp 0 only arrives.
  const auto arrived = words(
      std::string(kOwn) +
          "setp.lt.u32 %p1, %r1, 32;\n@!%p1 bra $waits;\nst.shared.u32 [%r11], 9;\nbar.arrive 1, 64;\nbra.uni $end;\n"
          "$waits:\nbar.sync 1, 64;\nld.shared.u32 %r0, [%r10];\n$end:",
      64);
  EXPECT_EQ(arrived[40], 9u);
}

TEST(Barriers, DoNotWaitForThreadsThatEnded) {
  EXPECT_EQ(words("setp.lt.u32 %p1, %r1, 32;\n@%p1 ret;\nbar.sync 0;\nmov.u32 %r0, 5;", 64)[63], 5u);
  EXPECT_EQ(words("setp.lt.u32 %p1, %r1, 40;\n@%p1 ret;\nbar.sync 0;\nmov.u32 %r0, 5;", 64)[63], 5u);
}

TEST(Barriers, Reduce) {
  const std::string odd = "and.b32 %r2, %r1, 1;\nsetp.ne.s32 %p1, %r2, 0;\nsetp.eq.s32 %p2, %r1, 77;\n";
  const auto value = [&](const std::string& body) { return words(odd + body + "selp.b32 %r0, 1, 0, %p3;", 96)[3]; };
  EXPECT_EQ(value("bar.red.or.pred %p3, 0, %p2;\n"), 1u);
  EXPECT_EQ(value("setp.eq.s32 %p2, %r1, 99;\nbar.red.or.pred %p3, 0, %p2;\n"), 0u);
  EXPECT_EQ(value("bar.red.and.pred %p3, 0, %p1;\n"), 0u);
  EXPECT_EQ(words(odd + "bar.red.popc.u32 %r0, 0, %p1;", 96)[3], 48u);
}

TEST(Barriers, DeadlocksAreFound) {
  const std::string missing = failure_of("setp.lt.u32 %p1, %r1, 32;\n@%p1 ret;\nbar.sync 2, 64;", 64);
  EXPECT_TRUE(says(missing, "deadlock") && says(missing, "warp 1") && says(missing, "bar.sync 2, 64")) << missing;
  EXPECT_TRUE(says(
      failure_of("setp.lt.u32 %p1, %r1, 32;\n@%p1 bra $other;\nbar.sync 1;\nbra.uni $end;\n$other:\nbar.sync 2;\n$end:",
                 64),
      "deadlock"));
  // Lanes of one warp at two barriers.
  EXPECT_TRUE(
      says(failure_of(
               "setp.lt.u32 %p1, %r1, 16;\n@%p1 bra $other;\nbar.sync 0;\nbra.uni $end;\n$other:\nbar.sync 0;\n$end:"),
           "different places"));
  EXPECT_TRUE(says(failure_of("bar.sync 0, 48;", 64), "no multiple of a warp"));
  EXPECT_TRUE(says(failure_of("bar.sync 16;"), "no barrier 16"));
}

// ---- matrices -----------------------------------------------------------------------------------
std::uint16_t bf16_of(int x) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(x)) >> 16);
}

/// Every element is another small number, so that each place counts.
int element(int matrix, int row, int column) {
  return (matrix * 37 + row * 11 + column * 5) % 61 - 30;
}

TEST(Matrices, LdmatrixGivesEachLaneItsPair) {
  // 32 rows of 8 elements, of 16 bits: row r, column c holds 256 r + c. Each of the four matrices has eight rows.
  const std::string fill =
      ".shared .align 16 .b8 own[512];\nmov.u32 %r10, own;\nmad.lo.s32 %r11, %r1, 16, %r10;\nmov.u32 %r12, 0;\n$fill:\n"
      "mad.lo.s32 %r13, %r12, 2, %r11;\nmad.lo.s32 %r14, %r1, 256, %r12;\nst.shared.u16 [%r13], %r14;\nadd.s32 %r12, "
      "%r12, 1;\n"
      "setp.lt.s32 %p1, %r12, 8;\n@%p1 bra $fill;\nbar.warp.sync -1;\n";
  for (std::uint32_t m = 0; m < 4; ++m) {
    const std::string choose = "mov.b32 %r0, %r2" + std::to_string(m) + ";";
    clear_counts();
    const auto plain =
        words(fill + "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r11];\n" + choose);
    EXPECT_EQ(counted().ldmatrix_wavefronts, 4u);
    const auto transposed =
        words(fill + "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r20, %r21, %r22, %r23}, [%r11];\n" + choose);
    for (std::uint32_t l = 0; l < 32; ++l) {
      const std::uint32_t row = 8 * m + l / 4, column = 2 * (l % 4);
      EXPECT_EQ(plain[l], (256 * row + column) | (256 * row + column + 1) << 16) << m << " " << l;
      const std::uint32_t across = 8 * m + 2 * (l % 4), down = l / 4;
      EXPECT_EQ(transposed[l], (256 * across + down) | (256 * (across + 1) + down) << 16) << m << " " << l;
    }
  }
  // movmatrix of the one is the other.
  const auto moved = words(
      fill +
      "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r20}, [%r11];\nmovmatrix.sync.aligned.m8n8.trans.b16 %r0, %r20;");
  const auto direct = words(fill + "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r0}, [%r11];");
  EXPECT_EQ(moved, direct);
  EXPECT_NE(moved[1], moved[4]);
  // Rows 128 bytes apart lie in the same banks.
  clear_counts();
  words(
      "mov.u32 %r10, room;\nmad.lo.s32 %r11, %r1, 128, %r10;\n"
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r11];\nmov.u32 %r0, 0;",
      32, 4096, ".extern .shared .align 16 .b8 room[];\n");
  EXPECT_EQ(counted().ldmatrix_wavefronts, 32u);
}

/// D = A · B + C from fragments that the test lays out itself: A row by row, B column by column, as m16n8k16.row.col asks for.
TEST(Matrices, MmaIsThePlainProduct) {
  std::vector<std::uint64_t> in(32 * 10, 0), out(32 * 4, 0);
  const auto pair = [](int first, int second) { return std::uint64_t{bf16_of(second)} << 16 | bf16_of(first); };
  for (int l = 0; l < 32; ++l) {
    const int g = l / 4, t = l % 4;
    std::uint64_t* mine = &in[static_cast<std::size_t>(l) * 10];
    const int rows[4] = {g, g + 8, g, g + 8}, columns[4] = {2 * t, 2 * t, 2 * t + 8, 2 * t + 8};
    for (int k = 0; k < 4; ++k) mine[k] = pair(element(0, rows[k], columns[k]), element(0, rows[k], columns[k] + 1));
    for (int k = 0; k < 2; ++k) mine[4 + k] = pair(element(1, 2 * t + 8 * k, g), element(1, 2 * t + 8 * k + 1, g));
    for (int k = 0; k < 4; ++k)
      mine[6 + k] = std::bit_cast<std::uint32_t>(static_cast<float>(element(2, k < 2 ? g : g + 8, 2 * t + k % 2)));
  }
  std::string body =
      "mul.wide.u32 %rd5, %r1, 80;\nadd.s64 %rd5, %rd1, %rd5;\nmul.wide.u32 %rd6, %r1, 32;\nadd.s64 %rd6, %rd2, "
      "%rd6;\n";
  for (int k = 0; k < 6; ++k)
    body += "ld.global.u32 %r2" + std::to_string(k) + ", [%rd5+" + std::to_string(8 * k) + "];\n";
  for (int k = 0; k < 4; ++k)
    body += "ld.global.f32 %f1" + std::to_string(k) + ", [%rd5+" + std::to_string(48 + 8 * k) + "];\n";
  body +=
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f20,%f21,%f22,%f23}, {%r20,%r21,%r22,%r23}, {%r24,%r25}, "
      "{%f10,%f11,%f12,%f13};\n";
  for (int k = 0; k < 4; ++k)
    body += "st.global.f32 [%rd6+" + std::to_string(8 * k) + "], %f2" + std::to_string(k) + ";\n";
  const TestKernel kernel(body);
  DeviceArray<std::uint64_t> input(in), output(out);
  kernel.run(input.data(), output.data());
  for (int l = 0; l < 32; ++l) {
    for (int k = 0; k < 4; ++k) {
      const int row = k < 2 ? l / 4 : l / 4 + 8, column = 2 * (l % 4) + k % 2;
      int sum = element(2, row, column);
      for (int i = 0; i < 16; ++i) sum += element(0, row, i) * element(1, i, column);
      const auto bits = static_cast<std::uint32_t>(output[static_cast<std::size_t>(l * 4 + k)]);
      EXPECT_EQ(std::bit_cast<float>(bits), static_cast<float>(sum)) << row << ", " << column;
    }
  }
}

/// The way of kernels: A by ldmatrix from rows, B [16, 8] by ldmatrix.trans from rows. The product as a whole, whatever the fragments are.
TEST(Matrices, LdmatrixAndMmaAgree) {
  std::vector<std::uint64_t> in(16 * 4 + 16 * 2, 0);
  auto* values = reinterpret_cast<std::uint16_t*>(in.data());
  for (int r = 0; r < 16; ++r)
    for (int c = 0; c < 16; ++c) values[r * 16 + c] = bf16_of(element(0, r, c));
  for (int r = 0; r < 16; ++r)
    for (int c = 0; c < 8; ++c) values[256 + r * 8 + c] = bf16_of(element(1, r, c));
  const TestKernel kernel(
      ".shared .align 16 .b8 own[768];\nmov.u32 %r10, own;\n"
      // 768 bytes, 24 of each lane.
      "mad.lo.s32 %r11, %r1, 24, %r10;\nmul.wide.u32 %rd5, %r1, 24;\nadd.s64 %rd5, %rd1, %rd5;\n"
      "ld.global.u64 %rd6, [%rd5];\nst.shared.u64 [%r11], %rd6;\nld.global.u64 %rd6, [%rd5+8];\nst.shared.u64 "
      "[%r11+8], %rd6;\n"
      "ld.global.u64 %rd6, [%rd5+16];\nst.shared.u64 [%r11+16], %rd6;\nbar.warp.sync -1;\n"
      // A: row l % 16, columns from 8 (l / 16). B: row l % 16, of 16 bytes.
      "and.b32 %r12, %r1, 15;\nshr.u32 %r13, %r1, 4;\nmad.lo.s32 %r14, %r12, 32, %r10;\nmad.lo.s32 %r14, %r13, 16, "
      "%r14;\n"
      "mad.lo.s32 %r15, %r12, 16, %r10;\n"
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20,%r21,%r22,%r23}, [%r14];\n"
      "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r24,%r25}, [%r15+512];\n"
      "mov.f32 %f1, 0f00000000;\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f20,%f21,%f22,%f23}, {%r20,%r21,%r22,%r23}, {%r24,%r25}, "
      "{%f1,%f1,%f1,%f1};\n"
      // Rows l / 4 and the eighth after, columns 2 (l % 4) and the next.
      "shr.u32 %r30, %r1, 2;\nand.b32 %r31, %r1, 3;\nmul.wide.u32 %rd7, %r30, 32;\nmul.wide.u32 %rd8, %r31, "
      "8;\nadd.s64 %rd7, %rd7, %rd8;\n"
      "add.s64 %rd7, %rd7, %rd2;\nst.global.v2.f32 [%rd7], {%f20, %f21};\nst.global.v2.f32 [%rd7+256], {%f22, %f23};");
  DeviceArray<std::uint64_t> input(in), output(std::vector<std::uint64_t>(64, 0));
  kernel.run(input.data(), output.data());
  const auto* d = reinterpret_cast<const float*>(output.data());
  for (int r = 0; r < 16; ++r) {
    for (int c = 0; c < 8; ++c) {
      int sum = 0;
      for (int i = 0; i < 16; ++i) sum += element(0, r, i) * element(1, i, c);
      EXPECT_EQ(d[r * 8 + c], static_cast<float>(sum)) << r << ", " << c;
    }
  }
}

}  // namespace
}  // namespace ptx_on_cpu::testing
