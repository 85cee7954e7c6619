// SPDX-License-Identifier: Apache-2.0
#include "layers.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "refuse.hpp"
#include "vectors.hpp"

#if defined(SOFTSTAIR_VECTORS) && defined(__x86_64__)
#define SOFTSTAIR_AVX2 1
#include <immintrin.h>
#endif

namespace softstair {

SOFTSTAIR_SMALL Weights Weights::slice(int first, int step, int count) const {
  const auto size = static_cast<std::ptrdiff_t>(inputs) * taps;
  Weights part{std::vector<std::int16_t>(count * size), {}, count, inputs, taps};
  for (int i = 0; i < count; ++i) {
    const std::ptrdiff_t output = first + static_cast<std::ptrdiff_t>(i) * step;
    const auto begin = values.begin() + output * size;
    std::copy_n(begin, size, part.values.begin() + i * size);
    part.bias.push_back(bias[output]);
  }
  return part;
}

SOFTSTAIR_SMALL void check_weights(const Weights& w, int outputs, int inputs, int taps,
                   std::int32_t input_magnitude, std::int64_t extra, const std::string& name) {
  const auto count = static_cast<std::size_t>(outputs) * inputs * taps;
  if (w.outputs != outputs || w.inputs != inputs || w.taps != taps || w.values.size() != count ||
      w.bias.size() != static_cast<std::size_t>(outputs))
    refuse("layer ", name, " has the wrong shape");
  const auto per_output = static_cast<std::size_t>(inputs) * taps;
  for (int o = 0; o < outputs; ++o) {
    std::int64_t bound = std::llabs(static_cast<std::int64_t>(w.bias[o])) + extra;
    for (std::size_t k = 0; k < per_output; ++k)
      bound += std::abs(static_cast<int>(w.values[o * per_output + k])) *
               static_cast<std::int64_t>(input_magnitude);
    if (bound > std::numeric_limits<std::int32_t>::max())
      refuse("layer ", name, " could overflow its accumulators");
  }
}

SOFTSTAIR_SMALL Matrix::Matrix(const Weights& w, Requantize to, bool simd)
    : depth_(w.inputs * w.taps), simd_(simd && simd_available()), to_(to), bias_(w.bias) {
  if (w.outputs % kPanel != 0 || w.inputs % 2 != 0)
    refuse("a matrix needs an even number of inputs and full panels");
  panels_.resize(static_cast<std::size_t>(w.outputs) * depth_);
  for (int o = 0; o < w.outputs; ++o)
    for (int i = 0; i < w.inputs; ++i)
      for (int tap = 0; tap < w.taps; ++tap) {
        const int k = tap * w.inputs + i;
        const int in_panel = o % kPanel;
#ifdef SOFTSTAIR_VECTORS
        const std::size_t at = k / 2 * 2 * kPanel + in_panel * 2 + k % 2;
#else
        const std::size_t at = in_panel * depth_ + k;
#endif
        panels_[static_cast<std::size_t>(o - in_panel) * depth_ + at] =
            w.values[(static_cast<std::size_t>(o) * w.inputs + i) * w.taps + tap];
      }
}

namespace {

// Rows of a matrix product that a kernel computes together: with sixteen outputs each, and with
// weights and an input beside them, their accumulators just fit sixteen vector registers.
constexpr int kTile = 6;
using Sums = std::int32_t[kTile][kPanel];

constexpr int kGainBits = 8, kRowShift = kGainBits + 8;  // of gain; and of sums

#ifdef SOFTSTAIR_VECTORS
constexpr int kQuarter = 4;  // int32 in a vector

// Some vectors of a panel's outputs for some rows: more would not fit the registers.
template <int kRows, int kVectors>
void panel_baseline_rows(const std::int16_t* panel, const Inputs& x, int run, Start start, std::int32_t (*sums)[kPanel]) {
  for (int first = 0; first < kPanel; first += kVectors * kQuarter) {
    Four sum[kRows][kVectors];
    for (int row = 0; row < kRows; ++row)
      for (int v = 0; v < kVectors; ++v) sum[row][v] = load<Four>(start.first + row * start.stride + first + v * kQuarter);
    const std::int16_t* w = panel + 2 * first;
    for (int r = 0; r < x.runs; ++r) {
      const std::int16_t* in = x.first + r * x.pitch;
      for (int k = 0; k < run; k += 2, w += 2 * kPanel)
        for (int v = 0; v < kVectors; ++v) {
          const Eight weights = load<Eight>(w + 2 * v * kQuarter);
          for (int row = 0; row < kRows; ++row) sum[row][v] += multiply_add(pairs(in + row * x.stride + k), weights);
        }
    }
    for (int row = 0; row < kRows; ++row)
      for (int v = 0; v < kVectors; ++v) store(sums[row] + first + v * kQuarter, sum[row][v]);
  }
}

void panel_baseline(const std::int16_t* panel, const Inputs& x, int run, Start start, Sums& sums) {
  Inputs some = x;
  for (int row = 0; row < x.count;) {
    const bool many = x.count - row >= 3;
    (many ? panel_baseline_rows<3, 2> : panel_baseline_rows<1, 4>)(panel, some, run, {start.first + row * start.stride, start.stride}, sums + row);
    row += many ? 3 : 1;
    some.first = x.first + row * x.stride;
  }
}

inline Eight requantized(const std::int32_t* sums, Requantize to) {
  const Four first = (load<Four>(sums) + to.half()) >> to.shift, second = (load<Four>(sums + kQuarter) + to.half()) >> to.shift;
  // Narrowing saturates to int16, which is wider than every range.
  return smaller(larger(narrow(first, second), eight(to.range.low)), eight(to.range.high));
}

[[gnu::noinline]] void requantize_baseline(const std::int32_t* sums, Requantize to, std::int16_t* y) {
  for (int i = 0; i < kPanel; i += 2 * kQuarter) store(y + i, requantized(sums + i, to));
}

inline Eight load_eight(const std::int16_t* from) { return load<Eight>(from); }
inline Eight load_eight(const std::uint8_t* from) { return widen(from); }

template <typename Input>
void depthwise_baseline(const std::int16_t* weights, const std::int32_t* bias, int channels, const Input* origin,
                        std::span<const TapPair> pairs, Requantize to, std::int16_t* y) {
  Four sums[kPanel / kQuarter];
  std::memcpy(sums, bias, sizeof sums);
  for (const TapPair& pair : pairs) {
    const std::int16_t* w = weights + static_cast<std::ptrdiff_t>(pair.index) * channels * 2;
    for (int half = 0; half < 2; ++half) {
      const Eight a = load_eight(origin + pair.first + 8 * half), b = load_eight(origin + pair.second + 8 * half);
      sums[2 * half] += multiply_add(low_pairs(a, b), load<Eight>(w + 16 * half));
      sums[2 * half + 1] += multiply_add(high_pairs(a, b), load<Eight>(w + 16 * half + 8));
    }
  }
  std::int32_t stored[kPanel];
  std::memcpy(stored, sums, sizeof sums);
  requantize_baseline(stored, to, y);
}

void add_products_baseline(const std::int16_t* panel, const std::int16_t* x, int count, std::int32_t* sums) {
  Four sum[kPanel / kQuarter];
  std::memcpy(sum, sums, sizeof sum);
  for (int k = 0; k < count; k += 4, panel += 4 * kPanel) {
    const Eight a = pairs(x + k), b = pairs(x + k + 2);
    for (int v = 0; v < kPanel / kQuarter; ++v)
      sum[v] += multiply_add(a, load<Eight>(panel + 8 * v)) + multiply_add(b, load<Eight>(panel + 2 * kPanel + 8 * v));
  }
  std::memcpy(sums, sum, sizeof sum);
}

void sum_products_baseline(std::span<const std::int16_t* const> x, const std::int16_t* weights, std::int32_t* sums) {
  for (int half = 0; half < kPanel; half += 2 * kQuarter, weights += 4 * kQuarter) {
    Four low{}, high{};
    for (std::size_t k = 0; k < x.size(); k += 2) {
      const Eight a = load<Eight>(x[k] + half), b = load<Eight>(x[k + 1] + half);
      const std::int16_t* w = weights + k * kPanel;
      low += multiply_add(low_pairs(a, b), load<Eight>(w));
      high += multiply_add(high_pairs(a, b), load<Eight>(w + 2 * kQuarter));
    }
    store(sums + half, low);
    store(sums + half + kQuarter, high);
  }
}

std::int32_t dot_product_baseline(const std::int16_t* x, const std::int16_t* y, int count) {
  Four sums{};
  for (int i = 0; i < count; i += 2 * kQuarter) sums += multiply_add(load<Eight>(x + i), load<Eight>(y + i));
  return sums[0] + sums[1] + sums[2] + sums[3];
}

// Four rows: sum and 2^8 side by side meet gain and bias.
inline Four moved_baseline(const std::int16_t* row, Eight sums, Four start, const RowFactor* factors) {
  Four factor;
  for (int i = 0; i < kQuarter; ++i) {
    std::int32_t of;
    std::memcpy(&of, factors + row[i], sizeof of);
    factor[i] = of;
  }
  return start + ((multiply_add(sums, reinterpret_cast<Eight>(factor)) + (1 << (kRowShift - 1))) >> kRowShift);
}

void move_rows_baseline(const std::int16_t* row, const std::int16_t* start, const std::int32_t* sums, Requantize to, const RowFactor* factors,
                        Range range, std::int16_t* out) {
  const Eight one = eight(1 << kGainBits);
  for (int i = 0; i < kPanel; i += 2 * kQuarter) {
    const Eight sum = requantized(sums + i, to), from = load<Eight>(start + i);
    const Four low = moved_baseline(row + i, low_pairs(sum, one), reinterpret_cast<Four>(low_pairs(from, from)) >> 16, factors);
    const Four high = moved_baseline(row + i + kQuarter, high_pairs(sum, one), reinterpret_cast<Four>(high_pairs(from, from)) >> 16, factors);
    store(out + i, smaller(larger(narrow(low, high), eight(range.low)), eight(range.high)));
  }
}
#else
// Plain loops, for compilers that have no vector types.
void panel_baseline(const std::int16_t* panel, const Inputs& x, int run, Start start, Sums& sums) {
  for (int row = 0; row < x.count; ++row) {
    const std::int16_t* w = panel;
    for (int o = 0; o < kPanel; ++o) {
      std::int32_t sum = start.first[row * start.stride + o];
      for (int r = 0; r < x.runs; ++r, w += run) {
        const std::int16_t* in = x.first + row * x.stride + r * x.pitch;
        for (int k = 0; k < run; ++k) sum += in[k] * w[k];
      }
      sums[row][o] = sum;
    }
  }
}

void requantize_baseline(const std::int32_t* sums, Requantize to, std::int16_t* y) {
  for (int o = 0; o < kPanel; ++o) y[o] = to(sums[o]);
}

// Sixteen channels of a depthwise layer.
template <typename Input>
void depthwise_baseline(const std::int16_t* weights, const std::int32_t* bias, int channels,
                        const Input* origin, std::span<const TapPair> pairs, Requantize to,
                        std::int16_t* y) {
  std::int32_t sums[kPanel];
  std::copy_n(bias, kPanel, sums);
  for (const TapPair& pair : pairs) {
    const std::int16_t* w = weights + static_cast<std::ptrdiff_t>(pair.index) * channels * 2;
    const Input* a = origin + pair.first;
    const Input* b = origin + pair.second;
    for (int c = 0; c < kPanel; ++c) sums[c] += a[c] * w[2 * c] + b[c] * w[2 * c + 1];
  }
  requantize_baseline(sums, to, y);
}

void add_products_baseline(const std::int16_t* panel, const std::int16_t* x, int count, std::int32_t* sums) {
  for (int k = 0; k < count; k += 2, panel += 2 * kPanel)
    for (int o = 0; o < kPanel; ++o) sums[o] += x[k] * panel[2 * o] + x[k + 1] * panel[2 * o + 1];
}

void sum_products_baseline(std::span<const std::int16_t* const> x, const std::int16_t* weights, std::int32_t* sums) {
  std::fill_n(sums, kPanel, 0);
  for (std::size_t k = 0; k < x.size(); k += 2, weights += 2 * kPanel)
    for (int o = 0; o < kPanel; ++o) sums[o] += x[k][o] * weights[2 * o] + x[k + 1][o] * weights[2 * o + 1];
}

std::int32_t dot_product_baseline(const std::int16_t* x, const std::int16_t* y, int count) {
  std::int32_t sum = 0;
  for (int i = 0; i < count; ++i) sum += x[i] * y[i];
  return sum;
}

void move_rows_baseline(const std::int16_t* row, const std::int16_t* start, const std::int32_t* sums, Requantize to,
                        const RowFactor* factors, Range range, std::int16_t* out) {
  for (int i = 0; i < kPanel; ++i) {
    const RowFactor of = factors[row[i]];
    out[i] = range.clip(start[i] + ((to(sums[i]) * of.gain + of.bias * (1 << kGainBits) + (1 << (kRowShift - 1))) >> kRowShift));
  }
}
#endif

#ifdef SOFTSTAIR_AVX2
#define SOFTSTAIR_TARGET __attribute__((target("avx2")))

SOFTSTAIR_TARGET inline __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
SOFTSTAIR_TARGET inline __m128i load_half(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}
SOFTSTAIR_TARGET inline void store(void* to, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}

template <int kRows>
SOFTSTAIR_TARGET void panel_avx2_rows(const std::int16_t* panel, const Inputs& x, int run,
                                      Start start, Sums& sums) {
  __m256i low[kRows], high[kRows];
  for (int row = 0; row < kRows; ++row) {
    low[row] = load(start.first + row * start.stride);
    high[row] = load(start.first + row * start.stride + 8);
  }
  for (int r = 0; r < x.runs; ++r) {
    const std::int16_t* in = x.first + r * x.pitch;
    for (int k = 0; k < run; k += 2, panel += 2 * kPanel) {
      const __m256i w_low = load(panel), w_high = load(panel + kPanel);
      for (int row = 0; row < kRows; ++row) {
        std::int32_t pair;
        __builtin_memcpy(&pair, in + row * x.stride + k, sizeof pair);
        const __m256i both = _mm256_set1_epi32(pair);
        low[row] = _mm256_add_epi32(low[row], _mm256_madd_epi16(both, w_low));
        high[row] = _mm256_add_epi32(high[row], _mm256_madd_epi16(both, w_high));
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    store(sums[row], low[row]);
    store(sums[row] + 8, high[row]);
  }
}

void panel_avx2(const std::int16_t* panel, const Inputs& x, int run, Start start, Sums& sums) {
  constexpr decltype(&panel_avx2_rows<1>) kByRows[kTile] = {
      panel_avx2_rows<1>, panel_avx2_rows<2>, panel_avx2_rows<3>,
      panel_avx2_rows<4>, panel_avx2_rows<5>, panel_avx2_rows<6>};
  kByRows[x.count - 1](panel, x, run, start, sums);
}

#define SOFTSTAIR_VNNI __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

template <int kRows>
SOFTSTAIR_VNNI void panel_vnni_rows(const std::int16_t* panel, const Inputs& x, int run, Start start, Sums& sums) {
  __m512i sum[kRows];
  for (int row = 0; row < kRows; ++row) sum[row] = _mm512_loadu_si512(start.first + row * start.stride);
  for (int r = 0; r < x.runs; ++r) {
    const std::int16_t* in = x.first + r * x.pitch;
    for (int k = 0; k < run; k += 2, panel += 2 * kPanel) {
      const __m512i weights = _mm512_loadu_si512(panel);
      for (int row = 0; row < kRows; ++row) {
        std::int32_t pair;
        __builtin_memcpy(&pair, in + row * x.stride + k, sizeof pair);
        sum[row] = _mm512_dpwssd_epi32(sum[row], _mm512_set1_epi32(pair), weights);
      }
    }
  }
  for (int row = 0; row < kRows; ++row) _mm512_storeu_si512(sums[row], sum[row]);
}

SOFTSTAIR_VNNI void panel_vnni(const std::int16_t* panel, const Inputs& x, int run, Start start, Sums& sums) {
  constexpr decltype(&panel_vnni_rows<1>) kByRows[kTile] = {
      panel_vnni_rows<1>, panel_vnni_rows<2>, panel_vnni_rows<3>,
      panel_vnni_rows<4>, panel_vnni_rows<5>, panel_vnni_rows<6>};
  kByRows[x.count - 1](panel, x, run, start, sums);
}

SOFTSTAIR_TARGET inline __m256i requantized_avx2(__m256i low, __m256i high, Requantize to) {
  const __m256i half = _mm256_set1_epi32(to.half());
  const __m128i shift = _mm_cvtsi32_si128(to.shift);
  low = _mm256_sra_epi32(_mm256_add_epi32(low, half), shift);
  high = _mm256_sra_epi32(_mm256_add_epi32(high, half), shift);
  // Packing saturates to int16, which is wider than every range; it works within 128-bit halves.
  __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  both = _mm256_max_epi16(both, _mm256_set1_epi16(static_cast<std::int16_t>(to.range.low)));
  return _mm256_min_epi16(both, _mm256_set1_epi16(static_cast<std::int16_t>(to.range.high)));
}

SOFTSTAIR_TARGET void requantize_avx2(const std::int32_t* sums, Requantize to, std::int16_t* y) {
  store(y, requantized_avx2(load(sums), load(sums + 8), to));
}

SOFTSTAIR_TARGET void add_products_avx2(const std::int16_t* panel, const std::int16_t* x, int count, std::int32_t* sums) {
  __m256i low = load(sums), high = load(sums + 8);
  for (int k = 0; k < count; k += 2, panel += 2 * kPanel) {
    std::int32_t pair;
    __builtin_memcpy(&pair, x + k, sizeof pair);
    const __m256i both = _mm256_set1_epi32(pair);
    low = _mm256_add_epi32(low, _mm256_madd_epi16(both, load(panel)));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(both, load(panel + kPanel)));
  }
  store(sums, low);
  store(sums + 8, high);
}

SOFTSTAIR_TARGET std::int32_t dot_product_avx2(const std::int16_t* x, const std::int16_t* y, int count) {
  __m256i sums = _mm256_setzero_si256();
  for (int i = 0; i < count; i += kPanel) sums = _mm256_add_epi32(sums, _mm256_madd_epi16(load(x + i), load(y + i)));
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
}

// Eight rows: sum and 2^8 side by side meet gain and bias.
SOFTSTAIR_TARGET inline __m256i moved_avx2(const std::int16_t* row, const std::int16_t* start, __m128i sums, const RowFactor* factors) {
  const __m256i rows = _mm256_cvtepi16_epi32(load_half(row));
  const __m256i factor = _mm256_i32gather_epi32(reinterpret_cast<const int*>(factors), rows, sizeof(RowFactor));
  const __m256i sum = _mm256_or_si256(_mm256_cvtepu16_epi32(sums), _mm256_set1_epi32(1 << (16 + kGainBits)));
  const __m256i change = _mm256_add_epi32(_mm256_madd_epi16(sum, factor), _mm256_set1_epi32(1 << (kRowShift - 1)));
  return _mm256_add_epi32(_mm256_cvtepi16_epi32(load_half(start)), _mm256_srai_epi32(change, kRowShift));
}

SOFTSTAIR_TARGET void move_rows_avx2(const std::int16_t* row, const std::int16_t* start, const std::int32_t* sums, Requantize to,
                                     const RowFactor* factors, Range range, std::int16_t* out) {
  const __m256i sum = requantized_avx2(load(sums), load(sums + 8), to);
  const __m256i low = moved_avx2(row, start, _mm256_castsi256_si128(sum), factors);
  const __m256i high = moved_avx2(row + 8, start + 8, _mm256_extracti128_si256(sum, 1), factors);
  __m256i moved = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  moved = _mm256_max_epi16(moved, _mm256_set1_epi16(static_cast<std::int16_t>(range.low)));
  store(out, _mm256_min_epi16(moved, _mm256_set1_epi16(static_cast<std::int16_t>(range.high))));
}

// Interleave sixteen channels of two taps: a0 b0 a1 b1 ... in int16.
SOFTSTAIR_TARGET inline void interleave(const std::int16_t* a, const std::int16_t* b,
                                        __m256i& low, __m256i& high) {
  // Unpacking works within 128-bit halves; swapping the middle quarters first keeps the order.
  const __m256i first = _mm256_permute4x64_epi64(load(a), 0xD8);
  const __m256i second = _mm256_permute4x64_epi64(load(b), 0xD8);
  low = _mm256_unpacklo_epi16(first, second);
  high = _mm256_unpackhi_epi16(first, second);
}
SOFTSTAIR_TARGET inline void interleave(const std::uint8_t* a, const std::uint8_t* b,
                                        __m256i& low, __m256i& high) {
  const __m128i first = load_half(a), second = load_half(b);
  low = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(first, second));
  high = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(first, second));
}

SOFTSTAIR_TARGET void sum_products_avx2(std::span<const std::int16_t* const> x, const std::int16_t* weights, std::int32_t* sums) {
  __m256i low = _mm256_setzero_si256(), high = low;
  for (std::size_t k = 0; k < x.size(); k += 2, weights += 2 * kPanel) {
    __m256i in_low, in_high;
    interleave(x[k], x[k + 1], in_low, in_high);
    low = _mm256_add_epi32(low, _mm256_madd_epi16(in_low, load(weights)));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(in_high, load(weights + kPanel)));
  }
  store(sums, low);
  store(sums + 8, high);
}

