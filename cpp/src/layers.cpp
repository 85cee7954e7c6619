// SPDX-License-Identifier: Apache-2.0
#include "layers.hpp"

#include <cstddef>
#include <cstdlib>
#include <limits>

#if defined(SOFTSTAIR_SIMD) && defined(__x86_64__) && defined(__GNUC__)
#define SOFTSTAIR_AVX2 1
#include <immintrin.h>
#endif

namespace softstair {

void check_weights(const Weights& w, int outputs, int inputs, int taps,
                   std::int32_t input_magnitude, std::int64_t extra, const std::string& name) {
  const auto count = static_cast<std::size_t>(outputs) * inputs * taps;
  if (w.outputs != outputs || w.inputs != inputs || w.taps != taps || w.values.size() != count ||
      w.bias.size() != static_cast<std::size_t>(outputs))
    throw std::invalid_argument("layer " + name + " has the wrong shape");
  const auto per_output = static_cast<std::size_t>(inputs) * taps;
  for (int o = 0; o < outputs; ++o) {
    std::int64_t bound = std::llabs(static_cast<std::int64_t>(w.bias[o])) + extra;
    for (std::size_t k = 0; k < per_output; ++k)
      bound += std::abs(static_cast<int>(w.values[o * per_output + k])) *
               static_cast<std::int64_t>(input_magnitude);
    if (bound > std::numeric_limits<std::int32_t>::max())
      throw std::invalid_argument("layer " + name + " could overflow its accumulators");
  }
}

Matrix::Matrix(const Weights& w, bool simd)
    : outputs_(w.outputs), depth_((w.inputs * w.taps + 1) / 2 * 2), simd_(simd) {
  const int panels = (outputs_ + kPanel - 1) / kPanel;
  panels_.assign(static_cast<std::size_t>(panels) * kPanel * depth_, 0);
  bias_.assign(static_cast<std::size_t>(panels) * kPanel, 0);
  for (int o = 0; o < outputs_; ++o) {
    bias_[o] = w.bias[o];
    for (int i = 0; i < w.inputs; ++i)
      for (int tap = 0; tap < w.taps; ++tap) {
        const int k = tap * w.inputs + i;
        const std::size_t panel = static_cast<std::size_t>(o / kPanel) * kPanel * depth_;
        panels_[panel + static_cast<std::size_t>(k / 2) * 2 * kPanel + o % kPanel * 2 + k % 2] =
            w.values[(static_cast<std::size_t>(o) * w.inputs + i) * w.taps + tap];
      }
  }
}

namespace {

// One panel of sixteen outputs for up to four rows.
void panel_portable(const std::int16_t* panel, const std::int32_t* bias, int depth,
                    const std::int16_t* x, std::ptrdiff_t stride, int count,
                    std::int32_t* y, std::ptrdiff_t y_stride) {
  for (int row = 0; row < count; ++row) {
    std::int32_t sum[Matrix::kPanel];
    for (int o = 0; o < Matrix::kPanel; ++o) sum[o] = bias[o];
    const std::int16_t* in = x + row * stride;
    const std::int16_t* w = panel;
    for (int k = 0; k < depth; k += 2, w += 2 * Matrix::kPanel)
      for (int o = 0; o < Matrix::kPanel; ++o)
        sum[o] += in[k] * w[2 * o] + in[k + 1] * w[2 * o + 1];
    for (int o = 0; o < Matrix::kPanel; ++o) y[row * y_stride + o] = sum[o];
  }
}

#ifdef SOFTSTAIR_AVX2
template <int kRows>
__attribute__((target("avx2"))) void panel_avx2_rows(const std::int16_t* panel,
                                                     const std::int32_t* bias, int depth,
                                                     const std::int16_t* x, std::ptrdiff_t stride,
                                                     std::int32_t* y, std::ptrdiff_t y_stride) {
  __m256i low[kRows], high[kRows];
  for (int row = 0; row < kRows; ++row) {
    low[row] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bias));
    high[row] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bias + 8));
  }
  for (int k = 0; k < depth; k += 2) {
    const auto* w = reinterpret_cast<const __m256i*>(panel + static_cast<std::ptrdiff_t>(k) * Matrix::kPanel);
    const __m256i w_low = _mm256_loadu_si256(w), w_high = _mm256_loadu_si256(w + 1);
    for (int row = 0; row < kRows; ++row) {
      std::int32_t pair;
      __builtin_memcpy(&pair, x + row * stride + k, sizeof pair);
      const __m256i in = _mm256_set1_epi32(pair);
      low[row] = _mm256_add_epi32(low[row], _mm256_madd_epi16(in, w_low));
      high[row] = _mm256_add_epi32(high[row], _mm256_madd_epi16(in, w_high));
    }
  }
  for (int row = 0; row < kRows; ++row) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + row * y_stride), low[row]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + row * y_stride + 8), high[row]);
  }
}

