#pragma once
// Values as bytes, for the sockets between the coordinator and its reader processes (same program, same machine).

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "io/dataset/molecule.h"
#include "io/prepare/record.h"

namespace moleblend {

class Packer {
 public:
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void put(const T& value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T)); }
  void put(std::string_view text) {
    put<std::uint64_t>(text.size());
    bytes_.append(text);
  }
  void put(const std::string& text) { put(std::string_view(text)); }
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void put(const std::vector<T>& values) {
    put<std::uint64_t>(values.size());
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  std::string& bytes() { return bytes_; }

 private:
  std::string bytes_;
};

/// Throws std::out_of_range where the bytes end too early: a reader process that ran wild may write anything.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void get(T& value) { std::memcpy(&value, take(sizeof(T)), sizeof(T)); }
  void get(std::string& text) {
    std::uint64_t size = 0;
    get(size);
    text.assign(take(size), size);
  }
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void get(std::vector<T>& values) {
    std::uint64_t size = 0;
    get(size);
    if (size > bytes_.size() / sizeof(T)) throw std::out_of_range("message too short");
    const char* from = take(size * sizeof(T));
    values.resize(size);
    if (size > 0) std::memcpy(values.data(), from, size * sizeof(T));
  }

 private:
  const char* take(std::uint64_t size) {
    if (size > bytes_.size()) throw std::out_of_range("message too short");
    const char* from = bytes_.data();
    bytes_.remove_prefix(size);
    return from;
  }
  std::string_view bytes_;
};

inline void pack(Packer& out, const Record& r) {
  out.put(r.file), out.put(r.number), out.put(r.format), out.put(r.text), out.put(r.identifier), out.put(r.smiles),
      out.put(r.labels);
}
inline void unpack(Unpacker& in, Record& r) {
  in.get(r.file), in.get(r.number), in.get(r.format), in.get(r.text), in.get(r.identifier), in.get(r.smiles),
      in.get(r.labels);
}

inline void pack(Packer& out, const Molecule& m) {
  out.put(m.identifier), out.put(m.smiles), out.put(m.source_file), out.put(m.source_record), out.put(m.atoms),
      out.put(m.bonds);
  out.put(m.conformer_source), out.put(m.conformers), out.put(m.positions), out.put(m.labels);
}
inline void unpack(Unpacker& in, Molecule& m) {
  in.get(m.identifier), in.get(m.smiles), in.get(m.source_file), in.get(m.source_record), in.get(m.atoms),
      in.get(m.bonds);
  in.get(m.conformer_source), in.get(m.conformers), in.get(m.positions), in.get(m.labels);
}

}  // namespace moleblend
