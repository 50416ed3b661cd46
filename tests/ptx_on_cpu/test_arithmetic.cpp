// Each family of operations on values where it could go wrong, with results taken from the PTX ISA.

#include <cmath>
#include <limits>

#include "machine_test.h"

namespace ptx_on_cpu::testing {
namespace {

/// One instruction on up to four operands, given as bits. In `text`, a b c e stand for registers of the operands' size and d for the result.
struct Case {
  std::string text;
  std::vector<std::uint64_t> operands;
  std::uint64_t expected;
};

/// Registers of a size: 'h' 16 bits, 'r' 32, 'f' float, 'l' 64, 'd' double, 'p' predicate.
std::string in_register(char size, int index) {
  const std::string k = std::to_string(index), from = "%rd" + std::to_string(10 + index);
  switch (size) {
    case 'h':
      return "cvt.u16.u64 %rs" + k + ", " + from + ";\n";
    case 'r':
      return "cvt.u32.u64 %r1" + k + ", " + from + ";\n";
    case 'f':
      return "cvt.u32.u64 %r1" + k + ", " + from + ";\nmov.b32 %f" + k + ", %r1" + k + ";\n";
    case 'd':
      return "mov.b64 %fd" + k + ", " + from + ";\n";
    case 'p':
      return "setp.ne.s64 %p" + k + ", " + from + ", 0;\n";
    default:
      return "";
  }
}
std::string name_of(char size, int index) {
  const std::string k = std::to_string(index);
  switch (size) {
    case 'h':
      return "%rs" + k;
    case 'r':
      return "%r1" + k;
    case 'f':
      return "%f" + k;
    case 'd':
      return "%fd" + k;
    case 'p':
      return "%p" + k;
    default:
      return "%rd" + std::to_string(10 + index);
  }
}
std::string to_word(char size) {  // the result, register 9 of its size, into %rd0
  switch (size) {
    case 'h':
      return "cvt.u64.u16 %rd0, %rs9;\n";
    case 'r':
      return "cvt.u64.u32 %rd0, %r19;\n";
    case 'f':
      return "mov.b32 %r19, %f9;\ncvt.u64.u32 %rd0, %r19;\n";
    case 'd':
      return "mov.b64 %rd0, %fd9;\n";
    case 'p':
      return "selp.b64 %rd0, 1, 0, %p9;\n";
    default:
      return "mov.b64 %rd0, %rd19;\n";
  }
}

/// `sizes`: of the result, then of each operand. Run on all lanes, and with every second lane masked out, whose results must stay.
void check(const std::string& sizes, const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    std::string text = one.text, before;
    const std::string letters = "abce";
    for (std::size_t k = 0; k < one.operands.size(); ++k) {
      const int index = static_cast<int>(k);
      before += "ld.global.u64 %rd" + std::to_string(10 + index) + ", [%rd1+" + std::to_string(8 * k) + "];\n" +
                in_register(sizes[k + 1], index);
    }
    std::string statement;
    bool after_opcode = false;
    for (std::size_t k = 0; k < text.size(); ++k) {
      after_opcode = after_opcode || text[k] == ' ';
      const bool lone = after_opcode && !std::isalnum(static_cast<unsigned char>(text[k - 1])) &&
                        (k + 1 == text.size() || !std::isalnum(static_cast<unsigned char>(text[k + 1])));
      const std::size_t operand = letters.find(text[k]);
      if (lone && text[k] == 'd')
        statement += name_of(sizes[0], 9);
      else if (lone && operand != std::string::npos)
        statement += name_of(sizes[operand + 1], static_cast<int>(operand));
      else
        statement += text[k];
    }
    const std::string store = to_word(sizes[0]) + "st.global.u64 [%rd3], %rd0;\n";
    DeviceArray<std::uint64_t> in(one.operands.empty() ? std::vector<std::uint64_t>{0} : one.operands);
    DeviceArray<std::uint64_t> out(std::vector<std::uint64_t>(32, 0));
    TestKernel(before + statement + ";\n" + store).run(in.data(), out.data());
    for (std::size_t l = 0; l < 32; ++l) ASSERT_EQ(out[l], one.expected) << one.text << ", lane " << l;
    // Odd lanes jump over it.
    DeviceArray<std::uint64_t> half(std::vector<std::uint64_t>(32, 77));
    TestKernel(before + "and.b32 %r40, %r1, 1;\nsetp.ne.s32 %p15, %r40, 0;\n@%p15 bra $over;\n" + statement + ";\n" +
               store + "$over:\n")
        .run(in.data(), half.data());
    for (std::size_t l = 0; l < 32; ++l) ASSERT_EQ(half[l], l % 2 ? 77 : one.expected) << one.text << ", lane " << l;
    // And as a predicated instruction, on a result that is there before.
    if (sizes[0] != 'r') continue;
    TestKernel(before + "and.b32 %r40, %r1, 1;\nsetp.ne.s32 %p15, %r40, 0;\nmov.u32 %r19, 55;\n@!%p15 " + statement +
               ";\n" + store)
        .run(in.data(), half.data());
    for (std::size_t l = 0; l < 32; ++l) ASSERT_EQ(half[l], l % 2 ? 55 : one.expected) << one.text << ", lane " << l;
  }
}

std::uint64_t bits(float x) {
  return std::bit_cast<std::uint32_t>(x);
}
std::uint64_t bits(double x) {
  return std::bit_cast<std::uint64_t>(x);
}
std::uint64_t word(std::int32_t x) {
  return static_cast<std::uint32_t>(x);
}
std::uint64_t wide(std::int64_t x) {
  return static_cast<std::uint64_t>(x);
}
constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::uint64_t kCanonicalNan = 0x7FFFFFFF;

TEST(Arithmetic, FloatsAreRoundedOnce) {
  const float third = 1.0f / 3;
  check("fff", {{"add.f32 d, a, b", {bits(1.0f), bits(0x1p-24f)}, bits(1.0f)},  // a tie, to even
                {"add.rn.f32 d, a, b", {bits(0x1.000002p0f), bits(0x1p-24f)}, bits(0x1.000004p0f)},
                {"add.rz.f32 d, a, b", {bits(1.0f), bits(0x1.8p-24f)}, bits(1.0f)},
                {"add.rp.f32 d, a, b", {bits(1.0f), bits(0x1p-30f)}, bits(0x1.000002p0f)},
                {"add.rm.f32 d, a, b", {bits(1.0f), bits(-0x1p-30f)}, bits(0x1.fffffep-1f)},
                {"add.f32 d, a, b", {bits(kInfinity), bits(-kInfinity)}, kCanonicalNan},
                {"add.f32 d, a, b", {0xFFC12345, bits(1.0f)}, kCanonicalNan},
                {"sub.f32 d, a, b", {bits(3.0f), bits(5.0f)}, bits(-2.0f)},
                {"mul.f32 d, a, b", {bits(0x1p-100f), bits(0x1p-40f)}, bits(0x1p-140f)},
                {"mul.ftz.f32 d, a, b", {bits(0x1p-100f), bits(-0x1p-40f)}, bits(-0.0f)},
                {"mul.ftz.f32 d, a, b", {bits(0x1p-140f), bits(0x1p100f)}, bits(0.0f)},
                {"add.sat.f32 d, a, b", {bits(0.75f), bits(0.75f)}, bits(1.0f)},
                {"add.sat.f32 d, a, b", {bits(0.25f), bits(-0.75f)}, bits(0.0f)},
                {"add.ftz.sat.f32 d, a, b", {bits(0x1p-140f), bits(0.0f)}, bits(0.0f)},
                {"div.rn.f32 d, a, b", {bits(1.0f), bits(3.0f)}, bits(third)},
                {"div.full.f32 d, a, b", {bits(1.0f), bits(3.0f)}, bits(third)},
                {"copysign.f32 d, a, b", {bits(-1.0f), bits(3.0f)}, bits(-3.0f)},
                {"copysign.f32 d, a, b", {bits(1.0f), bits(-3.0f)}, bits(3.0f)}});
  check("ff", {{"neg.f32 d, a", {bits(0.0f)}, bits(-0.0f)},
               {"abs.f32 d, a", {bits(-2.0f)}, bits(2.0f)},
               {"sqrt.rn.f32 d, a", {bits(2.0f)}, bits(0x1.6a09e6p0f)},
               {"rcp.rn.f32 d, a", {bits(3.0f)}, bits(third)}});
  check("ddd", {{"add.f64 d, a, b", {bits(1.0), bits(0x1p-53)}, bits(1.0)},
                {"add.rn.f64 d, a, b", {bits(0.1), bits(0.2)}, bits(0.1 + 0.2)},
                {"mul.f64 d, a, b", {bits(0.1), bits(0.1)}, bits(0.1 * 0.1)},
                {"div.rn.f64 d, a, b", {bits(1.0), bits(3.0)}, bits(1.0 / 3)}});
}

TEST(Arithmetic, FusedProductsAreNotRoundedBeforeTheSum) {
  check("ffff", {{"fma.rn.f32 d, a, b, c", {bits(0x1.002p0f), bits(0x1.002p0f), bits(-0x1.004p0f)}, bits(0x1p-22f)},
                 {"fma.rm.f32 d, a, b, c", {bits(1.0f), bits(-0x1p-30f), bits(1.0f)}, bits(0x1.fffffep-1f)},
                 {"fma.rm.f32 d, a, b, c", {bits(1.0f), bits(0x1p-30f), bits(1.0f)}, bits(1.0f)},
                 {"fma.rm.f32 d, a, b, c", {bits(1.0f), bits(-0x1p-30f), bits(-1.0f)}, bits(-0x1.000002p0f)},
                 {"fma.rm.f32 d, a, b, c", {bits(1.0f), bits(1.0f), bits(-1.0f)}, bits(-0.0f)},
                 {"fma.rn.f32 d, a, b, c", {bits(1.0f), bits(1.0f), bits(-1.0f)}, bits(0.0f)},
                 {"fma.rn.f32 d, a, b, c", {bits(kInfinity), bits(0.0f), bits(1.0f)}, kCanonicalNan}});
  check("dddd", {{"fma.rn.f64 d, a, b, c", {bits(1 + 0x1p-30), bits(1 + 0x1p-30), bits(-1 - 0x1p-29)}, bits(0x1p-60)}});
}

TEST(Arithmetic, ExtremesPreferNumbersAndKnowZerosApart) {
  check("fff", {{"max.f32 d, a, b", {bits(kNan), bits(1.0f)}, bits(1.0f)},
                {"max.f32 d, a, b", {bits(1.0f), bits(kNan)}, bits(1.0f)},
                {"max.f32 d, a, b", {bits(kNan), bits(-kNan)}, kCanonicalNan},
                {"max.f32 d, a, b", {bits(-0.0f), bits(0.0f)}, bits(0.0f)},
                {"max.f32 d, a, b", {bits(0.0f), bits(-0.0f)}, bits(0.0f)},
                {"min.f32 d, a, b", {bits(-0.0f), bits(0.0f)}, bits(-0.0f)},
                {"min.f32 d, a, b", {bits(0.0f), bits(-0.0f)}, bits(-0.0f)},
                {"min.f32 d, a, b", {bits(2.0f), bits(-3.0f)}, bits(-3.0f)},
                {"max.NaN.f32 d, a, b", {bits(1.0f), bits(kNan)}, kCanonicalNan}});
}

TEST(Arithmetic, ApproximationsAreTheNearest) {
  check("ff", {{"ex2.approx.f32 d, a", {bits(0.5f)}, bits(0x1.6a09e6p0f)},
               {"ex2.approx.f32 d, a", {bits(10.0f)}, bits(1024.0f)},
               {"ex2.approx.f32 d, a", {bits(-0.3f)}, bits(static_cast<float>(std::exp2(static_cast<double>(-0.3f))))},
               {"ex2.approx.f32 d, a", {bits(-149.0f)}, 1},
               {"ex2.approx.ftz.f32 d, a", {bits(-149.0f)}, 0},
               {"ex2.approx.f32 d, a", {bits(-kInfinity)}, 0},
               {"ex2.approx.f32 d, a", {bits(kInfinity)}, bits(kInfinity)},
               {"ex2.approx.f32 d, a", {bits(200.0f)}, bits(kInfinity)},
               {"ex2.approx.f32 d, a", {bits(kNan)}, kCanonicalNan},
               {"lg2.approx.f32 d, a", {bits(8.0f)}, bits(3.0f)},
               {"rsqrt.approx.f32 d, a", {bits(16.0f)}, bits(0.25f)},
               {"rcp.approx.ftz.f32 d, a", {bits(0x1p-130f)}, bits(kInfinity)},
               {"tanh.approx.f32 d, a", {bits(0.5f)}, bits(std::tanh(0.5f))}});
  check("dd", {{"rcp.approx.ftz.f64 d, a", {bits(3.0)}, bits(1.0 / 3) & 0xFFFFFFFF00000000u},
               {"rcp.approx.ftz.f64 d, a", {bits(2.0) | 0xFFFF}, bits(0.5)},
               {"rcp.approx.ftz.f64 d, a", {bits(-0.0)}, bits(-std::numeric_limits<double>::infinity())}});
}

TEST(Arithmetic, IntegersWrapAndWiden) {
  check("rrr", {{"add.s32 d, a, b", {word(0x7FFFFFFF), 1}, 0x80000000},
                {"sub.s32 d, a, b", {0, 1}, 0xFFFFFFFF},
                {"mul.lo.s32 d, a, b", {0x10001, 0x10001}, 0x20001},
                {"mul.hi.s32 d, a, b", {word(-2), 3}, word(-1)},
                {"mul.hi.u32 d, a, b", {word(-2), 3}, 2},
                {"div.s32 d, a, b", {word(-7), 2}, word(-3)},
                {"div.u32 d, a, b", {word(-7), 2}, 0x7FFFFFFC},
                {"div.s32 d, a, b", {0x80000000, word(-1)}, 0x80000000},
                {"rem.s32 d, a, b", {word(-7), 2}, word(-1)},
                {"min.s32 d, a, b", {word(-1), 1}, word(-1)},
                {"min.u32 d, a, b", {word(-1), 1}, 1},
                {"max.s32 d, a, b", {word(-1), 1}, 1},
                {"add.s32 d, a, -5", {3, 0}, word(-2)}});
  check("rrrr",
        {{"mad.lo.s32 d, a, b, c", {5, word(-6), 7}, word(-23)}, {"mad.hi.u32 d, a, b, c", {0x80000000, 6, 7}, 10}});
  check("lrr",
        {{"mul.wide.s32 d, a, b", {word(-2), 3}, wide(-6)}, {"mul.wide.u32 d, a, b", {word(-2), 3}, 0x2FFFFFFFA}});
  check("rhh", {{"mul.wide.u16 d, a, b", {0xFFFF, 0xFFFF}, 0xFFFE0001}});
  check("lrrl", {{"mad.wide.s32 d, a, b, c", {word(-2), 3, 10}, 4}});
  check("lll", {{"mul.hi.u64 d, a, b", {~std::uint64_t{0}, 16}, 15},
                {"mul.hi.s64 d, a, b", {~std::uint64_t{0}, 16}, ~std::uint64_t{0}},
                {"mul.lo.s64 d, a, b", {0x100000001, 0x100000001}, 0x200000001},
                {"div.s64 d, a, b", {wide(-9), 2}, wide(-4)},
                {"rem.s64 d, a, b", {wide(-9), 2}, wide(-1)},
                {"div.u64 d, a, b", {wide(-1), 2}, 0x7FFFFFFFFFFFFFFF},
                {"max.s64 d, a, b", {wide(-9), 2}, 2}});
  check("hhh", {{"add.s16 d, a, b", {0xFFFF, 2}, 1}, {"min.u16 d, a, b", {0xFFFF, 2}, 2}});
  check("rr", {{"neg.s32 d, a", {5}, word(-5)}, {"abs.s32 d, a", {word(-5)}, 5}});
}

TEST(Arithmetic, BitsAreWhereTheyBelong) {
  check("rrr", {{"and.b32 d, a, b", {0xC, 0xA}, 8},
                {"or.b32 d, a, b", {0xC, 0xA}, 0xE},
                {"xor.b32 d, a, b", {0xC, 0xA}, 6},
                {"shl.b32 d, a, b", {1, 31}, 0x80000000},
                {"shl.b32 d, a, b", {1, 32}, 0},
                {"shl.b32 d, a, b", {1, 0x80000001}, 0},
                {"shr.u32 d, a, b", {0x80000000, 31}, 1},
                {"shr.u32 d, a, b", {0x80000000, 32}, 0},
                {"shr.s32 d, a, b", {0x80000000, 40}, 0xFFFFFFFF},
                {"shr.s32 d, a, b", {0x40000000, 40}, 0}});
  check("llr", {{"shl.b64 d, a, b", {3, 63}, 0x8000000000000000},
                {"shr.s64 d, a, b", {0x8000000000000000, 64}, ~std::uint64_t{0}}});
  check("hhr", {{"shr.u16 d, a, b", {0x8000, 15}, 1}, {"shr.u16 d, a, b", {0x8000, 16}, 0}});
  check("rr", {{"not.b32 d, a", {0xFFFF0000}, 0xFFFF},
               {"popc.b32 d, a", {0xF0F1}, 9},
               {"clz.b32 d, a", {0}, 32},
               {"clz.b32 d, a", {0x00010000}, 15},
               {"brev.b32 d, a", {0x80000003}, 0xC0000001},
               {"bfind.u32 d, a", {0x00010001}, 16},
               {"bfind.shiftamt.u32 d, a", {0x00010001}, 15},
               {"bfind.u32 d, a", {0}, 0xFFFFFFFF},
               {"bfind.s32 d, a", {word(-2)}, 0},
               {"bfind.s32 d, a", {word(-1)}, 0xFFFFFFFF}});
  check("rrrrr", {{"bfi.b32 d, a, b, c, e", {0xFFF, 0x80000001, 4, 8}, 0x80000FF1},
                  {"bfi.b32 d, a, b, c, e", {0, 0xFFFFFFFF, 28, 8}, 0x0FFFFFFF},
                  {"bfi.b32 d, a, b, c, e", {0, 7, 0, 0}, 7}});
  check("rrrr", {{"bfe.u32 d, a, b, c", {0xABCD1234, 8, 8}, 0x12},
                 {"bfe.s32 d, a, b, c", {0xABCD1234, 24, 8}, 0xFFFFFFAB},
                 {"prmt.b32 d, a, b, c", {0x33221100, 0x77665544, 0x7410}, 0x77441100},
                 {"prmt.b32 d, a, b, c", {0x00008000, 0, 0x0009}, 0xFF},
                 {"lop3.b32 d, a, b, c, 0x96", {0xF0, 0xCC, 0xAA}, 0x96},
                 {"lop3.b32 d, a, b, c, 0xE2", {0xF0, 0xCC, 0xAA}, 0xE2}});
}

TEST(Arithmetic, ComparisonsKnowSignsAndNan) {
  check("prr", {{"setp.lt.s32 d, a, b", {word(-1), 1}, 1},
                {"setp.lt.u32 d, a, b", {word(-1), 1}, 0},
                {"setp.hi.u32 d, a, b", {word(-1), 1}, 1},
                {"setp.eq.b32 d, a, b", {5, 5}, 1},
                {"setp.ne.s32 d, a, b", {5, 5}, 0},
                {"setp.ge.s32 d, a, b", {5, 5}, 1},
                {"setp.gt.s32 d, a, b", {5, 5}, 0}});
  check("phh", {{"setp.lt.s16 d, a, b", {0xFFFF, 1}, 1}, {"setp.gt.u16 d, a, b", {0xFFFF, 1}, 1}});
  check("pll", {{"setp.lt.s64 d, a, b", {wide(-1), 1}, 1}, {"setp.lt.u64 d, a, b", {wide(-1), 1}, 0}});
  for (const auto& [how, less, equal, more, unordered] :
       std::vector<std::tuple<std::string, int, int, int, int>>{{"eq", 0, 1, 0, 0},
                                                                {"ne", 1, 0, 1, 0},
                                                                {"lt", 1, 0, 0, 0},
                                                                {"le", 1, 1, 0, 0},
                                                                {"gt", 0, 0, 1, 0},
                                                                {"ge", 0, 1, 1, 0},
                                                                {"equ", 0, 1, 0, 1},
                                                                {"neu", 1, 0, 1, 1},
                                                                {"ltu", 1, 0, 0, 1},
                                                                {"leu", 1, 1, 0, 1},
                                                                {"gtu", 0, 0, 1, 1},
                                                                {"geu", 0, 1, 1, 1},
                                                                {"num", 1, 1, 1, 0},
                                                                {"nan", 0, 0, 0, 1}}) {
    const auto expected = [](int x) { return static_cast<std::uint64_t>(x); };
    check("pff", {{"setp." + how + ".f32 d, a, b", {bits(1.0f), bits(2.0f)}, expected(less)},
                  {"setp." + how + ".f32 d, a, b", {bits(0.0f), bits(-0.0f)}, expected(equal)},
                  {"setp." + how + ".f32 d, a, b", {bits(2.0f), bits(1.0f)}, expected(more)},
                  {"setp." + how + ".f32 d, a, b", {bits(2.0f), bits(kNan)}, expected(unordered)}});
    check("pdd", {{"setp." + how + ".f64 d, a, b", {bits(1.0), bits(2.0)}, expected(less)},
                  {"setp." + how + ".f64 d, a, b", {bits(std::nan("")), bits(1.0)}, expected(unordered)}});
  }
  check("prrp", {{"setp.lt.and.s32 d, a, b, c", {1, 2, 0}, 0},
                 {"setp.lt.or.s32 d, a, b, c", {3, 2, 1}, 1},
                 {"setp.lt.xor.s32 d, a, b, c", {1, 2, 1}, 0}});
  check("ppp", {{"and.pred d, a, b", {1, 0}, 0}, {"or.pred d, a, b", {1, 0}, 1}, {"xor.pred d, a, b", {1, 1}, 0}});
  check("pp", {{"not.pred d, a", {1}, 0}, {"mov.pred d, a", {1}, 1}});
  check("rrrp", {{"selp.b32 d, a, b, c", {5, 6, 1}, 5}, {"selp.b32 d, a, b, c", {5, 6, 0}, 6}});
  check("llp", {{"selp.b64 d, a, -1, b", {5, 0}, ~std::uint64_t{0}}});
  check("fp", {{"selp.f32 d, 0f3F800000, 0f40000000, a", {0}, bits(2.0f)}});
}

TEST(Arithmetic, Conversions) {
  check("rf", {{"cvt.rni.s32.f32 d, a", {bits(2.5f)}, 2},
               {"cvt.rni.s32.f32 d, a", {bits(3.5f)}, 4},
               {"cvt.rzi.s32.f32 d, a", {bits(-2.7f)}, word(-2)},
               {"cvt.rmi.s32.f32 d, a", {bits(-2.1f)}, word(-3)},
               {"cvt.rpi.s32.f32 d, a", {bits(2.1f)}, 3},
               {"cvt.rzi.s32.f32 d, a", {bits(3e9f)}, 0x7FFFFFFF},
               {"cvt.rzi.s32.f32 d, a", {bits(-3e9f)}, 0x80000000},
               {"cvt.rzi.u32.f32 d, a", {bits(3e9f)}, 3000000000},
               {"cvt.rzi.u32.f32 d, a", {bits(-1.0f)}, 0},
               {"cvt.rzi.s32.f32 d, a", {bits(kNan)}, 0}});
  check("hf", {{"cvt.rn.bf16.f32 d, a", {0x3F808000}, 0x3F80},
               {"cvt.rn.bf16.f32 d, a", {0x3F818000}, 0x3F82},
               {"cvt.rn.bf16.f32 d, a", {0x3F808001}, 0x3F81},
               {"cvt.rn.bf16.f32 d, a", {0x7F7FFFFF}, 0x7F80},
               {"cvt.rn.bf16.f32 d, a", {0xFF800001}, 0x7FFF}});
  check("rff", {{"cvt.rn.bf16x2.f32 d, a, b", {bits(1.0f), bits(2.0f)}, 0x3F804000}});
  check("fh", {{"cvt.f32.bf16 d, a", {0x4000}, bits(2.0f)}});
  check("ff", {{"cvt.sat.f32.f32 d, a", {bits(1.5f)}, bits(1.0f)},
               {"cvt.sat.f32.f32 d, a", {bits(-1.5f)}, 0},
               {"cvt.sat.f32.f32 d, a", {bits(kNan)}, 0},
               {"cvt.rni.f32.f32 d, a", {bits(-2.5f)}, bits(-2.0f)}});
  check("rr", {{"cvt.s32.s8 d, a", {0x180}, 0xFFFFFF80}, {"cvt.u32.u8 d, a", {0x180}, 0x80}});
  check("lr", {{"cvt.s64.s32 d, a", {word(-1)}, ~std::uint64_t{0}}, {"cvt.u64.u32 d, a", {word(-1)}, 0xFFFFFFFF}});
  check("lh", {{"cvt.u64.u16 d, a", {0xFFFF}, 0xFFFF}, {"cvt.s64.s16 d, a", {0xFFFF}, ~std::uint64_t{0}}});
  check("hl", {{"cvt.u16.u64 d, a", {0x12345678}, 0x5678}});
  check("fl", {{"cvt.rn.f32.s64 d, a", {wide(-3)}, bits(-3.0f)}, {"cvt.rn.f32.u64 d, a", {wide(-1)}, bits(0x1p64f)}});
  check("fr", {{"cvt.rn.f32.s32 d, a", {0x1000001}, bits(0x1p24f)}});
  check("dr",
        {{"cvt.rn.f64.s32 d, a", {word(-3)}, bits(-3.0)}, {"cvt.rn.f64.u32 d, a", {word(-3)}, bits(4294967293.0)}});
  check("df", {{"cvt.f64.f32 d, a", {bits(0.1f)}, bits(static_cast<double>(0.1f))}});
  check("fd", {{"cvt.rn.f32.f64 d, a", {bits(1 + 0x1p-24)}, bits(1.0f)},
               {"cvt.rn.f32.f64 d, a", {bits(1e300)}, bits(kInfinity)}});
}

TEST(Arithmetic, HalvesOfRegisters) {
  check("rhh", {{"mov.b32 d, {a, b}", {0x1111, 0x2222}, 0x22221111}});
  check("lrr", {{"mov.b64 d, {a, b}", {0x11111111, 0x22222222}, 0x2222222211111111}});
  check("rl", {{"mov.b64 {d, %r50}, a", {0x2222222211111111}, 0x11111111},
               {"mov.b64 {%r50, d}, a", {0x2222222211111111}, 0x22222222}});
  check("hr", {{"mov.b32 {d, %rs20}, a", {0x22221111}, 0x1111}, {"mov.b32 {%rs20, d}, a", {0x22221111}, 0x2222}});
}

TEST(Decoding, WhatIsNotUnderstoodIsRefused) {
  EXPECT_EQ(refusal_of("add.f32 %f1, %f2, %f3;"), "");
  EXPECT_NE(refusal_of("wgmma.fence.sync.aligned;").find("unknown instruction"), std::string::npos);
  EXPECT_NE(refusal_of("add.cc.u32 %r1, %r2, %r3;").find("unknown modifier .cc"), std::string::npos);
  EXPECT_NE(refusal_of("ld.global.acquire.gpu.u32 %r1, [%rd1];").find("unknown modifier .acquire"), std::string::npos);
  EXPECT_NE(refusal_of("ld.global.ftz.f32 %f1, [%rd1];").find("unknown modifier .ftz"), std::string::npos);
  EXPECT_NE(refusal_of("add.s32 %r1, %r2, %rd3;").find("another size"), std::string::npos);
  EXPECT_NE(refusal_of("add.s32 %r1, %r2, %q3;").find("unknown operand"), std::string::npos);
  EXPECT_NE(refusal_of("add.s32 %r1, %r2, %r64;").find("unknown operand"), std::string::npos);  // there are 64
  EXPECT_NE(refusal_of("add.s32 %r1, %r2;").find("number of operands"), std::string::npos);
  EXPECT_NE(refusal_of("mov.u32 %tid.x, %r2;").find("no register to write"), std::string::npos);
  EXPECT_NE(refusal_of("bra $nowhere;").find("no label"), std::string::npos);
  EXPECT_NE(refusal_of("{ .reg .b32 %inner; }\nmov.b32 %r1, %inner;").find("unknown operand"), std::string::npos);
  EXPECT_NE(refusal_of("", ".global .b32 here;\n").find("a module may hold"), std::string::npos);
  // The message says where.
  const std::string message = refusal_of("\n\nnonsense.u32 %r1;");
  EXPECT_NE(message.find("kernel k"), std::string::npos) << message;
  EXPECT_NE(message.find("nonsense.u32 %r1"), std::string::npos) << message;
  EXPECT_NE(message.find("PTX line 20"), std::string::npos) << message;
}

}  // namespace
}  // namespace ptx_on_cpu::testing
