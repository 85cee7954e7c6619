// SPDX-License-Identifier: Apache-2.0
#include "refinement.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "refuse.hpp"

namespace softstair {
namespace {

constexpr int kShareBits = 28;
constexpr std::int32_t kWhole = 1 << kShareBits;
constexpr int kPrior = 8, kMemory = 256;  // symbols that a first estimate counts for, and the most that any does

// Slots of a level and its mirror image.
int slots_of(const Tables& tables, int row, int level) {
  const int largest = tables.largest(row);
  if (level > largest) return 0;
  const std::uint16_t* cdf = tables.cdf(row) + largest;
  return cdf[level + 1] - cdf[level] + (cdf[1 - level] - cdf[-level]);
}

// Magnitudes of the layer before, in the steps of this one.
std::uint8_t magnitude_before(int level) { return ScaleField::magnitude_of(4 * level); }

// All latents of a layer that are split, in coding order: visit(rank, channel, place, row, level) gives a child
// of the level. Ends early where it says so.
template <typename Visit, typename GoesOn>
void walk(const Model& model, Size size, const std::int16_t* z, std::int16_t* levels, Visit visit, GoesOn goes_on) {
  ScaleField field(model.network, z, size.height, size.width, model.rate_bias.data(), model.exponent.data());
  const int channels = field.channels(), group = field.group();
  const std::size_t line = static_cast<std::size_t>(size.width) * channels;
  for (int y = 0; y < size.height; ++y) std::transform(levels + y * line, levels + (y + 1) * line, field.magnitudes(y), magnitude_before);
  std::vector<std::int16_t> rows(line / kPhases);
  for (int phase = 0; phase < kPhases; ++phase) {
    field.begin_refining(phase);
    std::size_t rank = 0;
    for (int y = 0; y < size.height; ++y) {
      field.rows(y, model.rule, rows.data());
      std::uint8_t* magnitudes = field.magnitudes(y);
      const std::int16_t* row = rows.data();
      for (int x = 0; x < size.width; ++x) {
        const int first = channel_group(y, x, phase) * group;
        const std::size_t in_line = static_cast<std::size_t>(x) * channels + first;
        std::int16_t* level = levels + y * line + in_line;
        for (int c = 0; c < group; ++c, ++row, ++level) {
          if (*level == 0 && *row == kSkipped) continue;
          *level = static_cast<std::int16_t>(visit(rank++, first + c, y * size.width + x, std::max<int>(*row, 0), *level));
          magnitudes[in_line + c] = ScaleField::magnitude_of(2 * *level);
        }
      }
      if (!goes_on()) return;
    }
  }
}

// What so many slots of 2^14 cost.
float bits_of(std::uint32_t slots) {
  static const auto kBits = [] {
    std::array<float, kProbabilityOne + 1> bits{};
    for (std::size_t i = 1; i < bits.size(); ++i) bits[i] = kProbabilityBits - std::log2(static_cast<float>(i));
    return bits;
  }();
  return kBits[slots];
}

}  // namespace

Shares::Shares(const Tables& tables) : shares_(static_cast<std::size_t>(tables.rows() + 1) / 2 * kKinds) {
  for (int row = 0; row < tables.rows(); row += 2) {
    const int near = std::min(row + 1, tables.rows() - 1);
    const std::int64_t one = slots_of(tables, near, 1), all = one + slots_of(tables, near, 0) / 2;
    for (int magnitude = 0; magnitude < kKinds; ++magnitude) of(row, magnitude) = {kWhole / 8 * 3, 0};
    of(row, 0).split = static_cast<std::int32_t>(one * kWhole / all);
  }
}

Split Shares::split(const Share& share, bool of_zero) {
  const int half = static_cast<int>(kProbabilityOne) / 2, slots = share.split >> (kShareBits - kProbabilityBits);
  if (of_zero) return {std::clamp(slots / 2, 1, half - 1), true};
  return {std::clamp(slots, 1, 2 * half - 1), false};
}

void Shares::see(Share& share, bool is_split) {
  share.split += ((is_split ? kWhole : 0) - share.split) / (share.seen + kPrior);
  share.seen = std::min(share.seen + 1, kMemory);
}

Fault LayerReader::read(const Model& model, std::span<const std::uint8_t> bytes, std::size_t& read) {
  Decoder decoder(bytes, lanes_for(size_));
  bool beyond = false;
  const auto visit = [&](std::size_t rank, int, std::size_t, int row, int level) {
    const int magnitude = level < 0 ? -level : level;
    Share& share = shares_.of(row, magnitude);
    const Split split = Shares::split(share, level == 0);
    const int child = split.child(magnitude, decoder.slot(rank));
    decoder.take(split.start(child), split.slots(child), rank);
    Shares::see(share, level == 0 ? child != 0 : (child & 1) != 0);
    if (child > kLargestSymbol) [[unlikely]] {
      beyond = true;
      return level;
    }
    return level < 0 ? -child : child;
  };
  walk(model, size_, z_.data(), levels_.data(), visit, [&] { return decoder.fault() == Fault::none && !beyond; });
  if (decoder.fault() == Fault::none) decoder.finish(false);
  read = decoder.position();
  return beyond && decoder.fault() == Fault::none ? Fault::corrupt : decoder.fault();
}

LayerWriter::LayerWriter(const Tables& tables, Size size, std::span<const std::int16_t> z, std::span<const std::int16_t> levels,
                         std::span<const float> residual)
    : size_(size), z_(z.begin(), z.end()), levels_(levels.begin(), levels.end()), residual_(residual.begin(), residual.end()), shares_(tables) {}

std::vector<std::uint8_t> LayerWriter::write(const Model& model, int behind, float rate_weight) {
  struct Coded {
    std::uint16_t start, slots;
    std::uint32_t rank;
  };
  std::vector<Coded> coded;
  if (std::any_of(levels_.begin(), levels_.end(), [](int level) { return level > kLargestLevel || level < -kLargestLevel; }))
    refuse("a level is too large to be split");
  scale_ *= 2;
  bits_ = 0;
  const auto visit = [&](std::size_t rank, int channel, std::size_t place, int row, int level) {
    const float residual = residual_[static_cast<std::size_t>(channel) * size_.height * size_.width + place] * scale_;
    const bool mirrored = level < 0 || (level == 0 && residual < 0);
    const int magnitude = level < 0 ? -level : level;
    Share& share = shares_.of(row, magnitude);
    const Split split = Shares::split(share, level == 0);
    const float seen = mirrored ? -residual : residual;
    const auto cost = [&](int child) {
      const float error = seen - value_in_layer(child, behind);
      return error * error + kAhead * error_ahead(seen, child, behind) + rate_weight * bits_of(split.slots(child));
    };
    const bool is_split = cost(2 * magnitude + 1) < cost(2 * magnitude);
    const int found = 2 * magnitude + is_split, child = level == 0 && mirrored ? -found : found;
    coded.push_back({static_cast<std::uint16_t>(split.start(child)), static_cast<std::uint16_t>(split.slots(child)), static_cast<std::uint32_t>(rank)});
    bits_ += bits_of(split.slots(child));
    Shares::see(share, is_split);
    return mirrored ? -found : found;
  };
  walk(model, size_, z_.data(), levels_.data(), visit, [] { return true; });
  Encoder encoder(lanes_for(size_));
  for (std::size_t i = coded.size(); i-- > 0;) encoder.write_slots(coded[i].start, coded[i].slots, coded[i].rank);
  return encoder.finish();
}

float error_ahead(float residual, int level, int behind) {
  if (behind == 0) return 0;
  if (level < 0 || (level == 0 && residual < 0)) residual = -residual, level = -level;
  float least = std::numeric_limits<float>::infinity();
  for (const int child : {2 * level, 2 * level + 1}) {
    const float error = 2 * residual - value_in_layer(child, behind - 1);
    least = std::min(least, error * error + kAhead * error_ahead(2 * residual, child, behind - 1));
  }
  return least;
}

}  // namespace softstair
