#include "io/chemistry/openbabel/file_stream.h"

#include <fmt/format.h>

#include "io/support/error.h"

namespace moleblend::chemistry {
namespace {

bool is_gzipped(std::ifstream& file) {
  const bool magic = file.get() == 0x1f && file.get() == 0x8b;
  file.clear();
  file.seekg(0);
  return magic;
}

}  // namespace

FileStream::FileStream(const std::string& path, std::string_view format, const ReadOptions& options,
                       ToMolecule to_molecule)
    : format_(format), options_(options), to_molecule_(std::move(to_molecule)), file_(path, std::ios::binary) {
  if (!file_) throw Error("{}: can't be opened; check the path and its permissions", path);
  if (!conversion_.SetInFormat(format_.c_str(), is_gzipped(file_))) {
    throw Error("{}: Open Babel reads no format '{}'; 'obabel -L formats read' lists those it does", path, format);
  }
  conversion_.SetInStream(&file_);
}

bool FileStream::at_end() {
  auto* stream = conversion_.GetInStream();
  return !stream->good() || stream->peek() == std::istream::traits_type::eof();
}

bool FileStream::next(Molecule& out) {
  if (ended_) return false;
  const auto number = number_++;
  Record record;
  clear_log();
  const auto before = conversion_.GetInStream()->tellg();
  if (!conversion_.Read(&record.mol)) {
    const bool end = at_end();
    // A reader that fails without moving on would fail for ever.
    ended_ = end || conversion_.GetInStream()->tellg() == before;
    const auto cause = cause_from_log();
    if (end && number > 0 && cause.empty()) return false;
    throw Rejected(cause.empty() ? fmt::format("Open Babel finds no molecule in it as {}", format_)
                                 : fmt::format("Open Babel can't read it as {}: {}", format_, cause));
  }
  // Nothing read and nothing in it: some formats' readers (plain text's) would say so for ever.
  if (record.mol.NumAtoms() == 0 && conversion_.GetInStream()->tellg() == before) {
    ended_ = true;
    if (number > 0) return false;
    throw Rejected(fmt::format("Open Babel finds no molecule in it as {}", format_));
  }
  finish_record(format_, options_, record);
  out = to_molecule_(record, number);
  return true;
}

}  // namespace moleblend::chemistry
