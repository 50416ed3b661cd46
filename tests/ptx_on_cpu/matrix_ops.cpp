// mma, ldmatrix and movmatrix. Where each lane's part of a matrix lies is written from the PTX ISA, "Matrix fragments for mma.m16n8k16 with
// floating point type", and nothing of it is shared with the executor of fibers.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "memory_access.h"

namespace ptx_on_cpu {
namespace {

float widened(std::uint32_t bits) {
  return std::bit_cast<float>(bits << 16);
}
float low(std::uint32_t pair) {
  return widened(pair);
}
float high(std::uint32_t pair) {
  return std::bit_cast<float>(pair & 0xFFFF0000u);
}

/// c + Σ a[k] · b[k][column] of eight k, as published measurements describe the tensor cores of A100: all nine terms are cut to 24 binary
/// digits after the leading one of the largest, added exactly, and the sum cut to float; cut, and nowhere rounded.
float cut_sum(const float* a, const float (*b)[8], int column, float c) {
  double term[9];
  for (int k = 0; k < 8; ++k) term[k] = static_cast<double>(a[k]) * static_cast<double>(b[k][column]);
  term[8] = static_cast<double>(c);
  double most = 0, plain = 0;
  for (const double x : term) {
    most = std::fabs(x) > most ? std::fabs(x) : most;
    plain += x;
  }
  if (!(most > 0) || std::isinf(most) || plain != plain) return static_cast<float>(plain);
  const double unit = std::ldexp(1.0, std::ilogb(most) - 24);
  double sum = 0;
  for (const double x : term) sum += std::trunc(x / unit) * unit;
  const auto nearest = static_cast<float>(sum);
  return std::fabs(static_cast<double>(nearest)) > std::fabs(sum) ? std::nextafter(nearest, 0.0f) : nearest;
}

/// PTX_ON_CPU_MMA=cut: sums as above. Otherwise they are in float, from C on in the order of k.
bool sums_are_cut() {
  static const bool cut = [] {
    const char* how = std::getenv("PTX_ON_CPU_MMA");
    return how && std::string_view(how) == "cut";
  }();
  return cut;
}

/// D [16, 8] = A [16, 16] · B [16, 8] + C. PTX asks for products that are exact and sums of single precision at least, and leaves their
/// order and rounding open. operand: 4 of D, 4 of A, 2 of B, 4 of C.
void mma_m16n8k16(Warp& w, const Instruction& in) {
  alignas(32) float a[16][16], b[16][8], sum[16][8];
  const std::uint32_t* parts[14];
  for (std::size_t k = 0; k < 14; ++k) parts[k] = w.at<std::uint32_t>(in.operand[k]);
  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane >> 2, member = lane & 3;
    for (int i = 0; i < 8; ++i) {  // elements of A: two in a register
      const int row = (i % 4 < 2) ? group : group + 8;
      const int column = member * 2 + (i & 1) + (i < 4 ? 0 : 8);
      const std::uint32_t pair = parts[4 + i / 2][lane];
      a[row][column] = i & 1 ? high(pair) : low(pair);
    }
    for (int i = 0; i < 4; ++i) {
      const int row = member * 2 + (i & 1) + (i < 2 ? 0 : 8);
      const std::uint32_t pair = parts[8 + i / 2][lane];
      b[row][group] = i & 1 ? high(pair) : low(pair);
    }
    for (int i = 0; i < 4; ++i)
      sum[i < 2 ? group : group + 8][member * 2 + (i & 1)] = std::bit_cast<float>(parts[10 + i][lane]);
  }
  if (sums_are_cut()) {
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 8; ++j) sum[i][j] = cut_sum(a[i] + 8, b + 8, j, cut_sum(a[i], b, j, sum[i][j]));
  } else {
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < 16; ++k)
        for (int j = 0; j < 8; ++j) sum[i][j] = std::fma(a[i][k], b[k][j], sum[i][j]);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane >> 2, member = lane & 3;
    for (std::size_t i = 0; i < 4; ++i) {
      const float x = sum[i < 2 ? group : group + 8][member * 2 + static_cast<int>(i & 1)];
      w.at<std::uint32_t>(in.operand[i])[lane] = x != x ? 0x7FFFFFFFu : std::bit_cast<std::uint32_t>(x);
    }
  }
}

void all_together(Decoder& d, Class kind) {
  d.out.flow = Flow::together;
  d.out.kind = kind;
}