template <typename Input>
SOFTSTAIR_TARGET void depthwise_avx2(const std::int16_t* weights, const std::int32_t* bias,
                                     int channels, const Input* origin,
                                     std::span<const TapPair> pairs, Requantize to,
                                     std::int16_t* y) {
  __m256i low = load(bias), high = load(bias + 8);
  for (const TapPair& pair : pairs) {
    const std::int16_t* w = weights + static_cast<std::ptrdiff_t>(pair.index) * channels * 2;
    __m256i in_low, in_high;
    interleave(origin + pair.first, origin + pair.second, in_low, in_high);
    low = _mm256_add_epi32(low, _mm256_madd_epi16(in_low, load(w)));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(in_high, load(w + kPanel)));
  }
  store(y, requantized_avx2(low, high, to));
}
#endif

}  // namespace

void add_multiple(const std::int16_t* column, std::int16_t factor, int count, std::int32_t* sums) {
#ifdef SOFTSTAIR_VECTORS
  const Eight zero{};
  const std::int16_t once[2] = {factor, 0};
  for (int o = 0; o < count; o += 2 * kQuarter) {
    const Eight some = load<Eight>(column + o);
    store(sums + o, load<Four>(sums + o) + multiply_add(low_pairs(some, zero), pairs(once)));
    store(sums + o + kQuarter, load<Four>(sums + o + kQuarter) + multiply_add(high_pairs(some, zero), pairs(once)));
  }
#else
  for (int o = 0; o < count; ++o) sums[o] += factor * column[o];
#endif
}

