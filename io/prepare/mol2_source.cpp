#include "io/prepare/block_source.h"
#include "io/prepare/sources.h"

namespace moleblend {
namespace {

constexpr std::string_view kMark = "@<TRIPOS>MOLECULE";

class Mol2Source : public BlockSource {
 public:
  using BlockSource::BlockSource;

  bool next(Record& record) override {
    begin(record, "mol2");
    // Comments may stand before a record; anything else there is a record without its beginning.
    bool inside = false, name_next = false;
    while (read_line()) {
      if (line_.starts_with(kMark)) {
        if (inside || !record.text.empty()) {
          put_back();
          break;
        }
        inside = name_next = true;
        add_line(record);
        continue;
      }
      if (!inside && (trimmed(line_).empty() || line_.starts_with('#'))) continue;
      add_line(record);
      if (std::exchange(name_next, false)) record.identifier = trimmed(line_);
    }
    if (!damaged(record)) {
      if (record.text.empty() && record.refused.empty()) return false;
      if (!inside) refuse(record, "the text does not begin with @<TRIPOS>MOLECULE");
    }
    ++records_;
    return true;
  }
};

}  // namespace

std::unique_ptr<RecordSource> open_mol2(const std::filesystem::path& path) {
  return std::make_unique<Mol2Source>(path);
}

}  // namespace moleblend
