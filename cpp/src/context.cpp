// SPDX-License-Identifier: Apache-2.0
#include "context.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

#include "rans.hpp"
#include "refuse.hpp"
#include "scale_network.hpp"

namespace softstair {
namespace {

// Surprises and signs are in 2^-7, weights in 2^-12, their sums in 2^-8: rows, or leans.
constexpr Range kSurprise{-384, 384};
constexpr Range kRows{-8191, 8191};
constexpr Requantize kRowsFromSurprise{7 + 12 - 8, kRows};
constexpr int kSignShift = 7;
constexpr int kLargestSignGroup = 240;

// Of z: sums in 2^-12, hidden in 2^-6, outputs in 2^-15.
constexpr Requantize kHiddenFromSums{12 - 6, {0, 2047}};
constexpr int kMeanShift = 15 - 3, kScaleShift = 15 - 2;
constexpr int kFirstScale = 14;  // row 0 is 2^-3.5
constexpr int kOwnShift = 3;     // from z times a weight in 2^-12

void need(bool holds, const char* why) {
  if (!holds) refuse(why);
}

std::vector<RowFactor> joined(const std::vector<std::int16_t>& gain, const std::int16_t* bias) {
  std::vector<RowFactor> factors(gain.size());
  for (std::size_t row = 0; row < gain.size(); ++row) factors[row] = {gain[row], bias == nullptr ? std::int16_t{0} : bias[row]};
  return factors;
}

Weights of_block(const std::int16_t* weight, int group, int block) {
  const int blocks = group / kContextBlock;
  Weights part{{}, std::vector<std::int32_t>(kContextBlock, 0), kContextBlock, block * kContextBlock, 1};
  for (int i = 0; i < kContextBlock; ++i)
    for (int from = 0; from < block; ++from)
      for (int j = 0; j < kContextBlock; ++j)
        part.values.push_back(weight[static_cast<std::ptrdiff_t>(i * blocks + block) * group + j * blocks + from]);
  return part;
}

// The columns of a matrix of so many rows, one after the other, with zeros up to a length.
std::vector<std::int16_t> columns(const std::vector<std::int16_t>& matrix, std::size_t rows, std::size_t length) {
  const std::size_t count = matrix.size() / rows;
  std::vector<std::int16_t> result(count * length);
  for (std::size_t i = 0; i < matrix.size(); ++i) result[i % count * length + i / count] = matrix[i];
  return result;
}

// log2(1 + |z|) in 2^-4, along straight lines between powers of two.
int hyper_magnitude(int z) {
  const unsigned v = 1u + static_cast<unsigned>(std::abs(z));
  const int whole = std::bit_width(v) - 1;
  return 16 * whole + static_cast<int>(16 * v >> whole) - 16;
}
constexpr int kLargestMagnitude = 112;

int clipped(int z) { return std::clamp(z, -kLargestHyper, kLargestHyper); }

}  // namespace

PlaceNetwork::PlaceNetwork(const std::vector<std::int16_t>& weight, const std::vector<std::int16_t>& near,
                           std::vector<std::int16_t> expected, const std::vector<std::int16_t>& gain,
                           const std::vector<std::int16_t>& bias, bool simd)
    : group_(static_cast<int>(near.size() / (4 * kNearPlaces))), simd_(simd && simd_available()), expected_(std::move(expected)) {
  const auto area = static_cast<std::size_t>(group_) * group_;
  need(group_ > 0 && group_ % kContextBlock == 0 && group_ <= 1024 && near.size() == 4u * kNearPlaces * group_ && weight.size() == 4 * area,
       "the context of a place has the wrong shape");
  need(!expected_.empty() && gain.size() == expected_.size() && bias.size() == expected_.size(),
       "the context of a place has different numbers of rows");
  factors_ = joined(gain, bias.data());
  expected_.push_back(0);  // vectors read it with the last
  for (const std::int16_t e : expected_) need(e >= 0 && e <= kSurprise.high, "an expected magnitude is impossible");
  for (int g = 0; g < 4; ++g) {
    const std::int16_t* of_group = weight.data() + g * area;
    for (int i = 0; i < group_; ++i)
      for (int j = 0; j < group_; ++j)
        need(of_group[static_cast<std::ptrdiff_t>(i) * group_ + j] == 0 || j % blocks() < i % blocks(),
             "a channel would see one that is read later");
    for (int block = 1; block < blocks(); ++block) {
      const Weights w = of_block(of_group, group_, block);
      check_weights(w, kContextBlock, block * kContextBlock, 1, kSurprise.high, (kRows.high + 1LL) << kRowsFromSurprise.shift, "before");
      before_[g].emplace_back(w, kRowsFromSurprise, simd);
    }
    Weights taps{{}, std::vector<std::int32_t>(group_, 0), group_, 1, kNearPlaces};
    for (int block = 0; block < blocks(); ++block)
      for (int i = 0; i < kContextBlock; ++i)
        for (int tap = 0; tap < kNearPlaces; ++tap)
          taps.values.push_back(near[(static_cast<std::size_t>(g) * kNearPlaces + tap) * group_ + i * blocks() + block]);
    check_weights(taps, group_, 1, kNearPlaces, kSurprise.high, 1 << kRowsFromSurprise.shift, "near");
    near_[g] = Depthwise(taps, {{0, 1}, {2, 3}}, kRowsFromSurprise, simd);
  }
}

SignNetwork::SignNetwork(std::vector<std::int16_t> weight, std::vector<std::int16_t> near, const std::vector<std::int16_t>& gain,
                         std::vector<std::int16_t> skew, bool simd)
    : group_(static_cast<int>(near.size() / (16 * kNearPlaces))),
      simd_(simd && simd_available()),
      weight_(std::move(weight)),
      near_(std::move(near)),
      factors_(joined(gain, nullptr)),
      skew_(std::move(skew)) {
  const auto depth = static_cast<std::size_t>(group_);
  // Of so many weights no sum can leave int32.
  static_assert((kLargestSignGroup + kNearPlaces) * (1LL << 15) * (kLargestSign << kSignShift) + kRowsFromSurprise.half() <= std::numeric_limits<std::int32_t>::max());
  need(group_ > 0 && group_ % kContextBlock == 0 && group_ <= kLargestSignGroup && near_.size() == 16 * kNearPlaces * depth &&
           weight_.size() == 4 * depth * depth,
       "the context of signs has the wrong shape");
  need(!skew_.empty() && skew_.size() <= kMostLeans, "the context of signs has an impossible number of leans");
  for (const std::int16_t s : skew_) need(s >= 0 && s <= 255, "a skew of signs is impossible");
  for (std::size_t i = 0; i < weight_.size(); ++i)
    need(weight_[i] == 0 || i / depth % depth / kContextBlock < i % depth / kContextBlock, "a channel would see one that is read later");
}

PlaceField::PlaceField(std::shared_ptr<const PlaceNetwork> network, std::shared_ptr<const SignNetwork> signs, int width)
    : network_(std::move(network)), signs_(std::move(signs)), width_(width), blocks_(network_->blocks()) {
  surprise_.resize(3 * static_cast<std::size_t>(width_ + 4) * network_->group());
  of_near_.resize(network_->group());
  if (signs_) {
    sign_.resize(surprise_.size());
    sign_sums_.resize(network_->group());
  }
  const auto step = static_cast<std::ptrdiff_t>(2 * network_->group());
  for (int parity = 0; parity < 2; ++parity) {
    const std::ptrdiff_t above = -static_cast<std::ptrdiff_t>(2 - parity) * (width_ + 4) * network_->group();
    taps_[parity] = {{0, -step, above}, {1, above - step, above + step}};
  }
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
  const std::size_t line = static_cast<std::size_t>(width_ + 4) * network_->group();
  for (auto* lines : {&surprise_, &sign_})
    if (!lines->empty()) std::copy_n(lines->begin() + place(2, -2), line, lines->begin() + place(y_ & 1, -2));
}

// What places near say of all channels.
void PlaceField::begin_place(int x) {
  const int g = group_at(x), group = network_->group();
  const std::vector<TapPair>& taps = taps_[y_ & 1];
  network_->near_[g].apply<std::int16_t>(surprise_.data() + place(2, x), taps, 0, group, of_near_.data());
  if (!signs_) return;
  const std::int16_t* here = sign_.data() + place(2, x);
  const std::int16_t* const near[] = {here + taps[0].first, here + taps[0].second, here + taps[1].first, here + taps[1].second};
  const std::int16_t* weights = signs_->near_.data() + static_cast<std::ptrdiff_t>(4 * phase_ + g) * kNearPlaces * group;
  sum_products(near, weights, group, signs_->simd_, sign_sums_.data());
}

bool PlaceField::correct(int x, int block, BlockRows& out) {
  const PlaceNetwork& network = *network_;
  if (block == 0) begin_place(x);
  const std::int16_t* near = of_near_.data() + block * kContextBlock;
  const std::int16_t* given = rows_ + static_cast<std::ptrdiff_t>(x) * network.group_ + block;
  int all = kSkipped;
  out = {};
  for (int i = 0; i < kContextBlock; ++i) all &= out.row[i] = given_[i] = given[i * blocks_];
  if (all == kSkipped) return false;
  std::int16_t sums[kContextBlock];
  if (block == 0) {
    std::copy_n(near, kContextBlock, sums);
  } else {
    std::int32_t start[kContextBlock];
    for (int i = 0; i < kContextBlock; ++i) start[i] = near[i] * (1 << kRowsFromSurprise.shift);
    network.before_[group_at(x)][block - 1].apply({surprise_.data() + place(2, x), 0, 1}, {start, 0}, sums, 0);
  }
  move_rows(given_, given_, sums, network.factors_.data(), {0, network.rows() - 1}, network.simd_, out.row);
  if (!signs_) return true;
  requantize(sign_sums_.data() + block * kContextBlock, kRowsFromSurprise, signs_->simd_, sums);
  move_rows(out.row, out.lean, sums, signs_->factors_.data(), {-signs_->leans(), signs_->leans()}, signs_->simd_, out.lean);
  return true;
}

void PlaceField::see(int x, int block, const BlockSymbols& symbols) {
  const int first = block * kContextBlock, group = network_->group();
  std::int16_t* here = surprise_.data() + place(2, x) + first;
  surprises(given_, symbols.magnitude, network_->expected_.data(), network_->simd_, here);
  if (!signs_) return;
  here = sign_.data() + place(2, x) + first;
  for (int i = 0; i < kContextBlock; ++i) here[i] = static_cast<std::int16_t>(symbols.half_steps[i] * (1 << kSignShift));
  const int after = first + kContextBlock;
  if (symbols.there == 0 || after == group) return;
  const std::int16_t* columns = signs_->weight_.data() + static_cast<std::ptrdiff_t>(group_at(x) * group + first) * group + after;
  add_multiples({columns, group, here, symbols.there}, group - after, signs_->simd_, sign_sums_.data() + after);
}

HyperNetwork::HyperNetwork(Parts parts, int channels, std::shared_ptr<const Tables> tables, bool simd)
    : parts_(std::move(parts)), simd_(simd && simd_available()), place_(channels, -1), tables_(std::move(tables)) {
  const std::size_t n = parts_.live.size();
  need(n > 0 && n <= place_.size() && parts_.before.size() % n == 0, "the context of z has the wrong shape");
  hidden_ = static_cast<int>(parts_.before.size() / n);
  const auto hidden = static_cast<std::size_t>(hidden_);
  need(hidden > 0 && hidden <= 256 && parts_.around.size() == hidden * kAround * n && parts_.head.size() == 2 * n * hidden &&
           parts_.own.size() == 2 * n * kOwn,
       "the context of z has the wrong shape");
  need(tables_->rows() == kHyperRows * kMeanParts, "the context of z has tables of other rows");
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t channel = parts_.live[i];
    need(channel >= 0 && channel < channels && (i == 0 || channel > parts_.live[i - 1]), "the context of z names impossible channels");
    place_[channel] = static_cast<int>(i);
  }
  padded_ = (hidden_ + kPanel - 1) / kPanel * kPanel;
  around_ = columns(parts_.around, hidden, padded_);
  before_ = columns(parts_.before, hidden, padded_);
  least_ = kProbabilityBits;
  for (int row = 0; row < tables_->rows(); ++row) least_ = std::min(least_, least_bits(*tables_, row));
  // Sums: int16 weights on at most 5 * 4096 inputs of 127 could leave int32, so look.
  const auto total = [](const std::int16_t* w, std::size_t count) {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += std::abs(static_cast<int>(w[i]));
    return sum;
  };
  constexpr std::int64_t kRoom = std::numeric_limits<std::int32_t>::max() - kLargestRate;
  for (std::size_t h = 0; h < hidden; ++h)
    need((total(&parts_.around[h * kAround * n], kAround * n) + total(&parts_.before[h * n], n)) * kLargestHyper < kRoom,
         "the context of z could overflow its accumulators");
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t k = 0; k < 2; ++k)
      need(total(&parts_.head[(2 * i + k) * hidden], hidden) * kHiddenFromSums.range.high +
                   total(&parts_.own[(2 * i + k) * kOwn], kOwn) * (k == 0 ? kLargestHyper << kOwnShift : kLargestMagnitude) <
               kRoom,
           "the context of z could overflow its accumulators");
}

