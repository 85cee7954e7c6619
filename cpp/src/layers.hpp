// SPDX-License-Identifier: Apache-2.0
// Integer layers of the scale network: int16 weights and activations, int32 accumulators.
//
// Every layer proves on construction that no accumulator can leave int32, whatever its input, so
// sums are exact in any order and every instruction set gives the same integers.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace softstair {

// Activations are integers in [low, high]; a hidden one after ReLU has low = 0.
struct Range {
  std::int32_t low, high;

  std::int32_t magnitude() const { return -low > high ? -low : high; }
  std::int16_t clip(std::int32_t value) const {
    return static_cast<std::int16_t>(value < low ? low : value > high ? high : value);
  }
};

// Half of the last bit is added before the shift: round half up.
inline std::int32_t shift_round(std::int32_t value, int shift) {
  return (value + (1 << (shift - 1))) >> shift;
}

// Weights as they come from a bundle: (outputs, inputs, taps), taps row by row.
struct Weights {
  std::vector<std::int16_t> values;
  std::vector<std::int32_t> bias;
  int outputs, inputs, taps;
};

// Throws std::invalid_argument if sizes are inconsistent or if sum |w| * largest input + |bias| +
// `extra` could leave int32 for some output.
void check_weights(const Weights& weights, int outputs, int inputs, int taps,
                   std::int32_t input_magnitude, std::int64_t extra, const std::string& name);

// y[p][o] = bias[o] + sum_k w[o][k] x[p][k]: rows of int16 against a matrix in panels.
class Matrix {
 public:
  Matrix() = default;
  // Columns are ordered (tap, input): what a gathered neighbourhood looks like.
  Matrix(const Weights& weights, bool simd);

  int outputs() const { return outputs_; }
  int depth() const { return depth_; }  // padded: a multiple of two

  // x: count rows of `depth()` values, `stride` apart. y: count rows of `outputs()`.
  void multiply(const std::int16_t* x, std::ptrdiff_t stride, int count, std::int32_t* y) const {
    multiply(x, stride, count, y, 0, outputs_);
  }
  // Only outputs [first, last), both multiples of kPanel or the end; y rows hold last - first.
  void multiply(const std::int16_t* x, std::ptrdiff_t stride, int count, std::int32_t* y,
                int first, int last) const;

  static constexpr int kPanel = 16;

 private:
  int outputs_ = 0, depth_ = 0;
  bool simd_ = false;
  std::vector<std::int16_t> panels_;  // (outputs / 16, depth / 2, 16, 2)
  std::vector<std::int32_t> bias_;
};

// Depthwise convolution over one row of positions.
class Depthwise {
 public:
  Depthwise() = default;
  Depthwise(const Weights& weights, bool simd);

  int channels() const { return channels_; }

  // taps: 2 * pairs() pointers to rows of `channels()` int16 (the last may be any row if the tap
  // count is odd: its weights are zero). y: channels() accumulators, bias included.
  void apply(const std::int16_t* const* taps, std::int32_t* y) const;
  int pairs() const { return pairs_; }

 private:
  int channels_ = 0, pairs_ = 0;
  bool simd_ = false;
  std::vector<std::int16_t> pairs_of_taps_;  // (pairs, channels, 2)
  std::vector<std::int32_t> bias_;
};

// True if this build and this processor have the vector kernels.
bool simd_available();

}  // namespace softstair
