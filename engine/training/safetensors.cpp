#include "engine/training/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <type_traits>
#include <unordered_map>

#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian; other machines need a byte swap");

using Json = nlohmann::ordered_json;
constexpr std::uint64_t kLengthBytes = 8;
// The format's own limit: a longer header is an attack or not a safetensors file.
constexpr std::uint64_t kLongestHeader = 100'000'000;

struct TypeName {
  TensorType type;
  std::string_view name;
};
constexpr TypeName kTypeNames[] = {
    {TensorType::f32, "F32"}, {TensorType::f64, "F64"}, {TensorType::i32, "I32"}, {TensorType::i64, "I64"}};

std::string_view name_of(TensorType type) {
  for (const TypeName& t : kTypeNames)
    if (t.type == type) return t.name;
  throw std::invalid_argument("not a tensor type");
}

/// The product of a shape times the size of a value, or -1 where it does not fit into 63 bits.
std::int64_t byte_count(const std::vector<std::int64_t>& shape, TensorType type) {
  std::int64_t bytes = static_cast<std::int64_t>(bytes_of(type));
  for (const std::int64_t n : shape)
    if (n < 0 || __builtin_mul_overflow(bytes, n, &bytes)) return -1;
  return bytes;
}

}  // namespace

std::size_t bytes_of(TensorType type) {
  return type == TensorType::f32 || type == TensorType::i32 ? 4 : 8;
}

struct Safetensors::State {
  std::filesystem::path path;
  MappedFile map;
  Metadata metadata;
  std::vector<Tensor> tensors;
  std::unordered_map<std::string_view, const Tensor*> by_name;

  explicit State(const std::filesystem::path& p) : path(p), map(p) {
    const Json header = parse_header();
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__")
        read_metadata(entry);
      else
        tensors.push_back(read_tensor(name, entry));
    }
    check_layout();
    for (const Tensor& t : tensors) by_name.emplace(t.name, &t);
  }

  template <class... A>
  [[noreturn]] void refuse(fmt::format_string<A...> format, A&&... args) const {
    std::string cause = fmt::format(format, std::forward<A>(args)...);
    // The cause may quote the file; a message stays one line all the same.
    std::replace_if(
        cause.begin(), cause.end(), [](unsigned char c) { return c < ' '; }, '?');
    throw Error("{} is not a whole safetensors file: {}; copy or make it again", path.string(), cause);
  }

  std::span<const std::byte> data;  // after the header

  Json parse_header() {
    const auto file = map.bytes();
    if (file.size() < kLengthBytes) refuse("it has {} bytes, fewer than the 8 of the header's length", file.size());
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), kLengthBytes);
    if (length > kLongestHeader || length > file.size() - kLengthBytes)
      refuse("it says that its header has {} bytes, and the file has {}", length, file.size());
    data = file.subspan(kLengthBytes + length);
    const auto* text = reinterpret_cast<const char*>(file.data() + kLengthBytes);
    // The parser keeps the last of two equal keys; a name twice must be refused, so names are watched while they are
    // read.
    std::set<std::string> names;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
      if (depth > 4) refuse("its header is nested too deeply");
      if (event == Json::parse_event_t::key && depth == 1 && !names.insert(value.get<std::string>()).second)
        refuse("'{}' is in its header twice", value.get<std::string>());
      return true;
    };
    try {
      Json header = Json::parse(text, text + length, watch);
      if (!header.is_object()) refuse("its header is no JSON object");
      return header;
    } catch (const Json::exception& e) {
      refuse("its header is no JSON ({})", e.what());
    }
  }

  void read_metadata(const Json& entry) {
    if (!entry.is_object()) refuse("its metadata is no JSON object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) refuse("the metadata '{}' is no string", key);
      metadata.emplace(key, value.get<std::string>());
    }
  }

  Tensor read_tensor(const std::string& name, const Json& entry) const {
    const auto whole = [&](const Json& number) {
      if (!number.is_number_integer() || number.get<double>() < 0 || number.get<double>() > 0x1p62)
        refuse("tensor '{}' has a shape or offset that is no whole number from 0", name);
      return number.get<std::int64_t>();
    };
    const bool complete = entry.is_object() && entry.contains("dtype") && entry["dtype"].is_string() &&
                          entry.contains("shape") && entry["shape"].is_array() && entry.contains("data_offsets") &&
                          entry["data_offsets"].is_array() && entry["data_offsets"].size() == 2;
    if (!complete) refuse("tensor '{}' lacks its dtype, shape or two data_offsets", name);

    Tensor tensor{name, TensorType::f32, {}, 0, {}};
    const auto dtype = entry["dtype"].get<std::string>();
    const auto* known =
        std::find_if(std::begin(kTypeNames), std::end(kTypeNames), [&](const TypeName& t) { return t.name == dtype; });
    if (known == std::end(kTypeNames))
      throw Error("{}: tensor '{}' has the type {}; only F32, F64, I32 and I64 are read: convert it first",
                  path.string(), name, dtype);
    tensor.type = known->type;
    for (const Json& n : entry["shape"]) tensor.shape.push_back(whole(n));
    const std::int64_t begin = whole(entry["data_offsets"][0]), end = whole(entry["data_offsets"][1]);
    const std::int64_t bytes = byte_count(tensor.shape, tensor.type);
    if (begin > end || end > static_cast<std::int64_t>(data.size()))
      refuse("tensor '{}' lies at bytes {} to {} of {}", name, begin, end, data.size());
    if (bytes != end - begin)
      refuse("tensor '{}' has {} bytes, which its shape and type don't make", name, end - begin);
    tensor.bytes = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(bytes));
    tensor.count = bytes / static_cast<std::int64_t>(bytes_of(tensor.type));
    return tensor;
  }

  /// Tensors must tile the data: an overlap or a gap means that some offset is wrong, and bytes at the end that two
  /// files were mixed.
  void check_layout() {
    std::stable_sort(tensors.begin(), tensors.end(), [](const Tensor& a, const Tensor& b) {
      return a.bytes.data() != b.bytes.data() ? a.bytes.data() < b.bytes.data() : a.bytes.size() < b.bytes.size();
    });
    const std::byte* expected = data.data();
    for (const Tensor& t : tensors) {
      if (t.bytes.data() < expected) refuse("tensor '{}' overlaps the one before it", t.name);
      if (t.bytes.data() > expected) refuse("there is a gap before tensor '{}'", t.name);
      expected += t.bytes.size();
    }
    if (expected != data.data() + data.size())
      refuse("{} bytes at its end belong to no tensor", data.data() + data.size() - expected);
  }
};

