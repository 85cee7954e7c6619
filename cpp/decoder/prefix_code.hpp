// SPDX-License-Identifier: Apache-2.0
// Bits from the lowest of a byte on, and canonical prefix codes: what Deflate and WebP share.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cursor.hpp"

namespace softstair {

class BitReader {
 public:
  explicit BitReader(Bytes bytes) : bytes_(bytes) {}

  // The next `count` <= 24 bits; beyond the end, zeros.
  std::uint32_t peek(int count) {
    while (held_ < count) {
      const std::uint64_t next = at_ < bytes_.size() ? bytes_[at_] : 0;
      bits_ |= next << held_;
      ++at_;
      held_ += 8;
    }
    return static_cast<std::uint32_t>(bits_ & ((std::uint64_t{1} << count) - 1));
  }
  void skip(int count) {
    bits_ >>= count;
    held_ -= count;
  }
  std::uint32_t read(int count) {
    const std::uint32_t value = peek(count);
    skip(count);
    return value;
  }
  // True if more bits were consumed than there are.
  bool overrun() const { return at_ - held_ / 8 > bytes_.size(); }
  // Drop what is left of a byte; the place of the next one.
  std::size_t align() {
    skip(held_ % 8);
    return at_ - held_ / 8;
  }
  void seek(std::size_t at) {
    at_ = at;
    bits_ = 0;
    held_ = 0;
  }

 private:
  Bytes bytes_;
  std::size_t at_ = 0;
  std::uint64_t bits_ = 0;
  int held_ = 0;
};

class PrefixCode {
 public:
  static constexpr int kLongest = 15;

  PrefixCode() = default;
  // lengths: of the code of every symbol, 0 where it has none. False unless the code is complete;
  // a code of one symbol takes no bits, or, of `one_bit`, one (which Deflate writes as length 1).
  bool build(std::span<const std::uint8_t> lengths, bool one_bit);

  // The next symbol; what no code stands for is symbol 0 and a fault that the caller sees as overrun.
  int read(BitReader& bits) const {
    const std::uint32_t next = bits.peek(kLongest);
    const Entry& direct = fast_[next & ((1u << kFast) - 1)];
    if (direct.length <= kFast) {
      bits.skip(direct.length);
      return direct.symbol;
    }
    return read_long(bits, next);
  }

 private:
  static constexpr int kFast = 8;
  struct Entry {
    std::uint16_t symbol;
    std::uint8_t length;
  };
  int read_long(BitReader& bits, std::uint32_t next) const;

  std::array<Entry, 1 << kFast> fast_{};
  std::array<std::uint16_t, kLongest + 2> first_{}, start_{};  // code and rank of the first of a length
  std::vector<std::uint16_t> symbols_;                          // by length, then by value
};

}  // namespace softstair
