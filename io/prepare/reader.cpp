#include "io/prepare/reader.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "io/support/error.h"

namespace moleblend {

std::uint64_t text_seed(std::uint64_t seed, std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a 64: offset basis and prime
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  hash += seed * 0x9e3779b97f4a7c15u;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;  // Stafford's mix 13, as in SplitMix64
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
  return hash ^ (hash >> 31);
}

std::string record_name(const std::string& file, std::uint64_t number) {
  return fmt::format("{}#{}", std::filesystem::path(file).filename().string(), number);
}

void complete_molecule(Molecule& molecule, std::uint32_t file, std::uint64_t number, const ReaderOptions& options) {
  if (options.max_atoms > 0 && molecule.size() > options.max_atoms)
    throw Rejected(fmt::format("{} atoms, more than --max-atoms {}", molecule.size(), options.max_atoms));
  molecule.source_file = file;
  molecule.source_record = number;
  if (molecule.identifier.empty()) molecule.identifier = record_name(options.file_names.at(file), number);
  molecule.labels.resize(options.label_count, std::numeric_limits<double>::quiet_NaN());
}

Molecule read_record(Chemistry& chemistry, const Record& record, const ReaderOptions& options) {
  // Only conformers are drawn.
  const std::uint64_t seed = options.read.conformers.count > 0 ? text_seed(options.seed, record.text) : 0;
  Molecule molecule = chemistry.read(record.format, record.text, options.read, seed);
  if (!record.identifier.empty()) molecule.identifier = record.identifier;
  if (!record.smiles.empty()) {
    // Atom code 0 is the atomic number − 1.
    const auto heavy =
        std::count_if(molecule.atoms.begin(), molecule.atoms.end(), [](const AtomCodes& a) { return a[0] != 0; });
    const std::int64_t expected = heavy_atoms_in_smiles(record.smiles);
    if (heavy != expected)
      throw Rejected(fmt::format("the structure has {} heavy atoms, the SMILES {} that belongs to it {}", heavy,
                                 record.smiles, expected));
    molecule.smiles = record.smiles;
  }
  molecule.labels = record.labels;
  complete_molecule(molecule, record.file, record.number, options);
  return molecule;
}

}  // namespace moleblend
