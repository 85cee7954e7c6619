// SPDX-License-Identifier: Apache-2.0
// The bitstream of WebP lossless (RFC 9649, section 3), without RIFF.
#pragma once

#include <cstdint>
#include <vector>

#include "cursor.hpp"

namespace softstair {

// Pixels as 0xAARRGGBB, row by row. Throws Error (STAIR_CORRUPT), naming `what`, unless the bytes are
// a picture of just this size.
std::vector<std::uint32_t> decode_vp8l(Bytes bytes, int height, int width, const std::string& what);

}  // namespace softstair
