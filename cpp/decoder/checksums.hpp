// SPDX-License-Identifier: Apache-2.0
// CRC-32 (that of zlib) and SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstdint>

#include "cursor.hpp"

namespace softstair {

// Of bytes that follow others, whose checksum is `before`.
std::uint32_t crc32(Bytes bytes, std::uint32_t before = 0);

class Sha256 {
 public:
  void add(Bytes bytes);
  std::array<std::uint8_t, 32> finish();

 private:
  void block(const std::uint8_t* words);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> open_{};
  std::uint64_t size_ = 0;
};

}  // namespace softstair