void add_products(const std::int16_t* panel, const std::int16_t* x, int count, [[maybe_unused]] bool simd, std::int32_t* sums) {
#ifdef SOFTSTAIR_AVX2
  if (simd) return add_products_avx2(panel, x, count, sums);
#endif
  add_products_baseline(panel, x, count, sums);
}

SOFTSTAIR_ONCE void sum_products(std::span<const std::int16_t* const> x, const std::int16_t* weights, [[maybe_unused]] bool simd, std::int32_t* sums) {
#ifdef SOFTSTAIR_AVX2
  if (simd) return sum_products_avx2(x, weights, sums);
#endif
  sum_products_baseline(x, weights, sums);
}

std::int32_t dot_product(const std::int16_t* x, const std::int16_t* y, int count, [[maybe_unused]] bool simd) {
#ifdef SOFTSTAIR_AVX2
  if (simd) return dot_product_avx2(x, y, count);
#endif
  return dot_product_baseline(x, y, count);
}

void requantize(const std::int32_t* sums, Requantize to, [[maybe_unused]] bool simd, std::int16_t* y) {
#ifdef SOFTSTAIR_AVX2
  if (simd) return requantize_avx2(sums, to, y);
#endif
  requantize_baseline(sums, to, y);
}

void move_rows(const std::int16_t* row, const std::int16_t* start, const std::int32_t* sums, Requantize to, const RowFactor* factors,
               Range range, [[maybe_unused]] bool simd, std::int16_t* out) {
#ifdef SOFTSTAIR_AVX2
  if (simd) return move_rows_avx2(row, start, sums, to, factors, range, out);
#endif
  move_rows_baseline(row, start, sums, to, factors, range, out);
}

