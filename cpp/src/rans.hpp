// SPDX-License-Identifier: Apache-2.0
// Interleaved rANS: 32-bit states, 16-bit words, up to four lanes over one word stream.
// J. Duda, "Asymmetric numeral systems", arXiv 1311.2540; F. Giesen, "Interleaved entropy
// coders", arXiv 1402.3392.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "tables.hpp"

namespace softstair {

constexpr int kMaxLanes = 4;  // their number is a power of two
constexpr std::uint32_t kStateLow = 1u << 16;  // states live in [2^16, 2^32)
constexpr int kLargestSymbol = 32767;
constexpr int kRawChunk = 12;   // raw bits coded at once

// What went wrong while reading; a coder never throws in its inner loop.
enum class Fault { none, truncated, corrupt };

// Reads symbols in coding order.
class Decoder {
 public:
  Decoder(std::span<const std::uint8_t> bytes, int lanes) : bytes_(bytes), lanes_(lanes) {
    for (int lane = 0; lane < lanes_; ++lane) {
      const std::uint32_t high = next_word();
      state_[lane] = high << 16 | next_word();
      if (state_[lane] < kStateLow) fail(Fault::corrupt);
    }
  }

  Fault fault() const { return fault_; }
  // Bytes that were read so far.
  std::size_t position() const { return position_; }

  // The same bytes, moved or with more behind them.
  void extend(std::span<const std::uint8_t> bytes) { bytes_ = bytes; }

  // The symbol of a given rank, which decides the lane.
  int read(const Tables& tables, int row, std::size_t rank) { return read_here(tables, row, rank); }
  // The same for loops that take the time.
  [[gnu::always_inline]] int read_here(const Tables& tables, int row, std::size_t rank) {
    const int lane = static_cast<int>(rank & (lanes_ - 1));
    std::uint32_t& x = state_[lane];
    const std::uint32_t slot = x & (kProbabilityOne - 1);
    const std::uint16_t* cdf = tables.cdf(row);
    const int symbol = tables.find(row, slot);
    x = (cdf[symbol + 1] - cdf[symbol]) * (x >> kProbabilityBits) + slot - cdf[symbol];
    refill(x);
    const int largest = tables.largest(row);
    if (symbol <= 2 * largest) [[likely]]
      return symbol - largest;
    return read_escape(largest, lane);
  }

  // The slot of the symbol of a given rank, and then what it turned out to be.
  std::uint32_t slot(std::size_t rank) const { return state_[rank & (lanes_ - 1)] & (kProbabilityOne - 1); }
  void take(std::uint32_t start, std::uint32_t slots, std::size_t rank) {
    std::uint32_t& x = state_[rank & (lanes_ - 1)];
    x = slots * (x >> kProbabilityBits) + (x & (kProbabilityOne - 1)) - start;
    refill(x);
  }

  // To be called after the last symbol: states and words must be used up exactly. is_last: nothing follows.
  void finish(bool is_last = true) {
    for (int lane = 0; lane < lanes_; ++lane)
      if (state_[lane] != kStateLow) fail(Fault::corrupt);
    if (is_last && position_ != bytes_.size()) fail(Fault::corrupt);
  }

 private:
  void fail(Fault fault) {
    if (fault_ == Fault::none) fault_ = fault;
  }

  std::uint32_t next_word() {
    if (bytes_.size() - position_ < 2) {
      fail(Fault::truncated);
      return 0;
    }
    const std::uint32_t word = bytes_[position_] | bytes_[position_ + 1] << 8;
    position_ += 2;
    return word;
  }

  void refill(std::uint32_t& x) {
    // A load that may be in vain is faster than a branch that no processor guesses.
    if (bytes_.size() - position_ < 2) [[unlikely]] {
      if (x < kStateLow) x = x << 16 | next_word();
      return;
    }
    const std::uint32_t word = bytes_[position_] | bytes_[position_ + 1] << 8;
    const std::uint32_t low = x < kStateLow;
    x = low ? x << 16 | word : x;
    position_ += 2 * low;
  }

  std::uint32_t read_bits(int count, int lane) {
    std::uint32_t value = 0;
    while (count > 0) {
      const int chunk = count < kRawChunk ? count : kRawChunk;
      const int shift = kProbabilityBits - chunk;
      std::uint32_t& x = state_[lane];
      const std::uint32_t slot = x & (kProbabilityOne - 1);
      const std::uint32_t bits = slot >> shift;
      x = (x >> kProbabilityBits << shift) + (slot & ((1u << shift) - 1));
      refill(x);
      value = value << chunk | bits;
      count -= chunk;
    }
    return value;
  }

