// SPDX-License-Identifier: Apache-2.0
// The side of context.hpp that works for every latent.
#include <algorithm>

#include "context.hpp"
#include "scale_network.hpp"
#include "vectors.hpp"

namespace softstair {
namespace {

constexpr int kMeanPlaces = 4;  // the first mean is of some 2^4 places, the second of 2^6

// Running means over some 2^shift values take the next ones. Differences fit 16 bits.
SOFTSTAIR_ONCE void follow(const std::int16_t* values, int shift, int count, std::int16_t* means) {
#ifdef SOFTSTAIR_VECTORS
  for (int i = 0; i < count; i += 8) {
    const Eight mean = load<Eight>(means + i);
    store(means + i, mean + (((load<Eight>(values + i) << kMeanBits) - mean) >> static_cast<std::int16_t>(shift)));
  }
#else
  for (int i = 0; i < count; ++i) means[i] = static_cast<std::int16_t>(means[i] + ((values[i] * (1 << kMeanBits) - means[i]) >> shift));
#endif
}

// Signs of a block as they are seen.
SOFTSTAIR_ONCE void weigh(const std::int32_t* half_steps, const std::int32_t* units, std::int16_t* signs) {
  for (int i = 0; i < kContextBlock; ++i) signs[i] = kSignFromUnits(half_steps[i] * units[i]);
}

template <typename Value>
SOFTSTAIR_SMALL SOFTSTAIR_ONCE void look_up(const std::int16_t* table, const std::int16_t* rows, Value* found) {
  for (int i = 0; i < kContextBlock; ++i) found[i] = table[rows[i]];
}

// Every so many-th row, and which of them are coded, a bit each.
SOFTSTAIR_SMALL SOFTSTAIR_ONCE unsigned gather(const std::int16_t* rows, int step, std::int16_t* gathered) {
  unsigned coded = 0;
  for (int i = 0; i < kContextBlock; ++i, rows += step) {
    gathered[i] = *rows;
    coded |= static_cast<unsigned>(*rows != kSkipped) << i;
  }
  return coded;
}

}  // namespace

PlaceField::PlaceField(std::shared_ptr<const PlaceNetwork> network, std::shared_ptr<const SignNetwork> signs, int width)
    : network_(std::move(network)), signs_(std::move(signs)), width_(width), blocks_(network_->blocks()) {
  const std::size_t group = network_->group();
  surprise_.resize(3 * (width_ + 4) * group);
  if (signs_) sign_.resize(surprise_.size());
  means_.resize(kMeans * 4 * group);
  given_.resize(group);
  coded_.resize(blocks_);
}

void PlaceField::begin_phase(int phase) {
  phase_ = phase;
  for (auto* lines : {&surprise_, &sign_}) std::fill(lines->begin(), lines->end(), std::int16_t{0});
}

int PlaceField::group_at(int x) const { return channel_group(y_, x, phase_); }

void PlaceField::begin_line(int y, const std::int16_t* rows) {
  y_ = y;
  rows_ = rows;
}

void PlaceField::end_line() {
  const std::size_t group = network_->group(), line = (width_ + 4) * group;
  for (int x = 0; x < width_; ++x)
    for (int k = 0; k < kMeans; ++k)
      follow(surprise_.data() + place(2, x), kMeanPlaces + 2 * k, static_cast<int>(group), means_.data() + (4 * k + group_at(x)) * group);
  for (auto* lines : {&surprise_, &sign_})
    if (!lines->empty()) std::copy_n(lines->begin() + place(2, -2), line, lines->begin() + place(y_ & 1, -2));
}

void PlaceField::begin_place(int x) {
  const int group = network_->group();
  group_here_ = group_at(x);
  here_ = place(2, x);
  const std::int16_t* rows = rows_ + static_cast<std::ptrdiff_t>(x) * group;
  std::int16_t* given = given_.data();
  for (int block = 0; block < blocks_; ++block, given += kContextBlock)
    coded_[block] = static_cast<std::uint16_t>(gather(rows + block, blocks_, given));
  for (auto* lines : {&surprise_, &sign_})
    if (!lines->empty()) std::fill_n(lines->begin() + here_, group, std::int16_t{0});
  block_ = -1;
  go_on();
}

// Finds the block after this one, and sums what is known for it already: all but this block itself. That is done while
// symbols of this one are waited for.
void PlaceField::go_on() {
  for (next_ = block_ + 1; next_ < blocks_ && coded_[next_] == 0; ++next_) {}
  if (next_ == blocks_) return;
  sum_known(network_->weights_, surprise_, true, row_sums_);
  if (signs_) sum_known(signs_->weights_, sign_, false, lean_sums_);
}

// What places near say of the next block (left, above, above left, above right, then the means of places before), and the
// blocks before the one that is read.
SOFTSTAIR_ONCE void PlaceField::sum_known(const PlaceWeights& weights, const std::vector<std::int16_t>& lines, bool near_is_clipped, std::int32_t* sums) const {
  const std::ptrdiff_t group = network_->group(), step = 2 * group, above = -(2 - y_ % 2) * (width_ + 4) * group;
  const std::int16_t* here = lines.data() + here_ + next_ * kContextBlock;
  const std::int16_t* mean = means_.data() + group_here_ * group + next_ * kContextBlock;
  const std::array near{here - step, here + above, here + above - step, here + above + step, mean, mean + 4 * group};
  sum_products({near.data(), static_cast<std::size_t>(weights.nears)}, weights.of_near(phase_, group_here_, next_), weights.simd, sums);
  if (near_is_clipped)
    for (int i = 0; i < kContextBlock; ++i) sums[i] = kRowsFromSurprise(sums[i]) * (1 << kRowsFromSurprise.shift);
  add_products(weights.of_before(group_here_, next_), lines.data() + here_, std::max(block_, 0) * kContextBlock, weights.simd, sums);
}

// The block that was read comes last; then sums move rows or leans.
SOFTSTAIR_ONCE void PlaceField::finish(const PlaceWeights& weights, const std::vector<std::int16_t>& lines, std::int32_t* sums, const std::int16_t* row,
                                       const std::int16_t* start, Range range, std::int16_t* out) const {
  if (block_ >= 0) {
    const int last = block_ * kContextBlock;
    add_products(weights.of_before(group_here_, next_) + last * kContextBlock, lines.data() + here_ + last, kContextBlock, weights.simd, sums);
  }
  move_rows(row, start, sums, kRowsFromSurprise, weights.factors.data() - kSkipped, range, weights.simd, out);
}

bool PlaceField::next_block() {
  if (block_ >= 0) {
    const std::size_t at = here_ + block_ * kContextBlock;
    for (int i = 0; i < kContextBlock; ++i) surprise_[at + i] = static_cast<std::int16_t>(magnitude_[i] - expected_[i]);
    if (signs_) weigh(half_steps_, unit_, sign_.data() + at);
  }
  if (next_ == blocks_) return false;
  const std::int16_t* given = given_.data() + next_ * kContextBlock;
  finish(network_->weights_, surprise_, row_sums_, given, given, {0, network_->rows() - 1}, row_);
  look_up(network_->expected_.data() - kSkipped, given, expected_);
  std::fill_n(magnitude_, kContextBlock, std::int16_t{0});
  if (signs_) {
    static constexpr std::int16_t kUpright[kContextBlock] = {};
    finish(signs_->weights_, sign_, lean_sums_, row_, kUpright, {-signs_->leans(), signs_->leans()}, lean_);
    look_up(signs_->unit_.data() - kSkipped, given, unit_);
  }
  block_ = next_;
  go_on();
  return true;
}

}  // namespace softstair
