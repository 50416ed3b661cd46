// Chemistry on Open Babel: record → graph → features, positions from the record or from a conformer engine.

#include <fmt/format.h>
#include <openbabel/atom.h>
#include <openbabel/babelconfig.h>
#include <openbabel/math/vector3.h>
#include <openbabel/obconversion.h>
#include <openbabel/obutil.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <new>
#include <sstream>

#include "io/chemistry/conformers/conformers.h"
#include "io/chemistry/factory.h"
#include "io/chemistry/openbabel/file_stream.h"
#include "io/chemistry/openbabel/record.h"
#include "io/chemistry/openbabel/snapshot.h"
#include "io/chemistry/rules/rules.h"
#include "io/support/error.h"

namespace moleblend::chemistry {
namespace {

std::string written_smiles(OpenBabel::OBMol& mol) {
  OpenBabel::OBConversion conversion;
  std::ostringstream stream;
  conversion.SetOutStream(&stream);
  conversion.SetOutFormat("smi");
  conversion.AddOption("n", OpenBabel::OBConversion::OUTOPTIONS);  // no name behind it
  // As in read_text(): not through OBConversion, which sets the locale each time.
  conversion.GetOutFormat()->WriteMolecule(&mol, &conversion);
  auto smiles = std::move(stream).str();
  smiles.resize(std::min(smiles.size(), smiles.find_first_of(" \t\r\n")));
  return smiles;
}

void copy_positions(OpenBabel::OBMol& mol, const Snapshot& snapshot, Molecule& molecule) {
  molecule.conformer_source = ConformerSource::file;
  molecule.conformers = 1;
  for (const unsigned source : snapshot.source) {
    const auto* atom = mol.GetAtom(static_cast<int>(source));
    for (const double x : {atom->GetX(), atom->GetY(), atom->GetZ()}) {
      molecule.positions.push_back(static_cast<float>(x));
    }
  }
}

/// Runs `read` so that only Rejected, Error and bad_alloc leave it: a toolkit's own exceptions mean a bad record.
template <class Read>
auto guarded(Read&& read) {
  try {
    return read();
  } catch (const Rejected&) {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Rejected(fmt::format("Open Babel failed on it: {}", error.what()));
  }
}

class GuardedStream : public MoleculeStream {
 public:
  explicit GuardedStream(std::unique_ptr<MoleculeStream> stream) : stream_(std::move(stream)) {}
  bool next(Molecule& out) override {
    return guarded([&] { return stream_->next(out); });
  }

 private:
  std::unique_ptr<MoleculeStream> stream_;
};

class OpenBabelChemistry : public Chemistry {
 public:
  OpenBabelChemistry() {
    keep_log_in_memory();
    // Its first call seeds rand() from the clock; after this one, srand() alone decides what Open Babel draws.
    OpenBabel::vector3 direction;
    direction.randomUnitVector();
  }

  Molecule read(std::string_view format, std::string_view text, const ReadOptions& options,
                std::uint64_t seed) override {
    return guarded([&] {
      Record record;
      parse_record(format, text, options, record);
      return to_molecule(record, options, seed);
    });
  }

  std::string versions() override {
    const auto rdkit = rdkit_name();
    return "Open Babel " + OpenBabel::OBReleaseVersion() + (rdkit.empty() ? "" : ", " + rdkit);
  }

  std::unique_ptr<MoleculeStream> open(const std::string& path, std::string_view format, const ReadOptions& options,
                                       std::uint64_t seed) override {
    auto to_molecule_of = [this, options, seed](Record& record, std::uint64_t number) {
      return to_molecule(record, options, seed + number);
    };
    return std::make_unique<GuardedStream>(std::make_unique<FileStream>(path, format, options, to_molecule_of));
  }

  std::uint64_t stream(const std::string& path, std::string_view format) override {
    OpenBabel::OBConversion conversion;
    if (!conversion.SetInFormat(std::string(format).c_str())) {
      throw Error("{}: Open Babel reads no format '{}'; give another one", path, format);
    }
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error("{}: can't be opened; check the path and its permissions", path);
    std::uint64_t count = 0;
    OpenBabel::OBMol mol;
    for (bool more = conversion.Read(&mol, &file); more; more = conversion.Read(&mol)) {
      ++count;
      mol.Clear();
    }
    return count;
  }

  bool knows_format(std::string_view format) override {
    if (format == "txt" || format == "text") return false;  // titles without molecules, and raw text
    const auto* found = OpenBabel::OBConversion::FindFormat(std::string(format).c_str());
    return found && !(const_cast<OpenBabel::OBFormat*>(found)->Flags() & NOTREADABLE);
  }

  bool has_engine(ConformerEngine engine) override { return conformers_.has(engine); }

 private:
  Molecule to_molecule(Record& record, const ReadOptions& options, std::uint64_t seed) {
    if (options.keep_hydrogens) record.mol.AddHydrogens();
    auto snapshot = take_snapshot(record, options.keep_hydrogens);
    Molecule molecule;
    molecule.identifier = record.name;
    encode_features(snapshot.graph, molecule.atoms, molecule.bonds);
    if (options.use_positions && has_positions(record.mol)) {
      copy_positions(record.mol, snapshot, molecule);
    } else if (options.conformers.count > 0) {
      conformers_.build(record, snapshot, options.conformers, seed, molecule);
    }
    // Last: the writer may rearrange the molecule.
    molecule.smiles = record.smiles.empty() ? written_smiles(record.mol) : record.smiles;
    return molecule;
  }

  Conformers conformers_;
};

}  // namespace
}  // namespace moleblend::chemistry

extern "C" [[gnu::visibility("default")]] moleblend::Chemistry* moleblend_make_chemistry(const char* program_version) {
  if (std::strcmp(program_version, MOLEBLEND_VERSION) != 0) return nullptr;
  return new moleblend::chemistry::OpenBabelChemistry;
}
