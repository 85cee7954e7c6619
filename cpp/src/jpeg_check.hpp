// SPDX-License-Identifier: Apache-2.0
// Whether the entropy-coded data of a JPEG file is what its headers announce.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace softstair {

enum class JpegHealth {
  sound,
  damaged,  // codes that do not exist, too few of them, or many bytes that belong to nothing
  unknown,  // arithmetic coding, lossless or hierarchical: not looked at
};

// Walks the Huffman codes of every scan, as a decoder does before it computes anything.
JpegHealth check_jpeg(std::span<const std::uint8_t> data);

}  // namespace softstair
