// SPDX-License-Identifier: Apache-2.0
// Integer probability tables: what the entropy coder knows of a distribution.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "refuse.hpp"

namespace softstair {

constexpr int kProbabilityBits = 14;
constexpr std::uint32_t kProbabilityOne = 1u << kProbabilityBits;
constexpr int kGrowing = 9;    // magnitudes that lean more and more
constexpr int kClassBits = 4;  // of an escape: bit length of what exceeds the table

// A set of CDFs. Row r codes the values -K..K of its own K, then an escape; slots of row r are
// [cdf[i], cdf[i + 1]) for symbol i = value + K.
class Tables {
 public:
  // cdf: all rows one after the other, each starting with 0 and ending with 2^14.
  // offsets: rows + 1 positions into cdf. Throws std::invalid_argument on anything else.
  Tables(std::vector<std::uint16_t> cdf, std::vector<std::int32_t> offsets)
      : cdf_(std::move(cdf)) {
    if (offsets.size() < 2 || offsets.front() != 0 ||
        offsets.back() != static_cast<std::int64_t>(cdf_.size()))
      refuse("table offsets do not cover the table");
    for (std::size_t row = 0; row + 1 < offsets.size(); ++row)
      add_row(offsets[row], offsets[row + 1]);
    build_buckets();
#ifndef SOFTSTAIR_BROWSER
    build_bits();  // for encoders
#endif
  }

  // The same, and after every row one for each class k from 1 to leans, in which v > 0 has skew[s - 1] / 256 of the slots
  // of -v, too: row r of class k at r (leans + 1) + k. s is k, and grows with v by growth / 256 of k for every step, as
  // far as there are skews. growth: of so many rows each. A skew is in [0, 255], a growth is not negative.
  Tables leaning(int leans, std::span<const std::int16_t> skew, std::span<const std::int16_t> growth) const {
    const std::size_t classes = static_cast<std::size_t>(leans) + 1, alike = rows_.size() / growth.size();
    std::vector<std::uint16_t> cdf(classes * cdf_.size());
    std::vector<std::int32_t> offsets(classes * rows_.size() + 1);
    std::int32_t start = 0;
    for (std::size_t i = 0; i < classes * rows_.size(); ++i) {
      const Row& of = rows_[i / classes];
      const int k = static_cast<int>(i % classes), last = 2 * of.largest;  // symbol of K; the escape follows
      const std::uint16_t* plain = cdf_.data() + of.offset;
      std::copy_n(plain, last + 3, cdf.data() + start);
      // From the outside in: all that negative values lose is gained by positive ones.
      for (int symbol = 0, lost = 0; k > 0 && symbol < of.largest; ++symbol) {
        const int more = std::min(of.largest - symbol, kGrowing) - 1;
        const int s = std::min(k + ((k * growth[i / classes / alike] * more + (1 << 7)) >> 8), static_cast<int>(skew.size()));
        lost += (plain[symbol + 1] - plain[symbol]) * skew[s - 1] >> 8;
        for (const int at : {symbol + 1, last - symbol}) cdf[start + at] = static_cast<std::uint16_t>(plain[at] - lost);
      }
      start += last + 3;
      offsets[i + 1] = start;
    }
    return Tables(std::move(cdf), std::move(offsets));
  }

  int rows() const { return static_cast<int>(rows_.size()); }
  int largest(int row) const { return rows_[row].largest; }
  int symbols(int row) const { return 2 * rows_[row].largest + 2; }
  const std::uint16_t* cdf(int row) const { return cdf_.data() + rows_[row].offset; }

  // What a value costs: what an ideal coder would spend on it with this table.
  float bits(int row, int value) const {
    const Row& r = rows_[row];
    const float* bits = bits_around_zero(row);
    if (value >= -r.largest && value <= r.largest) return bits[value];
    const auto over = static_cast<std::uint32_t>((value < 0 ? -value : value) - r.largest);
    return bits[r.largest + 1] + static_cast<float>(kClassBits + std::bit_width(over));
  }

  // Bits of the values -K..K of a row, as offsets from the pointer.
  const float* bits_around_zero(int row) const {
    return bits_.data() + rows_[row].offset + rows_[row].largest;
  }

  // The symbol whose slots contain `slot` < 2^14.
  int find(int row, std::uint32_t slot) const {
    const std::uint16_t* c = cdf(row);
    int i = buckets_[static_cast<std::size_t>(row) * kBuckets + (slot >> kBucketShift)];
    while (c[i + 1] <= slot) ++i;
    return i;
  }

 private:
  static constexpr int kBuckets = 64;
  static constexpr int kBucketShift = kProbabilityBits - 6;

  struct Row {
    std::int32_t offset, largest;
  };

  void add_row(std::int64_t first, std::int64_t last) {
    const std::int64_t entries = last - first;
    if (first < 0 || last > static_cast<std::int64_t>(cdf_.size()) || entries < 3 ||
        entries % 2 == 0)
      refuse("a table row needs an even number of symbols, at least two");
    if (cdf_[first] != 0 || cdf_[last - 1] != kProbabilityOne)
      refuse("a table row must run from 0 to 2^14");
    for (std::int64_t i = first; i + 1 < last; ++i)
      if (cdf_[i] >= cdf_[i + 1]) refuse("a table row must strictly increase");
    const std::int64_t largest = (entries - 3) / 2;  // 2 K + 2 symbols have one entry more
    rows_.push_back({static_cast<std::int32_t>(first), static_cast<std::int32_t>(largest)});
  }

  void build_buckets() {
    buckets_.resize(static_cast<std::size_t>(rows()) * kBuckets);
    for (int row = 0; row < rows(); ++row) {
      const std::uint16_t* c = cdf(row);
      int i = 0;
      for (int bucket = 0; bucket < kBuckets; ++bucket) {
        const std::uint32_t slot = static_cast<std::uint32_t>(bucket) << kBucketShift;
        while (c[i + 1] <= slot) ++i;
        buckets_[static_cast<std::size_t>(row) * kBuckets + bucket] = static_cast<std::uint8_t>(std::min(i, 255));
      }
    }
  }

  void build_bits() {
    bits_.resize(cdf_.size());
    for (std::size_t i = 0; i + 1 < cdf_.size(); ++i)
      // Between two rows stands a value that nobody reads.
      bits_[i] = kProbabilityBits - std::log2(static_cast<float>(
                                        cdf_[i + 1] > cdf_[i] ? cdf_[i + 1] - cdf_[i] : 1));
  }

  std::vector<std::uint16_t> cdf_;
  std::vector<float> bits_;  // as cdf_: of the symbol whose slots start there
  std::vector<Row> rows_;
  std::vector<std::uint8_t> buckets_;  // a symbol at or before that of a bucket's first slot: less room in the cache
};

}  // namespace softstair
