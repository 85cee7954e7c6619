// SPDX-License-Identifier: Apache-2.0
#include "prefix_code.hpp"

namespace softstair {
namespace {

std::uint32_t reversed(std::uint32_t code, int length) {
  std::uint32_t result = 0;
  for (int i = 0; i < length; ++i) result = result << 1 | (code >> i & 1);
  return result;
}

}  // namespace

bool PrefixCode::build(std::span<const std::uint8_t> lengths, bool one_bit) {
  std::array<std::uint16_t, kLongest + 1> count{};
  for (const std::uint8_t length : lengths) {
    if (length > kLongest) return false;
    ++count[length];
  }
  const int coded = static_cast<int>(lengths.size()) - count[0];
  count[0] = 0;
  symbols_.clear();
  symbols_.reserve(coded);
  for (int length = 1; length <= kLongest; ++length) {
    if (count[length] == 0) continue;
    for (std::size_t symbol = 0; symbol < lengths.size(); ++symbol)
      if (lengths[symbol] == length) symbols_.push_back(static_cast<std::uint16_t>(symbol));
  }
  if (coded == 1) {  // either bit stands for the only symbol
    if (one_bit && count[1] != 1) return false;
    fast_.fill({symbols_[0], static_cast<std::uint8_t>(one_bit ? 1 : 0)});
    return true;
  }
  std::uint32_t code = 0, rank = 0;
  for (int length = 1; length <= kLongest; ++length) {
    code <<= 1;
    first_[length] = static_cast<std::uint16_t>(code);
    start_[length] = static_cast<std::uint16_t>(rank);
    code += count[length];
    rank += count[length];
    if (code > 1u << length) return false;
  }
  first_[kLongest + 1] = start_[kLongest + 1] = 0;
  if (code != 1u << kLongest) return false;
  fast_.fill({0, kFast + 1});
  for (int length = 1; length <= kFast; ++length)
    for (int i = 0; i < count[length]; ++i)
      for (std::uint32_t at = reversed(first_[length] + i, length); at < 1u << kFast; at += 1u << length)
        fast_[at] = {symbols_[start_[length] + i], static_cast<std::uint8_t>(length)};
  return true;
}

int PrefixCode::read_long(BitReader& bits, std::uint32_t next) const {
  std::uint32_t code = 0;
  for (int length = 1; length <= kLongest; ++length) {
    code = code << 1 | (next >> (length - 1) & 1);
    const std::uint32_t last = length < kLongest ? static_cast<std::uint32_t>(start_[length + 1]) : symbols_.size();
    const std::uint32_t count = last - start_[length];
    if (code - first_[length] < count) {
      bits.skip(length);
      return symbols_[start_[length] + code - first_[length]];
    }
  }
  bits.skip(kLongest);  // not reached by a complete code
  return 0;
}

}  // namespace softstair
