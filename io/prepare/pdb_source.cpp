#include "io/prepare/block_source.h"
#include "io/prepare/sources.h"

namespace moleblend {
namespace {

/// Lines before the first MODEL and the CONECT lines, which stand behind the last one, belong to every model of the file.
class PdbSource : public BlockSource {
 public:
  explicit PdbSource(const std::filesystem::path& path) : BlockSource(path), path_(path) {}

  bool next(Record& record) override {
    begin(record, "pdb");
    bool atoms = false, in_model = false, anything = false, ended = false;
    while (read_line()) {
      if (trimmed(line_).empty()) continue;
      if (line_.starts_with("MODEL ")) {
        if (!has_models_) {
          has_models_ = true;
          head_ = record.text;
          read_connections();
        }
        in_model = true;
        record.text = head_;
      }
      if (has_models_ && !in_model) {  // behind a model: CONECT, MASTER, END; or the next file of a concatenation
        if (line_.starts_with("END")) has_models_ = false;
        continue;
      }
      anything = true;
      ended = line_.starts_with("ENDMDL") || trimmed(line_) == "END";
      if (ended) {
        has_models_ = has_models_ && line_.starts_with("ENDMDL");
        break;
      }
      atoms = atoms || line_.starts_with("ATOM") || line_.starts_with("HETATM");
      if (record.identifier.empty() && line_.starts_with("COMPND"))
        record.identifier = trimmed(std::string_view(line_).substr(6));
      add_line(record);
    }
    if (!damaged(record)) {
      if (!anything || (!atoms && !ended && records_ > 0)) return false;
      if (!atoms) refuse(record, "no ATOM or HETATM line");
    }
    if (in_model) record.text += connections_;
    record.text += "END\n";
    ++records_;
    return true;
  }

 private:
  void read_connections() {
    LineReader all(path_);
    std::string line;
    connections_.clear();
    while (all.next(line))
      if (line.starts_with("CONECT") && connections_.size() < kMaxRecordBytes) (connections_ += line) += '\n';
  }

  std::filesystem::path path_;
  std::string head_, connections_;
  bool has_models_ = false;
};

}  // namespace

std::unique_ptr<RecordSource> open_pdb(const std::filesystem::path& path) {
  return std::make_unique<PdbSource>(path);
}

}  // namespace moleblend
