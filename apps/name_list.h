#pragma once
// Lists of column names on the command line.

#include <string>
#include <string_view>
#include <vector>

namespace moleblend {

/// The names of A,B,C. A name that holds a comma itself (SIDER has some) is quoted as in a CSV, or \, stands for the comma.
std::vector<std::string> split_names(std::string_view list);

}  // namespace moleblend
