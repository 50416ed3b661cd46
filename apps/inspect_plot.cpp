// Bars and plots of characters.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/inspect.h"

namespace moleblend::inspect {

std::string bar(double value, double largest, std::size_t width) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (!(value > 0 && largest > 0)) return {};
  // Something is never drawn as nothing.
  const auto eighths = std::max<std::size_t>(
      1, static_cast<std::size_t>(std::lround(8.0 * static_cast<double>(width) * value / largest)));
  std::string text;
  for (std::size_t k = 0; k < eighths / 8; ++k) text += "█";
  return text + kEighths[eighths % 8];
}

std::string plot(const std::vector<double>& x, const std::vector<double>& y, std::size_t width, std::size_t height) {
  std::vector<std::size_t> finite;
  for (std::size_t k = 0; k < std::min(x.size(), y.size()); ++k)
    if (std::isfinite(x[k]) && std::isfinite(y[k])) finite.push_back(k);
  if (finite.empty()) return {};
  const auto range = [&](const std::vector<double>& v) {
    double low = v[finite[0]], high = low;
    for (const std::size_t k : finite) low = std::min(low, v[k]), high = std::max(high, v[k]);
    return std::pair(low, high);
  };
  const auto [x_low, x_high] = range(x);
  const auto [y_low, y_high] = range(y);
  const auto place = [](double value, double low, double high, std::size_t cells) {
    return high > low
               ? static_cast<std::size_t>(std::lround((value - low) / (high - low) * static_cast<double>(cells - 1)))
               : 0;
  };
  // Of the points in one column the mean is drawn.
  std::vector<double> sum(width, 0), count(width, 0);
  for (const std::size_t k : finite) {
    const std::size_t column = place(x[k], x_low, x_high, width);
    sum[column] += y[k];
    ++count[column];
  }
  std::vector<std::string> rows(height, std::string(width, ' '));
  for (std::size_t c = 0; c < width; ++c)
    if (count[c] > 0) rows[height - 1 - place(sum[c] / count[c], y_low, y_high, height)][c] = '*';
  std::string text;
  for (std::size_t r = 0; r < height; ++r) {
    const std::string label = r == 0            ? fmt::format("{:.4g}", y_high)
                              : r + 1 == height ? fmt::format("{:.4g}", y_low)
                                                : "";
    text += fmt::format("{:>10} |{}\n", label, rows[r].substr(0, rows[r].find_last_not_of(' ') + 1));
  }
  text += fmt::format("{:>10} +{:-<{}}\n", "", "", width);
  text += fmt::format("{:>11} {:<{}g}{:>{}g}\n", "", x_low, width / 2, x_high, width - width / 2);
  return text;
}

}  // namespace moleblend::inspect
