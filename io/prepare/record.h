#pragma once
// A record: the text of one molecule cut out of an input file, before any chemistry. And what cuts records out of files.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace moleblend {

/// Records larger than this are refused: no molecule is that large, so a record mark is missing.
inline constexpr std::size_t kMaxRecordBytes = 16u << 20;

struct Record {
  std::uint32_t file = 0;    // index into the list of source files
  std::uint64_t number = 0;  // in its file, from 0
  std::uint64_t line = 0;    // its first line in the file, from 1; 0: not known
  std::string format;        // Open Babel's name of the text's format
  std::string text;
  std::string identifier;        // empty: what the text itself says
  std::string smiles;            // not empty: stands for the SMILES that the text gives; its heavy atoms are compared
  std::vector<double> labels;    // one a label column, NaN = missing
  std::uint32_t odd_labels = 0;  // labels that are text but no number: taken as missing
  std::string refused;           // not empty: why the text can't be cut out or used
  bool skipped = false;          // of a block that is done already or elsewhere: counted and not read
  std::uint64_t position = 0;    // bytes of all input files up to its end, for progress; 0: not known

  void clear();
};

/// Which columns or data fields of a file are used.
struct ColumnNames {
  std::string smiles;  // empty: the column called smiles, in any case
  std::vector<std::string> labels;
  std::string identifier;  // empty: none in tables, the title in molecule formats
};

/// Cuts one file into records, streaming. A record that can't be cut out is delivered with `refused` set.
class RecordSource {
 public:
  virtual ~RecordSource() = default;
  /// False at the end of the file. Overwrites all of `record` but `file`.
  virtual bool next(Record& record) = 0;
  /// Bytes of the file (as it is stored) read so far.
  virtual std::uint64_t bytes_read() const = 0;
  /// What a person should know of the file and no record says; empty: nothing.
  virtual std::string remark() const { return {}; }
};

/// How a file is read.
enum class Splitter { smiles, table, sdf, mol2, xyz, pdb, whole_file };

/// The splitter for a format name or file ending (without .gz); whole_file for anything that has none of its own.
Splitter splitter_of(const std::string& format);
/// The ending of a file name in lower case without .gz: "molecules.SDF.gz" gives "sdf". Empty if there is none.
std::string format_of(const std::filesystem::path& path);

/// Opens a file. Throws Error if it can't be opened or a column does not exist (the message lists those that do).
std::unique_ptr<RecordSource> open_records(const std::filesystem::path& path, const std::string& format,
                                           const ColumnNames& columns);
/// Opens a table and an SDF that belong together: SDF record i is row i. Graph and positions come from the SDF, SMILES, labels and
/// identifier from the table. Rows after the SDF's end are read from their SMILES; SDF records after the last row are refused.
std::unique_ptr<RecordSource> open_paired_records(const std::filesystem::path& table, const std::filesystem::path& sdf,
                                                  const ColumnNames& columns);

/// A label's text as a number. Missing (empty, NaN, NA, N/A, none, null, ?) gives NaN; true and false give 1 and 0; `odd` is counted up
/// for any other text.
double parse_label(std::string_view text, std::uint32_t& odd);

/// Atoms other than hydrogen that a SMILES writes down, counted without chemistry; -1 if the text can't be one.
std::int64_t heavy_atoms_in_smiles(std::string_view smiles);

}  // namespace moleblend