  [[gnu::noinline]] int read_escape(int largest, int lane) {
    const bool negative = read_bits(1, lane) != 0;
    const int length = static_cast<int>(read_bits(kClassBits, lane));
    const int excess = static_cast<int>((1u << length | read_bits(length, lane)) - 1);
    const int magnitude = largest + 1 + excess;
    if (magnitude > kLargestSymbol) {
      fail(Fault::corrupt);
      return 0;
    }
    return negative ? -magnitude : magnitude;
  }

  std::span<const std::uint8_t> bytes_;
  std::size_t position_ = 0;
  int lanes_;
  Fault fault_ = Fault::none;
  std::array<std::uint32_t, kMaxLanes> state_{};
};

// Writes symbols in the reverse of coding order.
class Encoder {
 public:
  explicit Encoder(int lanes) : lanes_(lanes) { state_.fill(kStateLow); }

  // The symbol of a given rank, which decides the lane.
  void write_before(const Tables& tables, int row, std::size_t rank, int value) {
    const int lane = static_cast<int>(rank & (lanes_ - 1));
    const int largest = tables.largest(row);
    int symbol = value + largest;
    if (value < -largest || value > largest) {
      write_escape(largest, lane, value);
      symbol = 2 * largest + 1;
    }
    const std::uint16_t* cdf = tables.cdf(row);
    push(cdf[symbol], cdf[symbol + 1] - cdf[symbol], lane);
  }

  // The same for a symbol whose slots are given.
  void write_slots(std::uint32_t start, std::uint32_t slots, std::size_t rank) {
    push(start, slots, static_cast<int>(rank & (lanes_ - 1)));
  }

  // The finished stream; the encoder must not be used afterwards.
  std::vector<std::uint8_t> finish() {
    for (int lane = lanes_ - 1; lane >= 0; --lane) {
      words_.push_back(static_cast<std::uint16_t>(state_[lane]));
      words_.push_back(static_cast<std::uint16_t>(state_[lane] >> 16));
    }
    std::vector<std::uint8_t> bytes;
    bytes.reserve(2 * words_.size());
    for (auto word = words_.rbegin(); word != words_.rend(); ++word) {
      bytes.push_back(static_cast<std::uint8_t>(*word));
      bytes.push_back(static_cast<std::uint8_t>(*word >> 8));
    }
    return bytes;
  }

 private:
  void push(std::uint32_t start, std::uint32_t frequency, int lane) {
    std::uint32_t& x = state_[lane];
    if (x >= static_cast<std::uint64_t>(frequency) << (32 - kProbabilityBits)) {
      words_.push_back(static_cast<std::uint16_t>(x));
      x >>= 16;
    }
    x = (x / frequency << kProbabilityBits) + x % frequency + start;
  }

  void write_bits(std::uint32_t value, int count, int lane) {
    // Chunks are read from the top, so the lowest one is written first.
    int tail = count % kRawChunk;
    if (tail != 0) {
      push_bits(value & ((1u << tail) - 1), tail, lane);
      value >>= tail;
    }
    for (int left = count - tail; left > 0; left -= kRawChunk) {
      push_bits(value & ((1u << kRawChunk) - 1), kRawChunk, lane);
      value >>= kRawChunk;
    }
  }

  void push_bits(std::uint32_t bits, int count, int lane) {
    const int shift = kProbabilityBits - count;
    push(bits << shift, 1u << shift, lane);
  }

  void write_escape(int largest, int lane, int value) {
    const std::uint32_t over = static_cast<std::uint32_t>((value < 0 ? -value : value) - largest);
    const int length = std::bit_width(over) - 1;
    write_bits(over & ((1u << length) - 1), length, lane);
    write_bits(static_cast<std::uint32_t>(length), kClassBits, lane);
    write_bits(value < 0, 1, lane);
  }

  int lanes_;
  std::array<std::uint32_t, kMaxLanes> state_{};
  std::vector<std::uint16_t> words_;
};

// Throws std::invalid_argument unless all symbols are in [-32767, 32767].
void check_symbols(std::span<const std::int16_t> symbols);

// A stream of nothing but given symbols, each by its row, and the way back. Both throw
// std::invalid_argument if a row, a symbol or the number of lanes is impossible.
std::vector<std::uint8_t> encode_rows(const Tables& tables, std::span<const std::int16_t> rows,
                                      std::span<const std::int16_t> symbols, int lanes);
Fault decode_rows(const Tables& tables, std::span<const std::int16_t> rows,
                  std::span<const std::uint8_t> bytes, int lanes,
                  std::vector<std::int16_t>& symbols);

// True if no stream of so many bytes can hold symbols that cost `bits` by their tables.
bool cannot_hold(std::size_t bytes, double bits);

// What the cheapest symbol of a row costs by its table, in bits.
double least_bits(const Tables& tables, int row);

}  // namespace softstair
