// What stands for cuDNN's attention in the executor: the formula, in float. Rows of padding become NaN, which no check may read.

#include "engine/bench/library_attention.h"

#include <cmath>
#include <limits>
#include <vector>

namespace moleblend {
namespace {

/// One head of one molecule, its arrays as functions of (token, feature) or (token, token).
class Head {
 public:
  Head(const PaddedAttention& a, std::int64_t b, std::int64_t h) : a_(a), b_(b), h_(h), n_(a.length[b]) {
    for (std::int64_t i = 0; i < n_; ++i) softmax(i);
  }
  std::int64_t tokens() const { return n_; }
  /// part: 0 is q, 1 is k, 2 is v.
  std::int64_t qkv_at(std::int64_t i, int part) const {
    return (((b_ * a_.tokens + i) * 3 + part) * a_.heads + h_) * a_.head_width;
  }
  std::int64_t row_at(std::int64_t i) const { return ((b_ * a_.tokens + i) * a_.heads + h_) * a_.head_width; }
  std::int64_t square_at(std::int64_t i) const { return ((b_ * a_.heads + h_) * a_.tokens + i) * a_.tokens; }
  std::int64_t statistics_at(std::int64_t i) const { return (b_ * a_.heads + h_) * a_.tokens + i; }
  float p(std::int64_t i, std::int64_t j) const { return p_[static_cast<std::size_t>(i * n_ + j)]; }
  float log_sum(std::int64_t i) const { return log_sum_[static_cast<std::size_t>(i)]; }
  /// Σ x[x_at + f] · y[y_at + f]
  float dot(const bf16* x, std::int64_t x_at, const bf16* y, std::int64_t y_at) const {
    float sum = 0;
    for (std::int64_t f = 0; f < a_.head_width; ++f) sum += to_float(x[x_at + f]) * to_float(y[y_at + f]);
    return sum;
  }

 private:
  void softmax(std::int64_t i) {
    std::vector<float> s;
    float largest = -INFINITY, sum = 0;
    for (std::int64_t j = 0; j < n_; ++j) {
      s.push_back(a_.scale * dot(a_.qkv, qkv_at(i, 0), a_.qkv, qkv_at(j, 1)) + to_float(a_.bias[square_at(i) + j]));
      largest = std::fmax(largest, s.back());
    }
    for (const float x : s) sum += std::exp(x - largest);
    for (const float x : s) p_.push_back(std::exp(x - largest) / sum);
    log_sum_.push_back(largest + std::log(sum));
  }

  const PaddedAttention& a_;
  std::int64_t b_, h_, n_;
  std::vector<float> p_, log_sum_;
};

template <class F>
void for_each_head(const PaddedAttention& a, const F& f) {
  for (std::int64_t b = 0; b < a.molecules; ++b)
    for (std::int64_t h = 0; h < a.heads; ++h) f(Head(a, b, h));
}

template <class T>
void fill_with_nan(T* p, std::int64_t count) {
  for (std::int64_t k = 0; k < count; ++k) p[k] = narrow<T>(std::numeric_limits<float>::quiet_NaN());
}

void forward(const PaddedAttention& a) {
  const std::int64_t rows = a.molecules * a.heads * a.tokens;
  fill_with_nan(a.out, rows * a.head_width);
  fill_with_nan(a.statistics, rows);
  for_each_head(a, [&](const Head& head) {
    for (std::int64_t i = 0; i < head.tokens(); ++i) {
      a.statistics[head.statistics_at(i)] = head.log_sum(i);
      for (std::int64_t f = 0; f < a.head_width; ++f) {
        float sum = 0;
        for (std::int64_t j = 0; j < head.tokens(); ++j) sum += head.p(i, j) * to_float(a.qkv[head.qkv_at(j, 2) + f]);
        a.out[head.row_at(i) + f] = to_bf16(sum);
      }
    }
  });
}

void backward(const PaddedAttention& a) {
  const std::int64_t rows = a.molecules * a.heads * a.tokens;
  fill_with_nan(a.dqkv, 3 * rows * a.head_width);
  fill_with_nan(a.dbias, rows * a.tokens);
  for_each_head(a, [&](const Head& head) {
    const std::int64_t n = head.tokens();
    std::vector<float> ds(static_cast<std::size_t>(n * n));
    for (std::int64_t i = 0; i < n; ++i) {
      const float delta = head.dot(a.dout, head.row_at(i), a.out, head.row_at(i));
      for (std::int64_t j = 0; j < n; ++j) {
        const float dp = head.dot(a.dout, head.row_at(i), a.qkv, head.qkv_at(j, 2));
        // What forward left must be its own: any other gives another probability.
        const float p = head.p(i, j) * std::exp(head.log_sum(i) - a.statistics[head.statistics_at(i)]);
        ds[static_cast<std::size_t>(i * n + j)] = p * (dp - delta);
        a.dbias[head.square_at(i) + j] = to_bf16(p * (dp - delta));
      }
    }
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t f = 0; f < a.head_width; ++f) {
        float dq = 0, dk = 0, dv = 0;
        for (std::int64_t j = 0; j < n; ++j) {
          dq += ds[static_cast<std::size_t>(i * n + j)] * to_float(a.qkv[head.qkv_at(j, 1) + f]);
          dk += ds[static_cast<std::size_t>(j * n + i)] * to_float(a.qkv[head.qkv_at(j, 0) + f]);
          dv += head.p(j, i) * to_float(a.dout[head.row_at(j) + f]);
        }
        a.dqkv[head.qkv_at(i, 0) + f] = to_bf16(a.scale * dq);
        a.dqkv[head.qkv_at(i, 1) + f] = to_bf16(a.scale * dk);
        a.dqkv[head.qkv_at(i, 2) + f] = to_bf16(dv);
      }
  });
}

}  // namespace

LibraryOperation library_attention_forward(Gpu&, const PaddedAttention& a) {
  return {"a plain formula", [a] { forward(a); }};
}

LibraryOperation library_attention_backward(Gpu&, const PaddedAttention& a) {
  return {"a plain formula", [a] { backward(a); }};
}

}  // namespace moleblend