bool simd_available() {
#ifdef SOFTSTAIR_AVX2
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

bool wide_simd_available() {
#ifdef SOFTSTAIR_AVX2
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

// Where accumulators go, requantized or as they are: that of input p and output o to p * stride + o.
void Matrix::run(const Inputs& x, Start start, std::int16_t* y, std::int32_t* sums, std::ptrdiff_t stride) const {
  const auto kernel = [this] {
#ifdef SOFTSTAIR_AVX2
    static const bool has_products = wide_simd_available() && __builtin_cpu_supports("avx512vnni");
    if (simd_ && has_products) return panel_vnni;
    if (simd_) return panel_avx2;
#endif
    return panel_baseline;
  }();
  // A panel stays in the first-level cache while all inputs pass by.
  for (int o = 0; o < outputs(); o += kPanel)
    for (int p = 0; p < x.count; p += kTile) {
      Inputs tile = x;
      tile.first += p * x.stride;
      tile.count = std::min(kTile, x.count - p);
      Sums of_tile;
      kernel(panels_.data() + static_cast<std::ptrdiff_t>(o) * depth_, tile, depth_ / x.runs,
             {start.first + p * start.stride + o, start.stride}, of_tile);
      for (int row = 0; row < tile.count; ++row) {
        const std::ptrdiff_t at = (p + row) * stride + o;
        if (y != nullptr)
          requantize(of_tile[row], to_, simd_, y + at);
        else
          std::memcpy(sums + at, of_tile[row], sizeof of_tile[row]);
      }
    }
}

void Matrix::apply(const Inputs& x, Start start, std::int16_t* y, std::ptrdiff_t y_stride) const { run(x, start, y, nullptr, y_stride); }
void Matrix::accumulate(const Inputs& x, std::int32_t* y) const { run(x, {bias_.data(), 0}, nullptr, y, outputs()); }

SOFTSTAIR_SMALL Depthwise::Depthwise(const Weights& w, Pairs pairs, Requantize to, bool simd)
    : channels_(w.outputs),
      simd_(simd && simd_available()),
      to_(to),
      pairs_(std::move(pairs)),
      bias_(w.bias) {
  if (channels_ % kPanel != 0) refuse("a depthwise layer needs full panels");
  weights_.resize(pairs_.size() * channels_ * 2);
  for (std::size_t pair = 0; pair < pairs_.size(); ++pair)
    for (int c = 0; c < channels_; ++c)
      for (int half = 0; half < 2; ++half)
        if (const int tap = pairs_[pair][half]; tap != kNoTap)
          weights_[(pair * channels_ + c) * 2 + half] =
              w.values[static_cast<std::size_t>(c) * w.taps + tap];
}

SOFTSTAIR_SMALL std::vector<TapPair> Depthwise::place(int side, std::ptrdiff_t pitch, std::ptrdiff_t step) const {
  const auto offset = [&](int tap) { return tap / side * pitch + tap % side * step; };
  std::vector<TapPair> placed;
  for (const auto& [first, second] : pairs_)
    // A tap that is none has zero weights and may read anything.
    placed.push_back({static_cast<int>(placed.size()), offset(first),
                      offset(second == kNoTap ? first : second)});
  return placed;
}

template <typename Input>
void Depthwise::apply(const Input* origin, std::span<const TapPair> pairs, int first, int last,
                      std::int16_t* y) const {
  const auto kernel = [this] {
#ifdef SOFTSTAIR_AVX2
    if (simd_) return depthwise_avx2<Input>;
#endif
    return depthwise_baseline<Input>;
  }();
  for (int c = first; c < last; c += kPanel)
    kernel(weights_.data() + 2 * c, bias_.data() + c, channels_, origin + c, pairs, to_, y + c);
}

template void Depthwise::apply(const std::int16_t*, std::span<const TapPair>, int, int, std::int16_t*) const;
template void Depthwise::apply(const std::uint8_t*, std::span<const TapPair>, int, int, std::int16_t*) const;

}  // namespace softstair