HyperPlace::HyperPlace(const HyperNetwork& network, const std::vector<std::int32_t>& rate)
    : network_(network), rate_(rate), sums_(network.padded_), active_(network.padded_) {}

void HyperPlace::begin(const std::int16_t* z, int y, int x, int width) {
  const auto depth = static_cast<std::ptrdiff_t>(network_.channels());
  const std::int16_t* here = z + (static_cast<std::ptrdiff_t>(y) * width + x) * depth;
  const std::ptrdiff_t line = width * depth;
  // The first four are those that every channel sees.
  near_ = {x > 0 ? here - depth : nullptr,
           y > 0 ? here - line : nullptr,
           y > 0 && x > 0 ? here - line - depth : nullptr,
           y > 0 && x + 1 < width ? here - line + depth : nullptr,
           x > 1 ? here - 2 * depth : nullptr,
           y > 1 ? here - 2 * line : nullptr};
  const int n = network_.live();
  std::fill(sums_.begin(), sums_.end(), 0);
  std::copy_n(rate_.begin(), network_.hidden(), sums_.begin());
  const std::int16_t* column = network_.around_.data();
  for (int from = 0; from < kAround; ++from)
    for (int i = 0; i < n; ++i, column += network_.padded_)
      if (near_[from] != nullptr) add(column, near_[from][network_.parts_.live[i]]);
}

