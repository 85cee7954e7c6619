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

SOFTSTAIR_SMALL SOFTSTAIR_ONCE void look_up(const std::int16_t* table, const std::int16_t* rows, std::int32_t* found) {
  for (int i = 0; i < kContextBlock; ++i) found[i] = table[rows[i]];
}

}  // namespace

PlaceField::PlaceField(std::shared_ptr<const PlaceNetwork> network, std::shared_ptr<const SignNetwork> signs, int width)
    : network_(std::move(network)), signs_(std::move(signs)), width_(width), blocks_(network_->blocks()) {
  const std::size_t group = network_->group();
  surprise_.resize(3 * (width_ + 4) * group);
  if (signs_) sign_.resize(surprise_.size());
  means_.resize(kMeans * 4 * group);
  given_.resize(group);
  coded_.resize(group);
  count_.resize(blocks_);
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
  for (int block = 0, at = 0; block < blocks_; ++block) {
    std::uint8_t* coded = coded_.data() + at;
    int count = 0;
    for (int i = 0; i < kContextBlock; ++i, ++at) {
      const std::int16_t row = given_[at] = rows[i * blocks_ + block];
      coded[count] = static_cast<std::uint8_t>(i);
      count += row != kSkipped;
    }
    count_[block] = static_cast<std::uint8_t>(count);
  }
  for (auto* lines : {&surprise_, &sign_})
    if (!lines->empty()) std::fill_n(lines->begin() + here_, group, std::int16_t{0});
  block_ = -1;
  go_on();
}

// Finds the block after this one, and sums what is known for it already: all but this block itself. That is done while
// symbols of this one are waited for.
void PlaceField::go_on() {
  for (next_ = block_ + 1; next_ < blocks_ && count_[next_] == 0; ++next_) {}
  if (next_ == blocks_) return;
  const int known = std::max(block_, 0) * kContextBlock;
  sum_near(surprise_, network_->weights_, network_->simd_, row_sums_);
  for (std::int32_t& sum : row_sums_) sum = kRowsFromSurprise(sum) * (1 << kRowsFromSurprise.shift);
  add_products(network_->weights_.of_before(group_here_, next_), surprise_.data() + here_, known, network_->simd_, row_sums_);
  if (!signs_) return;
  sum_near(sign_, signs_->weights_, signs_->simd_, lean_sums_);
  add_products(signs_->weights_.of_before(group_here_, next_), sign_.data() + here_, known, signs_->simd_, lean_sums_);
}

// What places near say of the next block: left, above, above left, above right, then the means of places before.
void PlaceField::sum_near(const std::vector<std::int16_t>& lines, const PlaceWeights& weights, bool simd, std::int32_t* sums) const {
  const std::ptrdiff_t group = network_->group(), step = 2 * group, above = -(2 - y_ % 2) * (width_ + 4) * group;
  const std::int16_t* here = lines.data() + here_ + next_ * kContextBlock;
  const std::int16_t* mean = means_.data() + group_here_ * group + next_ * kContextBlock;
  const std::array near{here - step, here + above, here + above - step, here + above + step, mean, mean + 4 * group};
  sum_products({near.data(), static_cast<std::size_t>(weights.nears)}, weights.of_near(phase_, group_here_, next_), simd, sums);
}

bool PlaceField::next_block() {
  if (signs_ && block_ >= 0) weigh(half_steps_, unit_, sign_.data() + here_ + block_ * kContextBlock);
  if (next_ == blocks_) return false;
  std::int16_t moves[kContextBlock];
  const auto finish = [&](const auto& network, const std::vector<std::int16_t>& seen, std::int32_t* sums) {
    if (block_ >= 0) {
      const int last = block_ * kContextBlock;
      add_products(network.weights_.of_before(group_here_, next_) + last * kContextBlock, seen.data() + here_ + last, kContextBlock, network.simd_, sums);
    }
    requantize(sums, kRowsFromSurprise, network.simd_, moves);
    return network.factors_.data() - kSkipped;
  };
  const std::int16_t* given = given_.data() + next_ * kContextBlock;
  const RowFactor* factors = finish(*network_, surprise_, row_sums_);
  move_rows(given, given, moves, factors, {0, network_->rows() - 1}, network_->simd_, row_);
  if (signs_) {
    factors = finish(*signs_, sign_, lean_sums_);
    static constexpr std::int16_t kUpright[kContextBlock] = {};
    move_rows(row_, kUpright, moves, factors, {-signs_->leans(), signs_->leans()}, signs_->simd_, lean_);
    look_up(signs_->unit_.data() - kSkipped, given, unit_);
  }
  block_ = next_;
  go_on();
  return true;
}

}  // namespace softstair
