// SPDX-License-Identifier: Apache-2.0
// Included once for every width: SOFTSTAIR_LANES floats in a vector, SOFTSTAIR_ROWS positions at once,
// SOFTSTAIR_UNROLL inputs between two tests of the loop over them.
#include <cstring>

#include "kernels.hpp"

namespace softstair {
namespace {

constexpr int kLanes = SOFTSTAIR_LANES, kPanel = 2 * kLanes, kRows = SOFTSTAIR_ROWS, kUnroll = SOFTSTAIR_UNROLL;
constexpr int kChunk = 8 * kRows;  // positions whose inputs stay in a cache while all panels pass by

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

inline void store_some(float* to, Vector value, int count) {
  float all[kLanes];
  store(all, value);
  for (int i = 0; i < count && i < kLanes; ++i) to[i] = all[i];
}
inline Vector load_some(const float* from, int count) {
  float all[kLanes] = {};
  for (int i = 0; i < count && i < kLanes; ++i) all[i] = from[i];
  return load(all);
}

// A panel of outputs at R positions in a row, the first of which reads from `in` on.
template <int R>
void tile(const Convolution& job, const float* in, const float* weights, int panel, float* out, const float* residual) {
  Vector low[R], high[R];
  const Vector low_bias = load(job.bias + panel), high_bias = load(job.bias + panel + kLanes);
  for (int r = 0; r < R; ++r) low[r] = low_bias, high[r] = high_bias;
  const int run = job.side * job.inputs;
  const std::ptrdiff_t step = job.inputs;
  for (int line = 0; line < job.side; ++line, in += job.in_pitch) {
    const float *x = in, *last = in + run;
    const auto take = [&](int i) {
      const Vector low_weight = load(weights + i * kPanel), high_weight = load(weights + i * kPanel + kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vector value = splat(x[r * step + i]);
        low[r] = multiply_add(value, low_weight, low[r]);
        high[r] = multiply_add(value, high_weight, high[r]);
      }
    };
    for (; last - x >= kUnroll; x += kUnroll, weights += kUnroll * kPanel) {
#pragma GCC unroll 16
      for (int i = 0; i < kUnroll; ++i) take(i);
    }
    for (; x != last; ++x, weights += kPanel) take(0);
  }
  const int left = job.outputs - panel;
  for (int r = 0; r < R; ++r) {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(r) * job.outputs;
    Vector a = low[r], b = high[r];
    if (job.before != 1) a = leaky(a, job.before), b = leaky(b, job.before);
    if (residual != nullptr) {
      if (left >= kPanel) {
        a += load(residual + at), b += load(residual + at + kLanes);
      } else {
        a += load_some(residual + at, left), b += load_some(residual + at + kLanes, left - kLanes);
      }
    }
    if (job.after != 1) a = leaky(a, job.after), b = leaky(b, job.after);
    if (left >= kPanel) {
      store(out + at, a), store(out + at + kLanes, b);
    } else {
      store_some(out + at, a, left), store_some(out + at + kLanes, b, left - kLanes);
    }
  }
}

void convolution(const Convolution& given) {
  Convolution job = given;
  const std::ptrdiff_t in_row = static_cast<std::ptrdiff_t>(job.width) * job.inputs, out_row = static_cast<std::ptrdiff_t>(job.width) * job.outputs;
  if (job.side == 1 && job.in_pitch == in_row && job.out_pitch == out_row &&
      (job.residual == nullptr || job.residual_pitch == out_row)) {
    job.width *= job.height;  // rows follow each other: one long row has fewer ends
    job.height = 1;
  }
  const std::ptrdiff_t depth = static_cast<std::ptrdiff_t>(job.side) * job.side * job.inputs;
  const int reach = job.side / 2;
  for (int y = 0; y < job.height; ++y) {
    const float* in = job.in + (y - reach) * job.in_pitch - static_cast<std::ptrdiff_t>(reach) * job.inputs;
    float* out = job.out + y * job.out_pitch;
    const float* residual = job.residual == nullptr ? nullptr : job.residual + y * job.residual_pitch;
    for (int chunk = 0; chunk < job.width; chunk += kChunk) {
      const int end = job.width < chunk + kChunk ? job.width : chunk + kChunk;
      for (int panel = 0; panel < job.outputs; panel += kPanel)
        for (int x = chunk; x < end;) {
          const bool many = end - x >= kRows;
          const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(x) * job.outputs + panel;
          (many ? tile<kRows> : tile<1>)(job, in + static_cast<std::ptrdiff_t>(x) * job.inputs, job.weights + panel * depth, panel,
                                         out + at, residual == nullptr ? nullptr : residual + at);
          x += many ? kRows : 1;
        }
    }
  }
}

// kLanes channels of a row; columns that were read stay in registers while the window slides.
template <int kSide>
void depthwise_row(const DepthwiseConvolution& job, const float* in, float* out, const float* factor, int channel) {
  constexpr int kReach = kSide / 2;
  Vector weights[kSide * kSide], window[kSide][kSide];
  for (int tap = 0; tap < kSide * kSide; ++tap) weights[tap] = load(job.weights + static_cast<std::ptrdiff_t>(tap) * job.channels + channel);
  const Vector bias = load(job.bias + channel);
  const std::ptrdiff_t step = job.channels;
  const auto column = [&](int x, int slot) {
    for (int line = 0; line < kSide; ++line) window[line][slot] = load(in + (line - kReach) * job.in_pitch + x * step);
  };
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
