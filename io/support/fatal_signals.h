#pragma once
// Faults of files that the system tells by a signal, and whose default is to end the program without a word.

namespace moleblend {

/// For the whole process, once, at its start. A file over the limit of file sizes (SIGXFSZ) becomes an error of the write, as a full disk
/// is. A mapped file that somebody made shorter, or whose disk fails (SIGBUS), ends the program with status 1 and the one line that
/// errors have.
void handle_fatal_signals();

}  // namespace moleblend
