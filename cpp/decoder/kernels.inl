// SPDX-License-Identifier: Apache-2.0
// Included once for every width: SOFTSTAIR_LANES floats in a vector, SOFTSTAIR_ROWS positions at once.
#include <cstring>

#include "kernels.hpp"

namespace softstair {
namespace {

constexpr int kLanes = SOFTSTAIR_LANES, kPanel = 2 * kLanes, kRows = SOFTSTAIR_ROWS;
static_assert(kRows <= kPositionsBehind + 1);
constexpr int kPatch = 6, kPlaces = kPatch * kPatch;
constexpr int kChunk = 8 * kRows;  // positions whose inputs stay in a cache while all panels pass by
constexpr int kTiles = 4 * 6;  // of 4x4 outputs that `winograd` takes together: a multiple of kRows

typedef float Vector __attribute__((vector_size(4 * kLanes)));

inline Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline void store(float* to, Vector value) { std::memcpy(to, &value, sizeof value); }
inline Vector splat(float value) { return value - Vector{}; }
inline Vector multiply_add(Vector a, Vector b, Vector sum) {
#ifdef __wasm_relaxed_simd__
  return __builtin_wasm_relaxed_madd_f32x4(a, b, sum);
#else
  return a * b + sum;
#endif
}
inline Vector leaky(Vector value, float slope) { return value > Vector{} ? value : value * splat(slope); }

// What becomes of sums of whole vectors of outputs.
inline void finish(Vector sum, float before, const float* residual, float after, float* out) {
  if (before != 1) sum = leaky(sum, before);
  if (residual != nullptr) sum += load(residual);
  store(out, after != 1 ? leaky(sum, after) : sum);
}
// The same, of outputs that do not lie side by side, or are fewer: from output `o` of a row of a block on.
// S: so many lie side by side.
template <int S>
[[gnu::noinline]] void finish_some(const Convolution& job, Vector sum, int count, int o, const float* residual, float* out) {
  float values[kLanes];
  store(values, sum);
  for (int i = 0; i < count && i < kLanes; i += S) {
    for (int k = 0; k < S; ++k) {
      float value = values[i + k];
      value = value < 0 ? value * job.before : value;
      if (residual != nullptr) value += residual[o + k];
      out[o + k] = value < 0 ? value * job.after : value;
    }
    o += S;
    if (o < job.run) continue;
    o = 0;
    out += job.out_pitch;
    if (residual != nullptr) residual += job.residual_pitch;
  }
}
// Sums of outputs `o` on at `count` positions from x on, of a row that `residual` and `out` are of.
inline void finish_row(const Convolution& job, const Vector* sums, int o, int x, int count, const float* residual, float* out) {
  const std::ptrdiff_t run = job.run, row = o / job.run;
  const float before = job.before, after = job.after;
  const int left = job.outputs - o;
  o -= row * job.run;
  out += row * job.out_pitch + x * run;
  if (residual != nullptr) residual += row * job.residual_pitch + x * run;
  for (int r = 0; r < count; ++r, out += run) {
    if (run % kLanes == 0)
      finish(sums[r], before, residual == nullptr ? nullptr : residual + o, after, out + o);
    else if (kLanes > 4 && run % 4 == 0 && left >= kLanes)
      finish_some<4>(job, sums[r], left, o, residual, out);
    else
      finish_some<1>(job, sums[r], left, o, residual, out);
    if (residual != nullptr) residual += run;
  }
}

// A panel of outputs at positions x to `end` of a row. Sums are made of kRows positions: inputs have
// values behind them that nobody sees.
void tile(const Convolution& job, const float* in, int panel, int x, int end, const float* residual, float* out) {
  const float* weights = job.weights + static_cast<std::ptrdiff_t>(panel) * job.side * job.side * job.inputs;
  in += static_cast<std::ptrdiff_t>(x) * job.inputs;
  Vector low[kRows], high[kRows];
  Vector low_bias = {}, high_bias = {};
  if (job.bias != nullptr) low_bias = load(job.bias + panel), high_bias = load(job.bias + panel + kLanes);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) low[r] = low_bias, high[r] = high_bias;
  const int run = job.side * job.inputs;
  const std::ptrdiff_t step = job.inputs;
  for (int line = 0; line < job.side; ++line, in += job.in_pitch)
    for (const float *from = in, *last = in + run; from != last; ++from, weights += kPanel) {
      const Vector low_weight = load(weights), high_weight = load(weights + kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const Vector value = splat(from[r * step]);
        low[r] = multiply_add(value, low_weight, low[r]);
        high[r] = multiply_add(value, high_weight, high[r]);
      }
    }
  // Registers have no numbers at run time: without this copy compilers would keep all sums in memory.
  Vector sums[2][kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sums[0][r] = low[r], sums[1][r] = high[r];
  for (int half = 0; half < 2 && panel + half * kLanes < job.outputs; ++half)
    finish_row(job, sums[half], panel + half * kLanes, x, end - x < kRows ? end - x : kRows, residual, out);
}

void convolution(const Convolution& given) {
  Convolution job = given;
  const std::ptrdiff_t in_row = static_cast<std::ptrdiff_t>(job.width) * job.inputs, out_row = static_cast<std::ptrdiff_t>(job.width) * job.outputs;
  if (job.side == 1 && job.block == 1 && job.in_pitch == in_row && job.out_pitch == out_row &&
      (job.residual == nullptr || job.residual_pitch == out_row)) {
    job.width *= job.height;  // rows follow each other: one long row has fewer ends
    job.height = 1;
  }
  const int reach = job.side / 2;
  for (int y = 0; y < job.height; ++y) {
    const float* in = job.in + (y - reach) * job.in_pitch - static_cast<std::ptrdiff_t>(reach) * job.inputs;
    float* out = job.out + y * job.block * job.out_pitch;
    const float* residual = job.residual == nullptr ? nullptr : job.residual + y * job.block * job.residual_pitch;
    for (int chunk = 0; chunk < job.width; chunk += kChunk) {
      const int end = job.width < chunk + kChunk ? job.width : chunk + kChunk;
      for (int panel = 0; panel < job.outputs; panel += kPanel)
        for (int x = chunk; x < end; x += kRows) tile(job, in, panel, x, end, residual, out);
    }
  }
}

// Winograd's F(4x4, 3x3): what 4x4 outputs of a 3x3 convolution take, 36 multiplications instead of 144.
// Both transforms are along one axis; values are kLanes channels.
[[gnu::noinline]] void forward(const float* in, std::ptrdiff_t step, float* out, std::ptrdiff_t out_step) {
  Vector d[kPatch];
#pragma GCC unroll 8
  for (int i = 0; i < kPatch; ++i) d[i] = load(in + i * step);
  const Vector two = splat(2), four = splat(4), five = splat(5);
  const Vector a = d[4] - four * d[2], b = d[3] - four * d[1], c = d[4] - d[2], e = two * (d[3] - d[1]);
  store(out, four * d[0] - five * d[2] + d[4]);
  store(out + out_step, a + b);
  store(out + 2 * out_step, a - b);
  store(out + 3 * out_step, c + e);
  store(out + 4 * out_step, c - e);
  store(out + 5 * out_step, four * d[1] - five * d[3] + d[5]);
}
[[gnu::noinline]] void backward(const float* in, std::ptrdiff_t step, float* out) {
  Vector m[kPatch];
#pragma GCC unroll 8
  for (int i = 0; i < kPatch; ++i) m[i] = load(in + i * step);
  const Vector sum = m[1] + m[2], difference = m[1] - m[2], far_sum = m[3] + m[4], far = m[3] - m[4];
  store(out, m[0] + sum + far_sum);
  store(out + kLanes, difference + splat(2) * far);
  store(out + 2 * kLanes, sum + splat(4) * far_sum);
  store(out + 3 * kLanes, difference + splat(8) * far + m[5]);
}

[[gnu::noinline]] void winograd(const Convolution& job, float* scratch) {
  const int columns = (job.width + 3) / 4, count = (job.height + 3) / 4 * columns;
  const std::ptrdiff_t in_place = static_cast<std::ptrdiff_t>(kTiles) * job.inputs, out_place = static_cast<std::ptrdiff_t>(kTiles) * job.outputs;
  float *const patches = scratch, *const sums = scratch + kPlaces * in_place;
  float patch[kPlaces * kLanes];
  for (int first = 0; first < count; first += kTiles) {
    const int some = count - first < kTiles ? count - first : kTiles;
    for (int tile = 0; tile < some; ++tile) {
      const int top = (first + tile) / columns * 4 - 1, left = (first + tile) % columns * 4 - 1;
      for (int c = 0; c < job.inputs; c += kLanes) {
        for (int i = 0; i < kPatch; ++i)
          for (int k = 0; k < kPatch; ++k) {  // beyond the border of zeros nothing is
            const std::ptrdiff_t y = top + i < job.height ? top + i : job.height, x = left + k < job.width ? left + k : job.width;
            store(patch + (i * kPatch + k) * kLanes, load(job.in + y * job.in_pitch + x * job.inputs + c));
          }
        for (int k = 0; k < kPatch; ++k) forward(patch + k * kLanes, kPatch * kLanes, patch + k * kLanes, kPatch * kLanes);
        for (int i = 0; i < kPatch; ++i)
          forward(patch + i * kPatch * kLanes, kLanes, patches + i * kPatch * in_place + static_cast<std::ptrdiff_t>(tile) * job.inputs + c, in_place);
      }
    }
    for (int place = 0; place < kPlaces; ++place)
      convolution({1, some, 1, job.inputs, job.outputs, 1, job.outputs, patches + place * in_place, 0, sums + place * out_place, 0,
                   job.weights + static_cast<std::ptrdiff_t>(place) * job.inputs * job.outputs, nullptr, nullptr, 0, 1, 1});
    for (int tile = 0; tile < some; ++tile) {
      const int top = (first + tile) / columns * 4, left = (first + tile) % columns * 4;
      for (int c = 0; c < job.outputs; c += kLanes) {
        const float* from = sums + static_cast<std::ptrdiff_t>(tile) * job.outputs + c;
        for (int i = 0; i < kPatch; ++i) backward(from + i * kPatch * out_place, out_place, patch + i * 4 * kLanes);
        float done[16 * kLanes];
        for (int k = 0; k < 4; ++k) backward(patch + k * kLanes, 4 * kLanes, done + 4 * k * kLanes);
        const Vector bias = load(job.bias + c);
        for (int i = 0; i < 4 && top + i < job.height; ++i) {
          const std::ptrdiff_t y = (top + i) * job.block;
          Vector row[4];
          for (int k = 0; k < 4; ++k) row[k] = load(done + (4 * k + i) * kLanes) + bias;
          finish_row(job, row, c, left, job.width - left < 4 ? job.width - left : 4,
                     job.residual == nullptr ? nullptr : job.residual + y * job.residual_pitch, job.out + y * job.out_pitch);
        }
      }
    }
  }
}

// kLanes channels of a row; columns that were read stay in registers while the window slides.
template <int kSide>
void depthwise_row(const DepthwiseConvolution& job, const float* in, float* out, const float* factor, int channel) {
  constexpr int kReach = kSide / 2;
  Vector weights[kSide * kSide], window[kSide][kSide];
#pragma GCC unroll 25
  for (int tap = 0; tap < kSide * kSide; ++tap) weights[tap] = load(job.weights + static_cast<std::ptrdiff_t>(tap) * job.channels + channel);
  const Vector bias = load(job.bias + channel);
  const std::ptrdiff_t step = job.channels;
  const auto column = [&](int x, int slot) {
#pragma GCC unroll 8
    for (int line = 0; line < kSide; ++line) window[line][slot] = load(in + (line - kReach) * job.in_pitch + x * step);
  };
#pragma GCC unroll 8
  for (int slot = 0; slot < kSide - 1; ++slot) column(slot - kReach, slot + 1);
  for (int x = 0; x < job.width; ++x) {
#pragma GCC unroll 8
    for (int line = 0; line < kSide; ++line)
#pragma GCC unroll 8
      for (int slot = 0; slot < kSide - 1; ++slot) window[line][slot] = window[line][slot + 1];
    column(x + kReach, kSide - 1);
    Vector sum = bias;
#pragma GCC unroll 8
    for (int line = 0; line < kSide; ++line)
#pragma GCC unroll 8
      for (int slot = 0; slot < kSide; ++slot) sum = multiply_add(window[line][slot], weights[line * kSide + slot], sum);
    if (factor != nullptr) sum *= load(factor + x * step);
    store(out + x * step, sum);
  }
}

void depthwise_rest(const DepthwiseConvolution& job, const float* in, float* out, const float* factor, int channel) {
  const int reach = job.side / 2;
  for (int x = 0; x < job.width; ++x) {
    float sum = job.bias[channel];
    for (int tap = 0; tap < job.side * job.side; ++tap)
      sum += in[(tap / job.side - reach) * job.in_pitch + static_cast<std::ptrdiff_t>(x + tap % job.side - reach) * job.channels] *
             job.weights[static_cast<std::ptrdiff_t>(tap) * job.channels + channel];
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(x) * job.channels;
    out[at] = factor != nullptr ? sum * factor[at] : sum;
  }
}

void depthwise(const DepthwiseConvolution& job) {
  const int whole = job.channels / kLanes * kLanes;
  for (int y = 0; y < job.height; ++y) {
    const float* in = job.in + y * job.in_pitch;
    float* out = job.out + y * job.out_pitch;
    const float* factor = job.factor == nullptr ? nullptr : job.factor + y * job.factor_pitch;
    const auto from = [&](int channel) { return factor == nullptr ? nullptr : factor + channel; };
    for (int channel = 0; channel < whole; channel += kLanes) {
      if (job.side == 3)
        depthwise_row<3>(job, in + channel, out + channel, from(channel), channel);
      else
        depthwise_row<5>(job, in + channel, out + channel, from(channel), channel);
    }
    for (int channel = whole; channel < job.channels; ++channel)
      depthwise_rest(job, in + channel, out + channel, from(channel), channel);
  }
}

}  // namespace

}  // namespace softstair
