// Tensor files: our checkpoints, and those that somebody else's program made.

#include "engine/training/safetensors.h"
#include "tests/fuzz/fuzz_target.h"

namespace moleblend::fuzz {
namespace {

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

void check(std::string_view bytes) {
  const MemoryFile file(bytes);
  reads([&] {
    const Safetensors tensors = Safetensors::open(file.path());
    std::vector<TensorToWrite> to_write;
    for (const Safetensors::Tensor& t : tensors.tensors()) {
      must(tensors.find(t.name) == &t, "a tensor is not found by its name");
      must(static_cast<std::int64_t>(tensors.values<double>(t.name).size()) == t.count,
           "a tensor has another length than its shape");
      reads([&] { tensors.values<std::int32_t>(t.name); });
      to_write.push_back({t.name, t.type, t.shape, t.bytes});
    }
    const std::filesystem::path path = scratch_folder() / "again.safetensors";
    write_safetensors(path, to_write, tensors.metadata());
    const Safetensors again = Safetensors::open(path);
    must(again.metadata() == tensors.metadata() && again.tensors().size() == to_write.size(),
         "tensors are lost when written again");
    for (std::size_t k = 0; k < to_write.size(); ++k) {
      const Safetensors::Tensor &a = tensors.tensors()[k], &b = again.tensors()[k];
      must(a.name == b.name && a.type == b.type && a.shape == b.shape && same_bytes(a.bytes, b.bytes),
           "a tensor changes when written again");
    }
  });
}

}  // namespace
}  // namespace moleblend::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  moleblend::fuzz::check(moleblend::fuzz::text_of(data, size));
  return 0;
}