Safetensors::Safetensors(std::unique_ptr<State> state) : state_(std::move(state)) {}
Safetensors::Safetensors(Safetensors&&) noexcept = default;
Safetensors& Safetensors::operator=(Safetensors&&) noexcept = default;
Safetensors::~Safetensors() = default;

Safetensors Safetensors::open(const std::filesystem::path& path) {
  return Safetensors(std::make_unique<State>(path));
}

const std::filesystem::path& Safetensors::path() const {
  return state_->path;
}
const Metadata& Safetensors::metadata() const {
  return state_->metadata;
}
const std::vector<Safetensors::Tensor>& Safetensors::tensors() const {
  return state_->tensors;
}

const Safetensors::Tensor* Safetensors::find(std::string_view name) const {
  const auto at = state_->by_name.find(name);
  return at == state_->by_name.end() ? nullptr : at->second;
}

const Safetensors::Tensor& Safetensors::at(std::string_view name) const {
  if (const Tensor* t = find(name)) return *t;
  throw Error("{} has no tensor '{}'", state_->path.string(), name);
}

template <class T>
void Safetensors::copy(const Tensor& tensor, std::span<T> out) const {
  if (static_cast<std::int64_t>(out.size()) != tensor.count)
    throw std::invalid_argument("tensor '" + tensor.name + "' and its destination differ in length");
  const auto convert = [&]<class S>(S) {
    if (std::is_integral_v<T> && !std::is_same_v<T, S>)
      throw Error("{}: tensor '{}' has the type {}, and {} was expected", path().string(), tensor.name,
                  name_of(tensor.type), sizeof(T) == 4 ? "I32" : "I64");
    const std::byte* from = tensor.bytes.data();
    for (T& value : out) {
      S stored;
      std::memcpy(&stored, from, sizeof(S));
      value = static_cast<T>(stored);
      from += sizeof(S);
    }
  };
  switch (tensor.type) {
    case TensorType::f32:
      return convert(float{});
    case TensorType::f64:
      return convert(double{});
    case TensorType::i32:
      return convert(std::int32_t{});
    case TensorType::i64:
      return convert(std::int64_t{});
  }
}

template <class T>
std::vector<T> Safetensors::values(std::string_view name) const {
  const Tensor& tensor = at(name);
  std::vector<T> out(static_cast<std::size_t>(tensor.count));
  copy(tensor, std::span<T>(out));
  return out;
}

template void Safetensors::copy(const Tensor&, std::span<float>) const;
template void Safetensors::copy(const Tensor&, std::span<double>) const;
template void Safetensors::copy(const Tensor&, std::span<std::int32_t>) const;
template void Safetensors::copy(const Tensor&, std::span<std::int64_t>) const;
template std::vector<float> Safetensors::values(std::string_view) const;
template std::vector<double> Safetensors::values(std::string_view) const;
template std::vector<std::int32_t> Safetensors::values(std::string_view) const;
template std::vector<std::int64_t> Safetensors::values(std::string_view) const;

void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const Metadata& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const TensorToWrite& t : tensors) {
    if (t.name == "__metadata__" || header.contains(t.name))
      throw std::invalid_argument("the tensor name '" + t.name + "' is taken");
    if (byte_count(t.shape, t.type) != static_cast<std::int64_t>(t.bytes.size()))
      throw std::invalid_argument("tensor '" + t.name + "' has a length that doesn't fit its shape");
    header[t.name] = {
        {"dtype", name_of(t.type)}, {"shape", t.shape}, {"data_offsets", {offset, offset + t.bytes.size()}}};
    offset += t.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins aligned to 8 bytes
  const std::uint64_t length = text.size();

  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const TensorToWrite& t : tensors) file.write(t.bytes);
  file.commit();
}

}  // namespace moleblend
