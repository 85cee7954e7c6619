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

constexpr Range kSurprise{-384, 384};
constexpr int kLargestSignGroup = 240;

// Of z: sums in 2^-12, hidden in 2^-6, outputs in 2^-15.
constexpr Requantize kHiddenFromSums{12 - 6, {0, 2047}};
constexpr int kMeanShift = 15 - 3, kScaleShift = 15 - 2;
constexpr int kFirstScale = 14;  // row 0 is 2^-3.5
constexpr int kOwnShift = 3;     // from z times a weight in 2^-12

void need(bool holds, const char* why) {
  if (!holds) refuse(why);
}

// By row, from kSkipped on.
std::vector<RowFactor> joined(const std::vector<std::int16_t>& gain, const std::int16_t* bias) {
  std::vector<RowFactor> factors = {{0, 0}};
  for (std::size_t row = 0; row < gain.size(); ++row) factors.push_back({gain[row], bias == nullptr ? std::int16_t{0} : bias[row]});
  return factors;
}

// A panel of so many inputs, weight(output, input).
template <typename Weight>
void add_panel(int inputs, std::vector<std::int16_t>& panels, const Weight& weight) {
  for (int input = 0; input < inputs; input += 2)
    for (int i = 0; i < 2 * kContextBlock; ++i) panels.push_back(weight(i / 2, input + i % 2));
}

// Weights as a bundle has them. Steps lead from channel to channel of what is read, and of what was read.
struct Given {
  const std::vector<std::int16_t>&weight, &near;
  int output_step, input_step;
  bool in_order;  // of reading
  int nears;
  bool by_phase;
};

// Nears that are not given are zero.
PlaceWeights in_panels(int channels, int nears, const Given& given, std::vector<RowFactor> factors, bool simd) {
  PlaceWeights all{simd && simd_available(), channels / kContextBlock, nears, {}, {}, std::move(factors)};
  const auto channel = [&](int at) { return given.in_order ? at : at % kContextBlock * all.blocks + at / kContextBlock; };
  for (int g = 0; g < 4; ++g)
    for (int block = 1; block < all.blocks; ++block)
      add_panel(block * kContextBlock, all.before, [&](int i, int input) {
        return given.weight[g * channels * channels + channel(block * kContextBlock + i) * given.output_step + channel(input) * given.input_step];
      });
  for (int g = 0; g < 16; ++g)
    for (int block = 0; block < all.blocks; ++block)
      add_panel(nears, all.near, [&](int i, int number) {
        if (number >= given.nears) return std::int16_t{0};
        return given.near[((given.by_phase ? g : g % 4) * given.nears + number) * channels + channel(block * kContextBlock + i)];
      });
  return all;
}

// The sum of the absolute values of so many weights.
std::int64_t total(const std::int16_t* weights, std::size_t count) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += std::abs(static_cast<int>(weights[i]));
  return sum;
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

PlaceNetwork::PlaceNetwork(Parts parts, bool simd) {
  // Without the means, places near are the same to all phases.
  constexpr std::size_t kSeen = kNearPlaces + kMeans;
  const std::vector<std::int16_t>&weight = parts.weight, &near = parts.near;
  const bool means = near.size() * near.size() == weight.size() * (64 * kSeen * kSeen);
  const std::size_t depth = near.size() / (means ? 16 * kSeen : 4 * kNearPlaces), area = depth * depth;
  group_ = static_cast<int>(depth);
  need(depth > 0 && depth % kContextBlock == 0 && depth <= 1024 && near.size() % depth == 0 && weight.size() == 4 * area,
       "the context of a place has the wrong shape");
  const std::size_t rows = parts.expected.size();
  need(rows > 0 && parts.gain.size() == rows && parts.bias.size() == rows, "the context of a place has different numbers of rows");
  expected_.push_back(0);
  for (const std::int16_t e : parts.expected) {
    need(e >= 0 && e <= kSurprise.high, "an expected magnitude is impossible");
    expected_.push_back(e);
  }
  for (std::size_t i = 0; i < weight.size(); ++i)
    need(weight[i] == 0 || i % depth % blocks() < i / depth % depth % blocks(), "a channel would see one that is read later");
  // An accumulator begins with what places near say, and half of the last bit.
  const std::int64_t room = std::numeric_limits<std::int32_t>::max() - ((kRows.high + 1LL) << kRowsFromSurprise.shift);
  for (std::size_t i = 0; i < weight.size(); i += depth)
    need(total(&weight[i], depth) * kSurprise.high <= room, "the context of a place could overflow its accumulators");
  static_assert((kNearPlaces + (kMeans << kMeanBits)) * (1LL << 15) * kSurprise.high + kRowsFromSurprise.half() <=
                std::numeric_limits<std::int32_t>::max());
  weights_ = in_panels(group_, kSeen, {weight, near, group_, 1, false, means ? static_cast<int>(kSeen) : kNearPlaces, means},
                       joined(parts.gain, parts.bias.data()), simd);
}

