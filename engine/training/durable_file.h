#pragma once
// Files that are either there whole or not there at all, whatever happens to the machine.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace moleblend {

/// Writes the pieces one after another to a temporary name beside `path`, syncs it, renames it to `path` and syncs the
/// folder: after this call the file survives a crash, and before it the old file (or none) is there. Throws Error (a
/// full disk, no permission); the temporary file is then removed.
void write_file_durably(const std::filesystem::path& path, std::span<const std::span<const std::byte>> pieces);
void write_file_durably(const std::filesystem::path& path, std::string_view text);

/// Makes the names in a folder survive a crash (fsync of the folder). Throws Error.
void sync_folder(const std::filesystem::path& folder);

/// The whole file as text. Throws Error naming it.
std::string read_text_file(const std::filesystem::path& path);

}  // namespace moleblend