// A column of weights times a symbol.
void HyperPlace::add(const std::int16_t* column, int symbol) {
  const auto factor = static_cast<std::int16_t>(clipped(symbol));
  if (factor != 0) add_multiples({column, 0, &factor, 1}, network_.padded_, network_.simd_, sums_.data());
}

HyperRow HyperPlace::row(int number) {
  const int hidden = network_.hidden();
  for (int h = 0; h < hidden; h += kPanel) requantize(sums_.data() + h, kHiddenFromSums, network_.simd_, active_.data() + h);
  const std::int16_t* head = network_.parts_.head.data() + static_cast<std::ptrdiff_t>(2 * number) * hidden;
  const std::int16_t* own = network_.parts_.own.data() + static_cast<std::ptrdiff_t>(2 * number) * kOwn;
  std::int32_t mean = rate_[hidden + 2 * number] + dot_product(active_.data(), head, hidden, network_.simd_);
  std::int32_t scale = rate_[hidden + 2 * number + 1] + dot_product(active_.data(), head + hidden, hidden, network_.simd_);
  const int channel = network_.parts_.live[number];
  for (int i = 0; i < kOwn; ++i) {
    if (near_[i] == nullptr) continue;
    const int symbol = clipped(near_[i][channel]);
    mean += (symbol * own[i]) * (1 << kOwnShift);
    scale += hyper_magnitude(symbol) * own[kOwn + i];
  }
  constexpr int kMost = kLargestHyper * kMeanParts;
  const int eighths = std::clamp((mean + (1 << (kMeanShift - 1))) >> kMeanShift, -kMost, kMost);
  const int row = std::clamp((scale >> kScaleShift) + kFirstScale, 0, kHyperRows - 1);
  return {row * kMeanParts + (eighths & (kMeanParts - 1)), eighths >> 3};
}

void HyperPlace::see(int number, int symbol) {
  add(network_.before_.data() + static_cast<std::ptrdiff_t>(number) * network_.padded_, symbol);
}

}  // namespace softstair