SignNetwork::SignNetwork(const std::vector<std::int16_t>& weight, const std::vector<std::int16_t>& near, const std::vector<std::int16_t>& gain,
                         const std::vector<std::int16_t>& unit, std::vector<std::int16_t> growth, std::vector<std::int16_t> skew, bool simd)
    : group_(static_cast<int>(near.size() / (16 * kNearPlaces))),
      growth_(std::move(growth)),
      skew_(std::move(skew)) {
  const std::size_t depth = group_, area = depth * depth;
  // Of so many weights no sum can leave int32.
  static_assert((kLargestSignGroup + kNearPlaces) * (1LL << 15) * kSignFromUnits.range.high + kRowsFromSurprise.half() <= std::numeric_limits<std::int32_t>::max());
  need(group_ > 0 && group_ % kContextBlock == 0 && group_ <= kLargestSignGroup && near.size() == 16 * kNearPlaces * depth &&
           weight.size() == 4 * area,
       "the context of signs has the wrong shape");
  need(!skew_.empty() && skew_.size() <= kMostSkews, "the context of signs has an impossible number of leans");
  need(!gain.empty() && unit.size() == gain.size() && growth_.size() == gain.size(), "the context of signs has different numbers of rows");
  unit_.push_back(0);
  for (std::size_t row = 0; row < unit.size(); ++row) {
    need(unit[row] >= 0 && growth_[row] >= 0, "a unit or a growth of signs is negative");
    unit_.push_back(unit[row]);
  }
  for (const std::int16_t s : skew_) need(s >= 0 && s <= 255, "a skew of signs is impossible");
  for (std::size_t i = 0; i < weight.size(); ++i)
    need(weight[i] == 0 || i / depth % depth / kContextBlock < i % depth / kContextBlock, "a channel would see one that is read later");
  weights_ = in_panels(group_, kNearPlaces, {weight, near, 1, group_, true, kNearPlaces, true}, joined(gain, nullptr), simd);  // none leans by itself
}

Tables SignNetwork::leaning(const Tables& tables) const {
  need(tables.rows() == rows() || tables.rows() == 2 * rows(), "the context of signs does not fit the tables");
  return tables.leaning(leans(), skew_, growth_);
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
  const int seen = kAround * static_cast<int>(n);
  for (int first = 0; first < padded_; first += kPanel)
    add_panel(seen, around_, [&](int i, int input) { return first + i < hidden_ ? parts_.around[(first + i) * seen + input] : std::int16_t{0}; });
  before_ = columns(parts_.before, hidden, padded_);
  head_.resize(2 * n * padded_);
  for (std::size_t i = 0; i < parts_.head.size(); ++i) head_[i / hidden * padded_ + i % hidden] = parts_.head[i];
  least_ = kProbabilityBits;
  for (int row = 0; row < tables_->rows(); ++row) least_ = std::min(least_, least_bits(*tables_, row));
  // Sums: int16 weights on at most 5 * 4096 inputs of 127 could leave int32, so look.
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
    : network_(network), rate_(rate), sums_(network.padded_), active_(network.padded_), around_(kAround * network.parts_.live.size()) {}

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
  std::int16_t* seen = around_.data();
  for (int from = 0; from < kAround; ++from)
    for (const std::int32_t channel : network_.parts_.live)
      *seen++ = static_cast<std::int16_t>(near_[from] != nullptr ? clipped(near_[from][channel]) : 0);
  const int count = static_cast<int>(around_.size());
  std::copy_n(rate_.begin(), network_.hidden(), sums_.begin());
  for (int h = 0; h < network_.padded_; h += kPanel)
    add_products(network_.around_.data() + h * count, around_.data(), count, network_.simd_, &sums_[h]);
}

HyperRow HyperPlace::row(int number) {
  const int hidden = network_.hidden();
  for (int h = 0; h < hidden; h += kPanel) requantize(sums_.data() + h, kHiddenFromSums, network_.simd_, active_.data() + h);
  const int padded = network_.padded_;
  const std::int16_t* head = network_.head_.data() + static_cast<std::ptrdiff_t>(2 * number) * padded;
  const std::int16_t* own = network_.parts_.own.data() + static_cast<std::ptrdiff_t>(2 * number) * kOwn;
  std::int32_t mean = rate_[hidden + 2 * number] + dot_product(active_.data(), head, padded, network_.simd_);
  std::int32_t scale = rate_[hidden + 2 * number + 1] + dot_product(active_.data(), head + padded, padded, network_.simd_);
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
  const std::int16_t* column = network_.before_.data() + static_cast<std::ptrdiff_t>(number) * network_.padded_;
  if (symbol != 0) add_multiple(column, static_cast<std::int16_t>(clipped(symbol)), network_.padded_, sums_.data());
}

}  // namespace softstair
