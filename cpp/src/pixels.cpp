// SPDX-License-Identifier: Apache-2.0
#include "pixels.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "layers.hpp"

#if defined(__GNUC__)
#define SOFTSTAIR_INLINE inline __attribute__((always_inline))
#else
#define SOFTSTAIR_INLINE inline
#endif
#if defined(SOFTSTAIR_SIMD) && defined(__x86_64__) && defined(__GNUC__)
#define SOFTSTAIR_AVX2 __attribute__((target("avx2")))
#define SOFTSTAIR_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#endif

namespace softstair {
namespace {

constexpr int kReach = 2, kSide = 2 * kReach + 1;  // pixels that count, on every side and in all
#if defined(__GNUC__)
typedef float Four __attribute__((vector_size(16)));
typedef float Eight __attribute__((vector_size(32)));
typedef float Sixteen __attribute__((vector_size(64)));
constexpr int kMostLanes = 16;
#else
using Four = float;
constexpr int kMostLanes = 1;
#endif
constexpr float kNowhere = 1e9f;  // the luma of what lies beyond: unlike any other
constexpr float kNear[] = {1, 0.70664828f, 0, 0, 0.24935221f};  // exp(-d^2 / 2.88) for a squared distance of d^2

// A row, colour by colour and luma, with kReach values beyond it on either side.
struct Line {
  float* first;
  std::ptrdiff_t stride;
};

template <typename Vector>
SOFTSTAIR_INLINE Vector load(const float* from) {
  Vector values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

// A pixel near another: its line from there on, and its weight, which falls by so much where luma differs by 1.
struct Near {
  const float* first;
  float weight, slope;
};
using Around = std::array<Near, kSide * kSide>;

Around around(const Line* lines, float slope) {
  Around all;
  for (int i = 0; i < kSide * kSide; ++i) {
    const int row = i / kSide - kReach, column = i % kSide - kReach;
    const float weight = kNear[row * row] * kNear[column * column];
    all[static_cast<std::size_t>(i)] = {lines[row + kReach].first + column + kReach, weight, weight * slope};
  }
  return all;
}

// Half-way to the means of what is around and like it.
template <typename Vector>
SOFTSTAIR_INLINE void smooth(const Around& all, std::ptrdiff_t stride, int count, float* moved) {
  for (int x = 0; x < count; x += static_cast<int>(sizeof(Vector) / sizeof(float))) {
    const float* own = all[all.size() / 2].first + x;
    const Vector luma = load<Vector>(own + 3 * stride);
    Vector weights{}, red{}, green{}, blue{};
    for (const Near& near : all) {
      const float* other = near.first + x;
      const Vector away = load<Vector>(other + 3 * stride) - luma;
      Vector weight = near.weight - near.slope * (away < 0 ? -away : away);
      weight = weight > 0 ? weight : Vector{};
      weights += weight;
      red += weight * load<Vector>(other);
      green += weight * load<Vector>(other + stride);
      blue += weight * load<Vector>(other + 2 * stride);
    }
    const Vector half = 0.5f / weights, sums[] = {red, green, blue};
    for (int colour = 0; colour < 3; ++colour) {
      const Vector level = 0.5f * load<Vector>(own + colour * stride) + half * sums[colour];
      std::memcpy(moved + colour * stride + x, &level, sizeof level);
    }
  }
}

using Smooth = void (*)(const Around&, std::ptrdiff_t, int, float*);

void smooth_plainly(const Around& all, std::ptrdiff_t stride, int count, float* moved) {
  smooth<Four>(all, stride, count, moved);
}
#ifdef SOFTSTAIR_AVX2
SOFTSTAIR_AVX2 void smooth_avx2(const Around& all, std::ptrdiff_t stride, int count, float* moved) {
  smooth<Eight>(all, stride, count, moved);
}
SOFTSTAIR_AVX512 void smooth_avx512(const Around& all, std::ptrdiff_t stride, int count, float* moved) {
  smooth<Sixteen>(all, stride, count, moved);
}
#endif

Smooth fastest() {
#ifdef SOFTSTAIR_AVX2
  if (wide_simd_available()) return smooth_avx512;
  if (simd_available()) return smooth_avx2;
#endif
  return smooth_plainly;
}

// A row of a part and what lies around it.
void read(const Colours& colours, const Part& part, int row, const Line& line) {
  std::fill_n(line.first, 3 * line.stride, 0.0f);
  std::fill_n(line.first + 3 * line.stride, line.stride, kNowhere);
  if (row < 0 || row >= colours.height) return;
  const int left = part.left - kReach, first = std::max(left, 0);
  const int last = std::min(part.left + part.width + kReach, colours.width);
  const float* from = colours.first + row * colours.row + first * colours.pixel;
  float* to = line.first + (first - left);
  for (int x = 0; x < last - first; ++x) {
    const float* pixel = from + x * colours.pixel;
    const float red = pixel[0], green = pixel[colours.colour], blue = pixel[2 * colours.colour];
    to[x] = red, to[x + line.stride] = green, to[x + 2 * line.stride] = blue;
    to[x + 3 * line.stride] = 0.25f * red + 0.5f * green + 0.25f * blue;
  }
}

void round_row(const float* values, std::ptrdiff_t pixel, std::ptrdiff_t colour, int width, std::uint8_t* pixels) {
  // Adding what leaves a float no binary places rounds it, where a call to a library would take ten times as long.
  constexpr float kWhole = 1 << 23;
  for (int x = 0; x < width; ++x)
    for (int c = 0; c < 3; ++c) {
      const float value = values[c * colour + x * pixel] * 255;
      const float inside = value > 0 ? value < 255 ? value : 255 : 0;  // also of what is not a number
      pixels[3 * x + c] = static_cast<std::uint8_t>(static_cast<int>((inside + kWhole) - kWhole));
    }
}

}  // namespace

void to_pixels(const Colours& colours, const Part& part, int threshold, std::uint8_t* pixels) {
  const std::ptrdiff_t stride = part.width + 2 * kReach + kMostLanes, size = 3 * static_cast<std::ptrdiff_t>(part.width);
  if (threshold == 0) {
    for (int row = part.top; row < part.top + part.height; ++row, pixels += size)
      round_row(colours.first + row * colours.row + part.left * colours.pixel, colours.pixel, colours.colour, part.width, pixels);
    return;
  }
  std::vector<float> values((kSide + 1) * 4 * static_cast<std::size_t>(stride));
  const auto line = [&](int row) { return Line{values.data() + (row + kSide) % kSide * 4 * stride, stride}; };
  float* moved = values.data() + kSide * 4 * stride;
  const Smooth smooth_row = fastest();
  for (int row = part.top - kReach; row < part.top + part.height + kReach; ++row) {
    read(colours, part, row, line(row));
    const int middle = row - kReach;
    if (middle < part.top) continue;
    Line lines[kSide];
    for (int y = 0; y < kSide; ++y) lines[y] = line(middle - kReach + y);
    smooth_row(around(lines, 255.0f / static_cast<float>(threshold)), stride, part.width, moved);
    round_row(moved, 1, stride, part.width, pixels);
    pixels += size;
  }
}

}  // namespace softstair
