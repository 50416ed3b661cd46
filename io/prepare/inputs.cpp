#include "io/prepare/inputs.h"

#include "io/prepare/text.h"
#include "io/support/checksum.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

std::uint32_t add_file(Inputs& inputs, const std::filesystem::path& path, Checksums checksums) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    throw Error("{} is a folder; name the molecule files in it", path.string());
  if (!std::filesystem::exists(path, error)) throw Error("there is no file {}; check the path", path.string());
  SourceFile file;
  file.path = path.string();
  file.bytes = std::filesystem::file_size(path);
  if (checksums == Checksums::take) file.sha256 = sha256_of_file(path);
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

void check_inputs(const InputOptions& o, Chemistry& chemistry) {
  const ConformerOptions& c = o.read.conformers;
  if (!(o.timeout > 0 && o.timeout <= 86400))
    throw UsageError("--timeout {} is out of range; give up to 86,400 seconds", o.timeout);
  if (o.memory_mb > 0 && o.memory_mb < 64)
    throw UsageError("--memory {} is too little for Open Babel; give at least 64 MB, or 0 for no bound", o.memory_mb);
  if (o.workers < 0 || o.workers > 4096)
    throw UsageError("--workers {} is out of range; give 1 to 4,096, or 0 for one a core", o.workers);
  if (c.count < 0 || c.count > 1000) throw UsageError("--conformers {} is out of range; give 0 to 1,000", c.count);
  if (c.force_field_steps < 0)
    throw UsageError("--force-field-steps {} is negative; give 0 or more", c.force_field_steps);
  if (c.required && c.count == 0)
    throw UsageError("--require-conformers asks for conformers to be built; say how many with --conformers");
  if (c.count > 0 && !chemistry.has_engine(c.engine))
    throw UsageError("--conformer-engine {}: this build has no such engine; use the other one or build with it",
                     c.engine == ConformerEngine::rdkit ? "rdkit" : "openbabel");
}

Inputs find_inputs(const InputOptions& options, Chemistry& chemistry, Checksums checksums) {
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
    input.file = add_file(inputs, path, checksums);
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
    input.file = add_file(inputs, table, checksums);
    add_file(inputs, sdf, checksums);
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
