// SPDX-License-Identifier: Apache-2.0
#include "rans.hpp"

#include <cmath>

namespace softstair {

double cross_entropy(const Tables& tables, int row, int value) {
  const int largest = tables.largest(row);
  const bool escaped = value < -largest || value > largest;
  const int symbol = escaped ? 2 * largest + 1 : value + largest;
  const std::uint16_t* cdf = tables.cdf(row);
  double bits = kProbabilityBits - std::log2(static_cast<double>(cdf[symbol + 1] - cdf[symbol]));
  if (escaped) {
    const auto over = static_cast<std::uint32_t>((value < 0 ? -value : value) - largest);
    bits += 1 + kClassBits + std::bit_width(over) - 1;
  }
  return bits;
}

}  // namespace softstair
