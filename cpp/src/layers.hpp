// SPDX-License-Identifier: Apache-2.0
// Integer layers of the scale network: int16 weights and activations, int32 accumulators.
//
// Every layer proves on construction that no accumulator can leave int32, whatever its input, so
// sums are exact in any order and every instruction set gives the same integers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

// What is small, or runs seldom, in a file that is otherwise compiled for speed.
#ifdef SOFTSTAIR_BROWSER
#define SOFTSTAIR_SMALL __attribute__((minsize))
#define SOFTSTAIR_ONCE __attribute__((noinline))  // not again wherever it is called
#else
#define SOFTSTAIR_SMALL
#define SOFTSTAIR_ONCE
#endif

namespace softstair {

// Activations are integers in [low, high]; a hidden one after ReLU has low = 0.
struct Range {
  std::int32_t low, high;

  std::int32_t magnitude() const { return -low > high ? -low : high; }
  std::int16_t clip(std::int32_t value) const {
    return static_cast<std::int16_t>(value < low ? low : value > high ? high : value);
  }
};

// From an accumulator to the grid of the next layer: round half up, clip.
struct Requantize {
  int shift;
  Range range;

  constexpr std::int32_t half() const { return 1 << (shift - 1); }
  std::int16_t operator()(std::int32_t value) const {
    return range.clip((value + half()) >> shift);
  }
};

// Weights as they come from a bundle: (outputs, inputs, taps), taps row by row.
struct Weights {
  std::vector<std::int16_t> values;
  std::vector<std::int32_t> bias;
  int outputs, inputs, taps;

  // Outputs first, first + step, ...: `count` of them.
  Weights slice(int first, int step, int count) const;
};

// Throws std::invalid_argument if sizes are inconsistent or if sum |w| * largest input + |bias| +
// `extra` could leave int32 for some output.
void check_weights(const Weights& weights, int outputs, int inputs, int taps,
                   std::int32_t input_magnitude, std::int64_t extra, const std::string& name);

// All kernels work on this many outputs or channels at once; counts are multiples of it.
constexpr int kPanel = 16;

// `count` inputs of a matrix, `stride` values apart. Each is `runs` runs of equal length, `pitch`
// apart: one for a pointwise layer, the three lines of a 3x3 neighbourhood otherwise, which are
// read where they lie.
struct Inputs {
  const std::int16_t* first;
  std::ptrdiff_t stride;
  int count;
  int runs = 1;
  std::ptrdiff_t pitch = 0;
};

// Accumulators to start from, outputs() for every input; a stride of 0 repeats the first ones.
struct Start {
  const std::int32_t* first;
  std::ptrdiff_t stride;
};

// A layer without neighbours of its own: rows of int16 against a matrix in panels.
class Matrix {
 public:
  Matrix() = default;
  // Inputs are ordered (tap, input): what the runs of a neighbourhood look like.
  Matrix(const Weights& weights, Requantize to, bool simd);

  int outputs() const { return static_cast<int>(bias_.size()); }
  const std::vector<std::int32_t>& bias() const { return bias_; }

  // y[p][o] = requantized(bias[o] + sum_k w[o][k] x[p][k]); rows of y are y_stride apart.
  void apply(const Inputs& x, std::int16_t* y, std::ptrdiff_t y_stride) const {
    apply(x, {bias_.data(), 0}, y, y_stride);
  }
  // The same with other accumulators to start from than the bias.
  void apply(const Inputs& x, Start start, std::int16_t* y, std::ptrdiff_t y_stride) const;
  // The accumulators themselves, (count, outputs()).
  void accumulate(const Inputs& x, std::int32_t* y) const;

 private:
  void run(const Inputs& x, Start start, std::int16_t* y, std::int32_t* sums, std::ptrdiff_t stride) const;

  int depth_ = 0;
  bool simd_ = false;
  Requantize to_{};
  // (outputs / 16, depth / 2, 16, 2) for vector kernels, else (outputs, depth).
  std::vector<std::int16_t> panels_;
  std::vector<std::int32_t> bias_;
};

// Two taps of a depthwise layer, whose products a kernel adds in one step: which weights, and
// where the inputs lie from the first tap on.
struct TapPair {
  int index;
  std::ptrdiff_t first, second;
};

// Depthwise convolution: a sum over taps for every channel.
class Depthwise {
 public:
  using Pairs = std::vector<std::array<int, 2>>;
  static constexpr int kNoTap = -1;

  Depthwise() = default;
  // pairs: the order of taps; kNoTap as the second fills up an odd number.
  Depthwise(const Weights& weights, Pairs pairs, Requantize to, bool simd);

  const Pairs& pairs() const { return pairs_; }
  // Where the taps of a square neighbourhood lie in a plane.
  std::vector<TapPair> place(int side, std::ptrdiff_t pitch, std::ptrdiff_t step) const;

  // Channels [first, last) of one position, over the taps in `pairs` alone. origin and y: of the
  // position's channel 0. Input is std::int16_t or std::uint8_t.
  template <typename Input>
  void apply(const Input* origin, std::span<const TapPair> pairs, int first, int last,
             std::int16_t* y) const;

 private:
  int channels_ = 0;
  bool simd_ = false;
  Requantize to_{};
  Pairs pairs_;
  std::vector<std::int16_t> weights_;  // (pairs, channels, 2)
  std::vector<std::int32_t> bias_;
};

// sums[o] += factor * column[o] for `count` outputs, full panels.
void add_multiple(const std::int16_t* column, std::int16_t factor, int count, std::int32_t* sums);

// A panel of sums, of `count` inputs: sums[o] += x[k] * panel[k / 2][o][k % 2]; count is a multiple of four. simd: as simd_available()
// allows; so below.
void add_products(const std::int16_t* panel, const std::int16_t* x, int count, bool simd, std::int32_t* sums);

// A panel of sums of an even number of inputs each: sums[o] = the sum of x[k][o] * weights[k / 2][o][k % 2].
void sum_products(std::span<const std::int16_t* const> x, const std::int16_t* weights, bool simd, std::int32_t* sums);

// The sum of x[i] * y[i], of full panels.
std::int32_t dot_product(const std::int16_t* x, const std::int16_t* y, int count, bool simd);

// A panel of accumulators, requantized.
void requantize(const std::int32_t* sums, Requantize to, bool simd, std::int16_t* y);

// What sums are multiplied by, and what is added to them, by a row of a table: in 2^-8 both.
struct RowFactor {
  std::int16_t gain, bias;
};

// Row of a latent that is not coded: its symbol is zero.
constexpr std::int16_t kSkipped = -1;

// out[i] = start[i] + (to(sums[i]) * gain + bias) of row[i], for a panel: requantized, sums are in 2^-8 and at most +-8191;
// the result is rounded and clipped. A row may be kSkipped: then anything comes out, but factors[kSkipped] is read. out may be one of
// the others.
void move_rows(const std::int16_t* row, const std::int16_t* start, const std::int32_t* sums, Requantize to, const RowFactor* factors,
               Range range, bool simd, std::int16_t* out);

// True if this build and this processor have the kernels for AVX2. Others know vectors of 128 bits at most.
bool simd_available();

// True if kernels for vectors of 512 bits (AVX-512 BW, DQ and VL) are, too.
bool wide_simd_available();

}  // namespace softstair
