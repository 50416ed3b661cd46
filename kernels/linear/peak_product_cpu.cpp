#include <algorithm>
#include <chrono>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "kernels/linear/peak_product.h"

namespace moleblend {
namespace {

/// One thread's product of its own matrices.
class OwnProduct {
 public:
  OwnProduct(std::int64_t rows, std::int64_t in, std::int64_t out, bool bf16)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Tag = dnnl::memory::format_tag;
    const auto type = bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
    const dnnl::memory::desc x({rows, in}, type, Tag::ab), w({in, out}, type, Tag::any),
        y({rows, out}, dnnl::memory::data_type::f32, Tag::ab);
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x, w, y), engine_);
    product_ = dnnl::matmul(description);
    arguments_ = {{DNNL_ARG_SRC, filled(description.src_desc())},
                  {DNNL_ARG_WEIGHTS, filled(description.weights_desc())},
                  {DNNL_ARG_DST, filled(description.dst_desc())}};
  }
  void run() {
    product_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::memory filled(const dnnl::memory::desc& description) {
    dnnl::memory memory(description, engine_);
    // Bytes 0x3F: 0.747 in fp32 and in bf16.
    std::fill_n(static_cast<unsigned char*>(memory.get_data_handle()), description.get_size(), 0x3F);
    return memory;
  }
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul product_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

}  // namespace

double peak_product_rate(Cpu& cpu, std::int64_t rows, std::int64_t in, std::int64_t out, bool bf16, double seconds) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::unique_ptr<OwnProduct>> products;
  try {
    for (int thread = 0; thread < cpu.threads(); ++thread) {
      const auto [begin, end] = even_part(rows, cpu.threads(), thread);
      products.push_back(std::make_unique<OwnProduct>(std::max<std::int64_t>(1, end - begin), in, out, bf16));
    }
  } catch (const dnnl::error&) {
    return 0;
  }
  double best = 0;
  const double flop = 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
  for (const Clock::time_point first = Clock::now(); Clock::now() - first < std::chrono::duration<double>(seconds);) {
    const Clock::time_point begin = Clock::now();
    cpu.parallel([&](int thread) { products[static_cast<std::size_t>(thread)]->run(); });
    best = std::max(best, flop / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

}  // namespace moleblend
