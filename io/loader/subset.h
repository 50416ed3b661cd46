#pragma once
// Which molecules of a data set are drawn from: all, one side of a split, or a list. All but the list are rules: they need no memory
// whatever the size, and any member is found in O(1).

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace moleblend {

struct Split;

/// An ordered set of molecule indices. Members near each other are near each other in the data set. Copies are cheap.
class Subset {
 public:
  /// Empty.
  Subset() = default;
  /// These molecules, in this order.
  Subset(std::vector<std::uint64_t> indices);
  Subset(std::initializer_list<std::uint64_t> indices) : Subset(std::vector<std::uint64_t>(indices)) {}
  /// 0, 1, … size − 1.
  static Subset all(std::uint64_t size);

  std::uint64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  /// The member at `position` < size().
  std::uint64_t operator[](std::uint64_t position) const;
  /// No member is this large. At most the size of the data set that the subset was made for.
  std::uint64_t bound() const;
  /// A stretch [first, end) of the data set in which the members [first, end) lie; for a list, only if it ascends.
  std::pair<std::uint64_t, std::uint64_t> stretch(std::uint64_t first, std::uint64_t end) const;
  /// Whether the members ascend.
  bool ascends() const;
  /// A text or bytes that only the same members have: short for a rule, every index for a list.
  std::string name() const;

  /// The same members in the same order.
  bool operator==(const Subset& other) const;

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::uint64_t;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = std::uint64_t;
    Iterator(const Subset& subset, std::uint64_t position) : subset_(&subset), position_(position) {}
    std::uint64_t operator*() const { return (*subset_)[position_]; }
    Iterator& operator++() { return ++position_, *this; }
    Iterator operator++(int) {
      Iterator before = *this;
      ++position_;
      return before;
    }
    bool operator==(const Iterator& other) const { return position_ == other.position_; }

   private:
    const Subset* subset_;
    std::uint64_t position_;
  };
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, size_}; }

 private:
  friend Split random_split(std::uint64_t size, double valid_fraction, std::uint64_t seed);
  enum class Rule { all, train, valid, list };

  Rule rule_ = Rule::all;
  std::uint64_t size_ = 0;
  std::uint64_t molecules_ = 0, valid_ = 0,
                seed_ = 0;  // of the split: the data set's size, the validation part's, the seed
  std::shared_ptr<const std::vector<std::uint64_t>> list_;
};

/// Validation and training part of a data set. Together they are all of it, and no molecule is in both.
struct Split {
  Subset train, valid;
};

/// Names the rule of random_split(): stands in checkpoints, whose validation part only the same rule finds again.
inline constexpr const char* kSplitRule = "stretches of 1024";

/// Draws round(valid_fraction · size) molecules for validation, a function of (size, valid_fraction, seed) alone: in every stretch
/// of 1,024 molecules the same share (to within one molecule) of it, and which ones by a permutation keyed by seed and stretch. With
/// a fraction between 0 and 1 and two molecules or more, neither part is empty. Throws UsageError unless 0 <= valid_fraction <= 1.
Split random_split(std::uint64_t size, double valid_fraction, std::uint64_t seed);

}  // namespace moleblend
