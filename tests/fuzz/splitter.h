#pragma once
// What holds for everything that cuts a file into records.

#include <algorithm>
#include <vector>

#include "io/prepare/record.h"
#include "tests/fuzz/fuzz_target.h"

namespace moleblend::fuzz {

/// The records of a text; throws as open_records does.
inline std::vector<Record> split(std::string_view text, const std::string& format, const ColumnNames& columns = {}) {
  const MemoryFile file(text);
  const auto source = open_records(file.path(), format, columns);
  // A record takes a byte at least, but for one that tells that the file is damaged. What is packed may be long: it is bounded by its
  // lines.
  constexpr std::size_t kEnough = 1 << 20;
  std::vector<Record> records;
  for (Record record; source->next(record);) {
    must(record.number == records.size(), "records are not numbered one after another");
    must(record.labels.size() == columns.labels.size() || !record.refused.empty(),
         "a record has not one label a column");
    must(record.text.size() <= kMaxRecordBytes, "a record is larger than the largest");
    must(!record.text.empty() || !record.refused.empty() || record.format == "smi", "a record is empty");
    must(records.size() < kEnough, "there is no end of records");
    records.push_back(record);
  }
  Record behind;
  must(!source->next(behind), "there is a record behind the last one");
  return records;
}

/// Cuts a text into records; one that is not refused (of the first few) and stands alone in a file is read from it again.
inline void check_splitter(std::string_view text, const std::string& format, const ColumnNames& columns = {}) {
  reads([&] {
    int alone_before = 0;  // opening a file takes longer than cutting it
    for (const Record& record : split(text, format, columns)) {
      // Marks at a file's very beginning say how all of it is written.
      const bool marked = record.text.starts_with("\xef\xbb\xbf") || record.text.starts_with("\xff\xfe") ||
                          record.text.starts_with("\xfe\xff") || record.text.starts_with("\x1f\x8b");
      if (!record.refused.empty() || marked || ++alone_before > 2) continue;
      std::vector<Record> alone;
      try {
        alone = split(record.text, format);
      } catch (const Error&) {
      }
      must(alone.size() == 1 && alone[0].refused.empty() && alone[0].text == record.text,
           "a record alone in a file is another one");
    }
  });
}

}  // namespace moleblend::fuzz
