// Open Babel reports causes only through its global log.

#include <openbabel/oberror.h>

#include <ostream>
#include <sstream>

#include "io/chemistry/openbabel/record.h"

namespace moleblend::chemistry {
namespace {

/// Text of a log entry without its frame ("*** Open Babel Warning in ReadMolecule", rules, blank lines), in one line.
std::string plain_message(const std::string& entry) {
  std::istringstream lines(entry);
  std::string line, message;
  while (std::getline(lines, line)) {
    const auto first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] == '=' || line.compare(first, 3, "***") == 0) continue;
    if (!message.empty()) message += ' ';
    message += line.substr(first, line.find_last_not_of(" \t\r") + 1 - first);
  }
  return message;
}

}  // namespace

void keep_log_in_memory() {
  static std::ostream nowhere(nullptr);
  OpenBabel::obErrorLog.SetOutputStream(&nowhere);
  OpenBabel::obErrorLog.SetOutputLevel(OpenBabel::obError);
}

void clear_log() {
  OpenBabel::obErrorLog.ClearLog();
}

std::string cause_from_log() {
  for (const auto level : {OpenBabel::obError, OpenBabel::obWarning}) {
    const auto entries = OpenBabel::obErrorLog.GetMessagesOfLevel(level);
    if (!entries.empty()) return plain_message(entries.front());
  }
  return {};
}

void check_log() {
  for (const auto& entry : OpenBabel::obErrorLog.GetMessagesOfLevel(OpenBabel::obWarning)) {
    if (entry.find("kekulize") != std::string::npos) {
      throw Rejected(
          "its aromatic bonds can't be written as single and double ones: an aromatic atom lacks a hydrogen ([nH]) or "
          "a charge");
    }
  }
}

}  // namespace moleblend::chemistry
