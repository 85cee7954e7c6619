// SPDX-License-Identifier: Apache-2.0
#include "pixels.hpp"

namespace softstair {

void to_pixels(const float* planes, std::size_t plane, std::size_t pitch, std::size_t height, std::size_t width,
               std::uint8_t* pixels) {
  // Adding what leaves a float no binary places rounds it, where a call to a library would take ten times as long.
  constexpr float kWhole = 1 << 23;
  for (std::size_t row = 0; row < height; ++row, planes += pitch, pixels += 3 * width)
    for (std::size_t x = 0; x < width; ++x)
      for (std::size_t c = 0; c < 3; ++c) {
        const float value = planes[c * plane + x] * 255;
        const float inside = value > 0 ? value < 255 ? value : 255 : 0;  // also of what is not a number
        pixels[3 * x + c] = static_cast<std::uint8_t>(static_cast<int>((inside + kWhole) - kWhole));
      }
}

}  // namespace softstair