void panel_avx2(const std::int16_t* panel, const std::int32_t* bias, int depth,
                const std::int16_t* x, std::ptrdiff_t stride, int count, std::int32_t* y,
                std::ptrdiff_t y_stride) {
  if (count == 4)
    panel_avx2_rows<4>(panel, bias, depth, x, stride, y, y_stride);
  else
    for (int row = 0; row < count; ++row)
      panel_avx2_rows<1>(panel, bias, depth, x + row * stride, stride, y + row * y_stride, y_stride);
}

__attribute__((target("avx2"))) void depthwise_avx2(const std::int16_t* weights,
                                                    const std::int32_t* bias, int channels,
                                                    int pairs, const std::int16_t* const* taps,
                                                    std::int32_t* y) {
  for (int c = 0; c < channels; c += 16) {
    // unpack works within 128-bit halves: `low` holds channels 0-3 and 8-11, `high` the others.
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
    for (int pair = 0; pair < pairs; ++pair) {
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(taps[2 * pair] + c));
      const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(taps[2 * pair + 1] + c));
      const auto* w = reinterpret_cast<const __m256i*>(
          weights + (static_cast<std::ptrdiff_t>(pair) * channels + c) * 2);
      const __m256i w0 = _mm256_loadu_si256(w), w1 = _mm256_loadu_si256(w + 1);
      const __m256i first = _mm256_permute2x128_si256(w0, w1, 0x20);
      const __m256i second = _mm256_permute2x128_si256(w0, w1, 0x31);
      low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), first));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), second));
    }
    const __m256i one = _mm256_permute2x128_si256(low, high, 0x20);
    const __m256i two = _mm256_permute2x128_si256(low, high, 0x31);
    const auto* add = reinterpret_cast<const __m256i*>(bias + c);
    auto* out = reinterpret_cast<__m256i*>(y + c);
    _mm256_storeu_si256(out, _mm256_add_epi32(one, _mm256_loadu_si256(add)));
    _mm256_storeu_si256(out + 1, _mm256_add_epi32(two, _mm256_loadu_si256(add + 1)));
  }
}
#endif

}  // namespace

bool simd_available() {
#ifdef SOFTSTAIR_AVX2
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

void Matrix::multiply(const std::int16_t* x, std::ptrdiff_t stride, int count, std::int32_t* y,
                      int first, int last) const {
  const std::ptrdiff_t width = last - first;
  for (int row = 0; row < count; row += 4) {
    const int rows = count - row < 4 ? count - row : 4;
    for (int o = first; o < last; o += kPanel) {
      const std::int16_t* panel = panels_.data() + static_cast<std::ptrdiff_t>(o) * depth_;
      std::int32_t* out = y + row * width + (o - first);
#ifdef SOFTSTAIR_AVX2
      if (simd_) {
        panel_avx2(panel, bias_.data() + o, depth_, x + row * stride, stride, rows, out, width);
        continue;
      }
#endif
      panel_portable(panel, bias_.data() + o, depth_, x + row * stride, stride, rows, out, width);
    }
  }
}

Depthwise::Depthwise(const Weights& w, bool simd)
    : channels_(w.outputs), pairs_((w.taps + 1) / 2), simd_(simd), bias_(w.bias) {
  pairs_of_taps_.assign(static_cast<std::size_t>(pairs_) * channels_ * 2, 0);
  for (int c = 0; c < channels_; ++c)
    for (int tap = 0; tap < w.taps; ++tap)
      pairs_of_taps_[(static_cast<std::size_t>(tap / 2) * channels_ + c) * 2 + tap % 2] =
          w.values[static_cast<std::size_t>(c) * w.taps + tap];
}

void Depthwise::apply(const std::int16_t* const* taps, std::int32_t* y) const {
#ifdef SOFTSTAIR_AVX2
  if (simd_) {
    depthwise_avx2(pairs_of_taps_.data(), bias_.data(), channels_, pairs_, taps, y);
    return;
  }
#endif
  for (int c = 0; c < channels_; ++c) y[c] = bias_[c];
  for (int pair = 0; pair < pairs_; ++pair) {
    const std::int16_t* w = pairs_of_taps_.data() + static_cast<std::size_t>(pair) * channels_ * 2;
    const std::int16_t* a = taps[2 * pair];
    const std::int16_t* b = taps[2 * pair + 1];
    for (int c = 0; c < channels_; ++c) y[c] += a[c] * w[2 * c] + b[c] * w[2 * c + 1];
  }
}

}  // namespace softstair
