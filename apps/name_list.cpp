#include "apps/name_list.h"

#include <utility>

namespace moleblend {

std::vector<std::string> split_names(std::string_view list) {
  std::vector<std::string> names;
  std::string name;
  bool quoted = false;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i] == '"') {
      quoted = !quoted;
    } else if (list[i] == '\\' && i + 1 < list.size() && list[i + 1] == ',') {
      name += list[++i];
    } else if (list[i] == ',' && !quoted) {
      names.push_back(std::exchange(name, {}));
    } else {
      name += list[i];
    }
  }
  if (!name.empty()) names.push_back(std::move(name));
  return names;
}

}  // namespace moleblend
