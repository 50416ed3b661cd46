#include "io/prepare/inputs.h"

#include "io/prepare/text.h"
#include "io/support/checksum.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

std::uint32_t add_file(Inputs& inputs, const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    throw Error("{} is a folder; name the molecule files in it", path.string());
  if (!std::filesystem::exists(path, error)) throw Error("there is no file {}; check the path", path.string());
  SourceFile file;
  file.path = path.string();
  file.bytes = std::filesystem::file_size(path);
  file.sha256 = sha256_of_file(path);
  inputs.bytes += file.bytes;
  inputs.files.push_back(std::move(file));
  return static_cast<std::uint32_t>(inputs.files.size() - 1);
}

std::string choose_format(const std::filesystem::path& path, const std::string& given, Chemistry& chemistry) {
  const std::string format = given.empty() ? format_of(path) : lower_case(given);
  if (splitter_of(format) != Splitter::whole_file || (!format.empty() && chemistry.knows_format(format))) return format;
  if (!given.empty())
    throw UsageError("--format {}: Open Babel reads no such format; `obabel -L formats` lists them", given);
  throw UsageError(
      "{}: the file's ending does not say what it holds; give its format with --format (smi, csv, tsv, sdf, mol2, xyz, "
      "pdb "
      "or any that Open Babel reads)",
      path.string());
}

}  // namespace

std::unique_ptr<RecordSource> Input::open(const ColumnNames& columns) const {
  return sdf.empty() ? open_records(path, format, columns) : open_paired_records(path, sdf, columns);
}

Inputs find_inputs(const PrepareOptions& options, Chemistry& chemistry) {
  if (options.inputs.empty() && options.pairs.empty())
    throw UsageError("no molecule files are given; name them with --input or --pair");
  Inputs inputs;
  for (const auto& path : options.inputs) {
    Input input;
    input.path = path;
    input.format = choose_format(path, options.format, chemistry);
    if (input.is_whole_file() && !options.columns.labels.empty())
      throw UsageError(
          "{} has no label columns: labels come from tables (CSV, TSV), from data fields of an SDF and from QM9's XYZ "
          "files",
          path.string());
    input.file = add_file(inputs, path);
    inputs.list.push_back(std::move(input));
  }
  for (const auto& [table, sdf] : options.pairs) {
    Input input;
    input.path = table;
    input.sdf = sdf;
    input.format = format_of(table);
    if (splitter_of(input.format) != Splitter::table)
      throw UsageError("--pair {} {}: the first is no table; name a CSV or TSV file, then an SDF", table.string(),
                       sdf.string());
    if (splitter_of(format_of(sdf)) != Splitter::sdf)
      throw UsageError("--pair {} {}: the second is no SDF; name a CSV or TSV file, then an SDF", table.string(),
                       sdf.string());
    input.file = add_file(inputs, table);
    add_file(inputs, sdf);
    inputs.list.push_back(std::move(input));
  }
  bool any_record = false;
  for (const Input& input : inputs.list) {
    Record record;
    any_record = (input.is_whole_file() || input.open(options.columns)->next(record)) || any_record;
  }
  if (!any_record) throw Error("{}: no molecules in it; check the file and its --format", inputs.files.front().path);
  return inputs;
}

}  // namespace moleblend
