#include "io/prepare/molecule_source.h"

#include "io/dataset/dataset.h"

namespace moleblend {
namespace {

constexpr std::uint64_t kBehind = 1 << 16;  // molecules; so many that were read are given back at once

class DatasetSource : public MoleculeSource {
 public:
  explicit DatasetSource(const std::filesystem::path& folder) : data_(Dataset::open(folder)) {}

  bool next(SourcedMolecule& out) override {
    if (next_ == data_.size()) return false;
    out.number = next_;
    out.kept = true;
    out.reason.clear();
    data_.read(next_++, out.molecule);
    if (next_ % kBehind == 0) data_.release(next_ - kBehind, next_);
    return true;
  }
  Progress progress() const override { return {next_, data_.size(), "molecules"}; }

 private:
  Dataset data_;
  std::uint64_t next_ = 0;
};

}  // namespace

std::unique_ptr<MoleculeSource> open_molecule_dataset(const std::filesystem::path& folder) {
  return std::make_unique<DatasetSource>(folder);
}

}  // namespace moleblend
