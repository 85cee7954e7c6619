// SPDX-License-Identifier: Apache-2.0
// From what a network makes to pixels, with or without the smoothing that stops at edges
// (docs/format/stream.md, "Smoothing").
#pragma once

#include <cstddef>
#include <cstdint>

namespace softstair {

constexpr int kMostSmoothing = 63;  // grey levels

// Red, green and blue, about [0, 1]; row, pixel and colour are distances in values.
struct Colours {
  const float* first;
  int height, width;
  std::ptrdiff_t row, pixel, colour;
};

struct Part {
  int top, left, height, width;
};

// Pixels of a part, (height, width, 3): rounded to 255ths, half to even. threshold: of the smoothing, in grey
// levels; 0: none.
void to_pixels(const Colours& colours, const Part& part, int threshold, std::uint8_t* pixels);

}  // namespace softstair
