// SPDX-License-Identifier: Apache-2.0
// Layers behind the first, of steps half as wide: each splits the cells of the layer before. Zero has the
// children -1, 0 and 1; a level m > 0 has 2 m and 2 m + 1, one below zero their mirror image. So the levels
// of a layer are those of the last one without their lowest bits, towards zero.
// Embedded dead-zone quantization: D. S. Taubman and M. W. Marcellin, "JPEG2000", 2002, chapter 3.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tile_decoder.hpp"

namespace softstair {

// Where a level m > 0 lies in its cell, in steps beyond m: of a layer that others come after, and of the last.
constexpr float kInCell = 0.125f, kInLastCell = -0.09375f;

// What an encoder minds of the squared error of the next layer.
constexpr float kAhead = 0.5f;

// What parents of a kind were split into so far: an estimate of 2^-28, and how many it was learned from.
struct Share {
  std::int32_t split;
  std::int32_t seen;
};

// How a parent's 2^14 slots are divided. Zero: `outer` for -1, then those of 0, then `outer` for 1. Else:
// those of the child nearer to zero, then `outer` for the other.
struct Split {
  int outer;
  bool of_zero;

  std::uint32_t start(int child) const {
    const int one = static_cast<int>(kProbabilityOne);
    if (of_zero) return child < 0 ? 0 : child == 0 ? outer : one - outer;
    return (child & 1) != 0 ? one - outer : 0;
  }
  std::uint32_t slots(int child) const {
    const int one = static_cast<int>(kProbabilityOne);
    if (of_zero) return child == 0 ? one - 2 * outer : outer;
    return (child & 1) != 0 ? outer : one - outer;
  }
  // Child of a level > 0 or of zero in whose slots this one is.
  int child(int level, std::uint32_t slot) const {
    const auto one = static_cast<int>(kProbabilityOne), at = static_cast<int>(slot);
    if (of_zero) return at < outer ? -1 : at < one - outer ? 0 : 1;
    return 2 * level + (at >= one - outer);
  }
};

// The estimates of a tile: of every pair of table rows, for zero, for 1 to 5, and for levels beyond.
class Shares {
 public:
  // tables: of y, from which zeros' begin.
  explicit Shares(const Tables& tables);

  Share& of(int row, int magnitude) {
    constexpr int kLast = kKinds - 1;
    return shares_[static_cast<std::size_t>(row / 2) * kKinds + (magnitude < kLast ? magnitude : kLast)];
  }
  static Split split(const Share& share, bool of_zero);
  static void see(Share& share, bool is_split);

 private:
  static constexpr int kKinds = 7;
  std::vector<Share> shares_;
};

// Reads layers of a tile, one after the other.
class LayerReader {
 public:
  // levels: (height, width, C), of the first layer; refined in place. All must outlive this.
  LayerReader(const Tables& tables, Size size, std::span<const std::int16_t> z, std::span<std::int16_t> levels)
      : size_(size), z_(z), levels_(levels), shares_(tables) {}

  // Reads the next layer. model: at its steps. read: how many bytes it took.
  Fault read(const Model& model, std::span<const std::uint8_t> bytes, std::size_t& read);

 private:
  Size size_;
  std::span<const std::int16_t> z_;
  std::span<std::int16_t> levels_;
  Shares shares_;
};

// Decides and writes layers of a tile, one after the other.
class LayerWriter {
 public:
  // levels: of the first layer. residual: (C, height, width), what is quantized, in its steps. Both are copied.
  LayerWriter(const Tables& tables, Size size, std::span<const std::int16_t> z, std::span<const std::int16_t> levels,
              std::span<const float> residual);

  // The next layer's bytes: children of least squared error, some of that of layers to come, and rate.
  // behind: how many layers come after it. rate_weight: squared steps that a bit is worth. Throws
  // std::invalid_argument if a level of the layer before is beyond kLargestLevel.
  std::vector<std::uint8_t> write(const Model& model, int behind, float rate_weight);

  Size size() const { return size_; }
  const std::vector<std::int16_t>& levels() const { return levels_; }
  // What the shares of the last layer alone charged, in bits.
  double bits() const { return bits_; }

 private:
  Size size_;
  std::vector<std::int16_t> z_, levels_;
  std::vector<float> residual_;
  Shares shares_;
  float scale_ = 1;  // steps of the layer in one of the first
  double bits_ = 0;
};

// Where a level lies, in steps. behind: how many layers come after its own.
inline float value_in_layer(int level, int behind) {
  const float beyond = behind > 0 ? kInCell : kInLastCell;
  return static_cast<float>(level) + (level > 0 ? beyond : level < 0 ? -beyond : 0);
}

// The least error of what a level may become in the layers behind its own, weighed. residual: in its steps.
float error_ahead(float residual, int level, int behind);

}  // namespace softstair
