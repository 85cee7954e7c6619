// SPDX-License-Identifier: Apache-2.0
#include "spread.hpp"

#include <algorithm>
#include <cstring>

namespace softstair {
namespace {

// kValues: of a row of a patch if it is known, else 0: the compiler copies so many in a few instructions.
template <int kValues>
void put_row(const float* from, std::ptrdiff_t step, int width, std::ptrdiff_t values, bool adds, float* to) {
  const std::ptrdiff_t count = kValues > 0 ? kValues : values;
  for (int x = 0; x < width; ++x, from += step, to += count)
    if (adds)
      for (std::ptrdiff_t i = 0; i < count; ++i) to[i] += from[i];
    else
      std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

constexpr int kColours = 3, kPatch = 4;  // of the last layer of the networks of the kit

}  // namespace

void spread(const Patches& patches, int factor, int channels, bool adds, float* plane, std::ptrdiff_t row) {
  const std::ptrdiff_t values = static_cast<std::ptrdiff_t>(factor) * channels, step = factor * values;
  const auto put = factor == kPatch && channels == kColours ? put_row<kPatch * kColours> : put_row<0>;
  for (int y = 0; y < patches.height; ++y)
    for (int i = 0; i < factor; ++i, plane += row)
      put(patches.first + y * patches.row + i * values, step, patches.width, values, adds, plane);
}

}  // namespace softstair