bool mma(Decoder& d) {
  if (!d.take_all("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")) d.refuse("another product");
  constexpr std::size_t kParts[] = {4, 4, 2, 4};
  if (d.operands() != 4) d.refuse("another number of operands");
  std::size_t at = 0;
  for (std::size_t k = 0; k < 4; ++k) {
    const auto parts = d.vector(k);
    if (parts.size() != kParts[k]) d.refuse("another number of registers");
    for (const std::string_view part : parts)
      d.out.operand[at++] = k == 0 ? d.target(part, Type::b32) : d.source(part, Type::b32);
  }
  all_together(d, Class::mma);
  d.out.run = &mma_m16n8k16;
  return true;
}

/// `vector` matrices of 8 rows of 16 bytes; lane l of the first 8 · vector has the address of row l % 8 of matrix l / 8.
/// operand: the address, then the matrices' registers. detail: 1, the address has 32 bits; 2, transposed.
void load_matrices(Warp& w, const Instruction& in) {
  Addresses a;
  addresses_of(w, in.operand[0], in.detail & 1 ? 4 : 8, in.value, a);
  const Mask all = w.mask;
  w.mask = in.vector == 4 ? kAllLanes : (1u << 8 * in.vector) - 1;
  check_shared(w, a, 16);
  count_shared(w, in, a, 16);
  w.mask = all;
  std::uint32_t result[4][kLanes];
  for (std::size_t m = 0; m < in.vector; ++m) {
    std::uint16_t element[8][8];
    for (std::size_t row = 0; row < 8; ++row) std::memcpy(element[row], w.block->shared + a[m * 8 + row], 16);
    for (int lane = 0; lane < kLanes; ++lane) {
      const int major = lane / 4, minor = lane % 4 * 2;
      const std::uint16_t first = in.detail & 2 ? element[minor][major] : element[major][minor];
      const std::uint16_t second = in.detail & 2 ? element[minor + 1][major] : element[major][minor + 1];
      result[m][lane] = std::uint32_t{second} << 16 | first;
    }
  }
  for (std::size_t m = 0; m < in.vector; ++m)
    std::memcpy(w.at<std::uint32_t>(in.operand[1 + m]), result[m], sizeof(result[m]));
}

bool ldmatrix(Decoder& d) {
  for (const char* part : {"sync", "aligned", "m8n8", "b16"})
    if (!d.take(part)) d.refuse("ldmatrix.sync.aligned.m8n8….b16?");
  if (!d.take("shared") && !d.take("shared::cta")) d.refuse("not from shared memory");
  d.out.vector = d.take("x4") ? 4 : d.take("x2") ? 2 : 1;
  if (d.out.vector == 1 && !d.take("x1")) d.refuse("x1, x2 or x4?");
  const bool transposed = d.take("trans");
  const auto to = d.vector(0);
  if (to.size() != d.out.vector) d.refuse("another number of registers");
  const Address address = d.address(1);
  d.out.operand[0] = address.base;
  d.out.value = address.offset;
  d.out.detail = static_cast<std::uint8_t>((address.base_bytes == 4 ? 1 : 0) | (transposed ? 2 : 0));
  for (std::size_t m = 0; m < to.size(); ++m) d.out.operand[1 + m] = d.target(to[m], Type::b32);
  all_together(d, Class::ldmatrix);
  d.out.run = &load_matrices;
  return true;
}

void transpose_matrix(Warp& w, const Instruction& in) {
  const auto* from = w.at<std::uint32_t>(in.operand[1]);
  std::uint16_t element[8][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    element[lane / 4][lane % 4 * 2] = static_cast<std::uint16_t>(from[lane]);
    element[lane / 4][lane % 4 * 2 + 1] = static_cast<std::uint16_t>(from[lane] >> 16);
  }
  auto* to = w.at<std::uint32_t>(in.operand[0]);
  for (int lane = 0; lane < kLanes; ++lane)
    to[lane] = std::uint32_t{element[lane % 4 * 2 + 1][lane / 4]} << 16 | element[lane % 4 * 2][lane / 4];
}

bool movmatrix(Decoder& d) {
  if (!d.take_all("movmatrix.sync.aligned.m8n8.trans.b16")) d.refuse("another movement");
  if (d.operands() != 2) d.refuse("another number of operands");
  d.out.operand = {d.target(0, Type::b32), d.source(1, Type::b32)};
  all_together(d, Class::warp_wide);
  d.out.run = &transpose_matrix;
  return true;
}

}  // namespace

Opcodes matrix_opcodes() {
  return {{"mma", mma}, {"ldmatrix", ldmatrix}, {"movmatrix", movmatrix}};
}

}  // namespace ptx_on_cpu
