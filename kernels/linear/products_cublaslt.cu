// Matrix products by cuBLASLt, which takes column-major matrices: a row-major C = A · B is the column-major Cᵀ = Bᵀ · Aᵀ of the same
// memory, so operands change places and no matrix moves.
//
// Precision: CUBLAS_COMPUTE_32F, that is sums in float; fp32 operands are multiplied as fp32, never as TF32.
//
// Determinism: which algorithm runs is a function of the product's shape, types and alignments, asked from the library's heuristic and
// never timed. A product may be cut along k (gradients of weights have few outputs and long sums, so that they would leave most of the
// GPU idle), but only with partial sums in float in the workspace, added by a kernel of their own in a fixed order
// (CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE). Excluded are sums in the output's memory, which for bf16 would also round in between. The
// workspace belongs to one stream.
//
// Steady loops: the number of tokens differs from batch to batch, and asking the heuristic takes far longer than queueing a product. So
// the question is put for a rounded number of rows, at most a sixteenth larger, and its answer kept; the product itself then runs
// with its own shape. The library checks every call, and what it would refuse gets an answer of its own.

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <compare>
#include <map>
#include <string>

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/linear/products.h"

namespace moleblend {
namespace {

/// What a choice of algorithm depends on.
struct Problem {
  std::int64_t m, n, k, lda, ldb, ldc;
  cudaDataType_t in, out;
  bool transpose_a, transpose_b, adds, bias;
  std::uint32_t align_a, align_b, align_c;  // bytes
  auto operator<=>(const Problem&) const = default;
};

void check(cublasStatus_t status, const Problem& p) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw GpuError("matrix product " + std::to_string(p.m) + " x " + std::to_string(p.n) + " x " + std::to_string(p.k) +
                 (p.in == CUDA_R_16BF ? " in bf16" : " in fp32") + ": cuBLASLt reports " +
                 cublasLtGetStatusString(status));
}

/// No kernel asks for more than 16 bytes, so that more would only tell the same problem apart.
std::uint32_t alignment(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return address % 16 == 0 ? 16 : 1u << std::countr_zero(address);
}

template <class T>
constexpr cudaDataType_t kType = CUDA_R_32F;
template <>
constexpr cudaDataType_t kType<bf16> = CUDA_R_16BF;

template <class In, class Out>
Problem problem_of(const Product<In, Out>& p) {
  return {.m = p.m,
          .n = p.n,
          .k = p.k,
          .lda = p.lda,
          .ldb = p.ldb,
          .ldc = p.ldc,
          .in = kType<In>,
          .out = kType<Out>,
          .transpose_a = p.transpose_a,
          .transpose_b = p.transpose_b,
          .adds = p.beta != 0,
          .bias = p.bias != nullptr,
          .align_a = alignment(p.a),
          .align_b = alignment(p.b),
          .align_c = alignment(p.c)};
}

/// The rounded number of rows: up to the next multiple of a sixteenth of its power of two, then down to what is divisible by 8, 4, 2 or 1
/// just as `rows` is, since kernels differ in what they can divide. Never below `rows`.
std::int64_t rounded(std::int64_t rows) {
  if (rows < 128) return rows;
  const auto step = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(rows)) / 16);
  const std::int64_t up = (rows + step - 1) / step * step, divisor = rows & -rows;
  return divisor < 8 ? up - divisor : up;
}

/// The problem that stands for all of nearly its size. The dimension that counts rows of a batch is m, or k for gradients of weights.
Problem typical_of(const Problem& p) {
  Problem typical = p;
  std::int64_t& rows = p.transpose_a ? typical.k : typical.m;
  rows = rounded(rows);
  return typical;
}

/// A problem in the library's terms; `first` is our B, `second` our A.
struct Description {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t first, second, result;

