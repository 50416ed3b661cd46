#pragma once
// Named tensors in one file, in the safetensors format (https://huggingface.co/docs/safetensors): a little-endian u64
// with the length of a JSON header, the header (name -> dtype, shape, data_offsets; `__metadata__` of strings), and the
// tensors' bytes, row-major.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moleblend {

enum class TensorType { f32, f64, i32, i64 };
/// 4 or 8.
std::size_t bytes_of(TensorType type);

using Metadata = std::map<std::string, std::string>;

/// A file that was opened and checked as a whole; tensors are read from the memory map.
///
/// Every length, offset, shape and type of the header is checked at opening, against the file's size and against each
/// other (no overlaps, no gaps), so that no file, however damaged or malicious, leads a reader outside of it. Errors
/// name file, tensor and cause.
class Safetensors {
 public:
  struct Tensor {
    std::string name;
    TensorType type;
    std::vector<std::int64_t> shape;   // empty for a single number
    std::int64_t count;                // product of the shape
    std::span<const std::byte> bytes;  // count · bytes_of(type); aligned to nothing
  };

  /// Throws Error.
  static Safetensors open(const std::filesystem::path& path);
  Safetensors(Safetensors&&) noexcept;
  Safetensors& operator=(Safetensors&&) noexcept;
  ~Safetensors();

  const std::filesystem::path& path() const;
  const Metadata& metadata() const;
  /// In the order of their bytes.
  const std::vector<Tensor>& tensors() const;
  /// Null if there is none of this name.
  const Tensor* find(std::string_view name) const;
  /// Throws Error if there is none of this name.
  const Tensor& at(std::string_view name) const;

  /// Converted to T (float, double, std::int32_t, std::int64_t), row-major. Throws Error if there is no such tensor, or
  /// if whole numbers are asked for and the tensor holds others.
  template <class T>
  std::vector<T> values(std::string_view name) const;
  /// The same into memory that is there; `out` has tensor.count values.
  template <class T>
  void copy(const Tensor& tensor, std::span<T> out) const;

 private:
  struct State;
  explicit Safetensors(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

struct TensorToWrite {
  std::string name;
  TensorType type;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Writes the tensors in the order given; the same arguments give the same bytes. Atomic and durable
/// (AtomicFile). Throws Error; std::invalid_argument for a name twice or a length that doesn't fit the shape.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const Metadata& metadata);

}  // namespace moleblend
