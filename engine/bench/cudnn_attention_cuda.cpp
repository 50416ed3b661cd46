// cuDNN's attention through its graph interface. cuDNN is opened when it is asked for: the program runs without it.

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <unordered_map>

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>

#include "engine/bench/cudnn_attention.h"

// What cudnn_frontend.h asks of a program that opens cuDNN by itself.
void* cudnn_frontend::cudnn_dlhandle = nullptr;

namespace moleblend {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Tensor_attributes;
using Tensor = std::shared_ptr<Tensor_attributes>;

/// As one line: cuDNN's messages may have many, and the first ones say it.
GpuError refusal(std::string message) {
  constexpr std::size_t kMost = 300;
  if (message.size() > kMost) message = message.substr(0, kMost) + " …";
  std::replace(message.begin(), message.end(), '\n', ' ');
  return GpuError("cuDNN refuses: " + message);
}
void check(fe::error_t error) {
  if (error.is_bad()) throw refusal(error.get_message());
}
void check(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS) throw refusal(fmt::format("{}: {}", what, fe::detail::get_error_string(status)));
}

class Handle {
 public:
  explicit Handle(Gpu& gpu) {
    check(fe::detail::create_handle(&handle_), "cudnnCreate");
    check(fe::detail::set_stream(handle_, gpu.stream()), "cudnnSetStream");
  }
  ~Handle() { fe::detail::destroy_handle(handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cudnnHandle_t get() const { return handle_; }

 private:
  cudnnHandle_t handle_ = nullptr;
};

void open_library() {
  constexpr const char* kLibrary = "libcudnn.so.9";
  if (!fe::cudnn_dlhandle) fe::cudnn_dlhandle = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (!fe::cudnn_dlhandle) {
    const char* cause = dlerror();
    throw GpuError(fmt::format("{} can't be opened: {}", kLibrary, cause ? cause : "unknown cause"));
  }
}

std::string library_name() {
  const std::size_t version = fe::detail::get_backend_version();  // 91900 is 9.19.0
  return fmt::format("cuDNN {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

/// A graph of one operation whose tensors are bound to arrays as they are declared.
class AttentionGraph {
 public:
  /// For the GPU that is here, or for one that is described: nodes take it over as they are made.
  explicit AttentionGraph(const PaddedAttention& a, const GpuDescription* device = nullptr) : a_(a) {
    graph_.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (!device) return;
    const auto properties = std::make_shared<fe::DeviceProperties>();
    check(properties->deserialize({device->properties.begin(), device->properties.end()}));
    graph_.set_sm_version(device->capability).set_device_properties(properties);
  }

  void forward() {
    const auto [out, statistics] = graph_.sdpa(
        input("q", a_.qkv, qkv()), input("k", a_.qkv + width(), qkv()), input("v", a_.qkv + 2 * width(), qkv()),
        masked(fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true)));
    output(out, a_.out, rows());
    output(statistics, a_.statistics, per_row());
  }
  void backward() {
    auto options = masked(fe::graph::SDPA_backward_attributes().set_name("attention_backward"));
    const Tensor dbias = std::make_shared<Tensor_attributes>();
    output(dbias, a_.dbias, squares());
    options.set_dbias(dbias);
    const auto [dq, dk, dv] =
        graph_.sdpa_backward(input("q", a_.qkv, qkv()), input("k", a_.qkv + width(), qkv()),
                             input("v", a_.qkv + 2 * width(), qkv()), input("out", a_.out, rows()),
                             input("dout", a_.dout, rows()), input("statistics", a_.statistics, per_row()), options);
    output(dq, a_.dqkv, qkv());
    output(dk, a_.dqkv + width(), qkv());
    output(dv, a_.dqkv + 2 * width(), qkv());
  }

  /// Asks for plans and makes none of them.
  void ask() {
    check(graph_.validate());
    check(graph_.build_operation_graph());
    check(graph_.create_execution_plans(kBest));
  }
  /// Takes the plan that cuDNN's heuristics think best.
  void plan(const Handle& handle) {
    check(graph_.build(handle.get(), kBest));
    std::int64_t bytes = 0;
    check(graph_.get_workspace_size(bytes));
    workspace_memory_ = workspace_.reserve(static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)));
  }
  void run(const Handle& handle) { check(graph_.execute(handle.get(), arrays_, workspace_memory_)); }

 private:
  inline static const std::vector<fe::HeurMode_t> kBest{fe::HeurMode_t::A};

  /// Sizes and strides as [B, H, S, …], which is how cuDNN thinks of an array however it lies.
  struct Layout {
    std::vector<std::int64_t> size, stride;
    fe::DataType_t type = fe::DataType_t::BFLOAT16;
  };
  std::int64_t width() const { return a_.heads * a_.head_width; }
  Layout rows_of(std::int64_t row) const {
    return {{a_.molecules, a_.heads, a_.tokens, a_.head_width}, {a_.tokens * row, a_.head_width, row, 1}};
  }
  Layout qkv() const { return rows_of(3 * width()); }
  Layout rows() const { return rows_of(width()); }
  Layout per_row() const {
    return {{a_.molecules, a_.heads, a_.tokens, 1}, {a_.heads * a_.tokens, a_.tokens, 1, 1}, fe::DataType_t::FLOAT};
  }
  Layout squares() const {
    const std::int64_t s = a_.tokens;
    return {{a_.molecules, a_.heads, s, s}, {a_.heads * s * s, s * s, s, 1}};
  }

  void describe(Tensor_attributes& tensor, const void* array, const Layout& layout) {
    const auto uid = static_cast<std::int64_t>(arrays_.size() + 1);
    tensor.set_uid(uid).set_dim(layout.size).set_stride(layout.stride).set_data_type(layout.type);
    arrays_[uid] = const_cast<void*>(array);  // its interface has one kind of pointer for what is read and written
  }
  Tensor input(const char* name, const void* array, const Layout& layout) {
    Tensor_attributes tensor;
    tensor.set_name(name);
    describe(tensor, array, layout);
    return graph_.tensor(tensor);
  }
  void output(const Tensor& tensor, void* array, const Layout& layout) {
    tensor->set_output(true);
    describe(*tensor, array, layout);
  }
  /// The options that forward and backward share: scale, bias, and the lengths of the molecules.
  template <class Options>
  Options masked(Options options) {
    const Layout lengths{{a_.molecules, 1, 1, 1}, {1, 1, 1, 1}, fe::DataType_t::INT32};
    options.set_attn_scale(a_.scale)
        .set_bias(input("bias", a_.bias, squares()))
        .set_padding_mask(true)
        .set_seq_len_q(input("length_q", a_.length, lengths))
        .set_seq_len_kv(input("length_kv", a_.length, lengths));
    return options;
  }

  PaddedAttention a_;
  fe::graph::Graph graph_;
  std::unordered_map<std::int64_t, void*> arrays_;  // by the tensors' numbers
  GpuBlock workspace_;
  void* workspace_memory_ = nullptr;
};

/// f with the library open. What cudnn_frontend.h throws, as where the library lacks a function, becomes a refusal.
template <class F>
auto with_library(const F& f) {
  open_library();
  try {
    return f();
  } catch (const GpuError&) {
    throw;
  } catch (const std::exception& error) {
    throw refusal(error.what());
  }
}

LibraryOperation operation(Gpu& gpu, const PaddedAttention& a, void (AttentionGraph::*declare)()) {
  return with_library([&]() -> LibraryOperation {
    const auto handle = std::make_shared<Handle>(gpu);
    const auto graph = std::make_shared<AttentionGraph>(a);
    ((*graph).*declare)();
    graph->plan(*handle);
    return {library_name(), [handle, graph] { graph->run(*handle); }};
  });
}

}  // namespace

LibraryOperation library_attention_forward(Gpu& gpu, const PaddedAttention& a) {
  return operation(gpu, a, &AttentionGraph::forward);
}

LibraryOperation library_attention_backward(Gpu& gpu, const PaddedAttention& a) {
  return operation(gpu, a, &AttentionGraph::backward);
}

std::string cudnn_plans(const GpuDescription& device, const PaddedAttention& a) {
  return with_library([&] {
    for (const auto declare : {&AttentionGraph::forward, &AttentionGraph::backward}) {
      AttentionGraph graph(a, &device);
      (graph.*declare)();
      graph.ask();
    }
    return library_name();
  });
}

}  // namespace moleblend
