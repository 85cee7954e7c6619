// SPDX-License-Identifier: Apache-2.0
// The payload of a tile, read by the core alone, with and without vector kernels: the same symbols.
#include <cstdlib>

#include "testing.hpp"
#include "tile_decoder.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace softstair;
  static const Setting setting(7, kSmall);
  if (size < 3) return 0;
  constexpr int kStates[] = {1, 4, 8, 16, 32};
  const int states = kStates[data[0] % 5];
  const Size tile = {1 + data[1] % 20, 1 + data[2] % 20};
  const std::span<const std::uint8_t> payload(data + 3, size - 3);
  const Decoded one = decode_symbols(*setting.model(true, states), tile, payload);
  const Decoded other = decode_symbols(*setting.model(false, states), tile, payload);
  if (one.fault != other.fault) std::abort();
  if (one.fault == Fault::none && one.symbols.y != other.symbols.y) std::abort();
  return 0;
}
