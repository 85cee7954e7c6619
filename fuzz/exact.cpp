// SPDX-License-Identifier: Apache-2.0
// The payload of an exact tile.
#include <stdexcept>

#include "error.hpp"
#include "vp8l.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  try {
    softstair::decode_vp8l({data + 2, size - 2}, 1 + data[0] % 64, 1 + data[1] % 64, "tile");
  } catch (const softstair::Error&) {
  }
  return 0;
}