  Description(const Problem& p, const void* bias) {
    check(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), p);
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, p);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, p);
    if (p.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS, p);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias, p);
    }
    layout(first, p.in, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.ldb, p);
    layout(second, p.in, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.lda, p);
    layout(result, p.out, p.n, p.m, p.ldc, p);
  }

 private:
  template <class V>
  void set(cublasLtMatmulDescAttributes_t attribute, V value, const Problem& p) {
    check(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value), p);
  }
  static void layout(cublasLtMatrixLayoutOpaque_t& l, cudaDataType_t type, std::int64_t rows, std::int64_t columns,
                     std::int64_t ld, const Problem& p) {
    check(cublasLtMatrixLayoutInit(&l, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), ld),
          p);
  }
};

class Products final : public Gpu::Library {
 public:
  Products() {
    const cublasStatus_t status = cublasLtCreate(&handle_);
    if (status != CUBLAS_STATUS_SUCCESS)
      throw GpuError(std::string("starting cuBLASLt: ") + cublasLtGetStatusString(status));
    workspace_ = memory_.reserve(kWorkspaceBytes);
  }
  ~Products() override { cublasLtDestroy(handle_); }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  static Products& of(Gpu& gpu) {
    if (!gpu.products) gpu.products = std::make_unique<Products>();
    return static_cast<Products&>(*gpu.products);
  }

  template <class In, class Out>
  void run(Gpu& gpu, const Product<In, Out>& p) {
    const Problem problem = problem_of(p);
    Description description(problem, p.bias);
    const auto queue = [&](const cublasLtMatmulAlgo_t& algorithm) {
      const float one = 1;
      return cublasLtMatmul(handle_, &description.operation, &one, p.b, &description.first, p.a, &description.second,
                            &p.beta, p.c, &description.result, p.c, &description.result, &algorithm, workspace_,
                            kWorkspaceBytes, gpu.stream());
    };
    if (const auto refused = refused_.find(problem); refused != refused_.end())
      return check(queue(refused->second), problem);
    const Problem typical = typical_of(problem);
    auto known = typical_.find(typical);
    if (known == typical_.end()) known = typical_.emplace(typical, choice_for(typical)).first;
    const cublasStatus_t status = queue(known->second);
    const bool unsuited = status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
    if (!unsuited || problem == typical) return check(status, problem);
    check(queue(refused_.emplace(problem, choice_for(problem)).first->second), problem);
  }

 private:
  // Room for a gradient of weights of 2,304 x 768 cut into nine.
  static constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;

  cublasLtMatmulAlgo_t choice_for(const Problem& p) const {
    // The heuristic reads the alignment of a bias off its address: the one that every bias has, whichever comes first.
    Description description(p, reinterpret_cast<const void*>(std::uintptr_t{16}));
    cublasLtMatmulPreferenceOpaque_t preference;
    check(cublasLtMatmulPreferenceInit(&preference), p);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value), p);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kWorkspaceBytes});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.align_b);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.align_a);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.align_c);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.align_c);
    cublasLtMatmulHeuristicResult_t answer{};
    int answers = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle_, &description.operation, &description.first, &description.second,
                                         &description.result, &description.result, &preference, 1, &answer, &answers),
          p);
    check(answers == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : answer.state, p);
    return answer.algo;
  }

  cublasLtHandle_t handle_ = nullptr;
  GpuBlock memory_;
  void* workspace_ = nullptr;
  std::map<Problem, cublasLtMatmulAlgo_t> typical_;  // by rounded number of rows
  std::map<Problem, cublasLtMatmulAlgo_t> refused_;  // problems that the choice for their typical one does not suit
};

}  // namespace

template <class In, class Out>
void product(Gpu& gpu, const Product<In, Out>& p) {
  p.require_valid();
  Products::of(gpu).run(gpu, p);
}

template void product(Gpu&, const Product<float, float>&);
template void product(Gpu&, const Product<bf16, bf16>&);
template void product(Gpu&, const Product<bf16, float>&);

}  // namespace moleblend
