// SPDX-License-Identifier: Apache-2.0
// What a network puts out, as pixels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace softstair {

// planes (3, .., pitch) about [0, 1], `plane` values each, to pixels (height, width, 3): rounded to 255ths,
// half to even.
void to_pixels(const float* planes, std::size_t plane, std::size_t pitch, std::size_t height, std::size_t width,
               std::uint8_t* pixels);

}  // namespace softstair
