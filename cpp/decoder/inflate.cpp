// SPDX-License-Identifier: Apache-2.0
#include "inflate.hpp"

#include <algorithm>

#include "prefix_code.hpp"

namespace softstair {
namespace {

constexpr int kEndOfBlock = 256, kLengths = 286, kDistances = 30;
constexpr std::array<std::uint8_t, 29> kLengthBits = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                      2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};

// Codes 0, 1, .. of growing ranges: where range `code` begins, when the first is `start`.
template <std::size_t N, typename Bits>
constexpr std::array<std::uint16_t, N> ranges(int start, Bits bits) {
  std::array<std::uint16_t, N> first{};
  for (std::size_t i = 0; i < N; ++i) {
    first[i] = static_cast<std::uint16_t>(start);
    start += 1 << bits(i);
  }
  return first;
}
constexpr int distance_bits(std::size_t code) { return code < 2 ? 0 : static_cast<int>(code / 2 - 1); }
constexpr auto kFirstLength = [] {
  auto first = ranges<29>(3, [](std::size_t i) { return kLengthBits[i]; });
  first[28] = 258;
  return first;
}();
constexpr auto kFirstDistance = ranges<kDistances>(1, distance_bits);

class Inflater {
 public:
  Inflater(Bytes bytes, std::size_t limit, std::vector<std::uint8_t>& out) : bytes_(bytes), bits_(bytes), limit_(limit), out_(out) {}

  Inflated run() {
    for (bool last = false; !last;) {
      last = bits_.read(1);
      const std::uint32_t kind = bits_.read(2);
      if (kind > 2) return Inflated::damaged;
      const Inflated result = kind == 0 ? stored() : kind == 1 ? fixed() : dynamic();
      if (result != Inflated::done) return result;
      if (bits_.overrun()) return Inflated::damaged;
    }
    return Inflated::done;
  }
  std::size_t end() { return bits_.align(); }

 private:
  Inflated stored() {
    const std::size_t at = bits_.align();
    if (at > bytes_.size() || bytes_.size() - at < 4) return Inflated::damaged;
    const std::size_t count = bytes_[at] | bytes_[at + 1] << 8;
    if ((count ^ 0xffff) != static_cast<std::size_t>(bytes_[at + 2] | bytes_[at + 3] << 8)) return Inflated::damaged;
    if (bytes_.size() - at - 4 < count) return Inflated::damaged;
    if (count > limit_ - out_.size()) return Inflated::too_long;
    const Bytes piece = bytes_.subspan(at + 4, count);
    out_.insert(out_.end(), piece.begin(), piece.end());
    bits_.seek(at + 4 + count);
    return Inflated::done;
  }

  Inflated fixed() {
    std::array<std::uint8_t, 288> lengths;
    for (int i = 0; i < 288; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    std::array<std::uint8_t, 32> distances;
    distances.fill(5);
    literals_.build(lengths, true);
    distances_.build(distances, true);
    has_distances_ = true;
    return block();
  }

  Inflated dynamic() {
    constexpr std::array<std::uint8_t, 19> kOrder = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    const int literals = static_cast<int>(bits_.read(5)) + 257, distances = static_cast<int>(bits_.read(5)) + 1;
    const int codes = static_cast<int>(bits_.read(4)) + 4;
    if (literals > kLengths || distances > kDistances) return Inflated::damaged;
    std::array<std::uint8_t, 19> of_lengths{};
    for (int i = 0; i < codes; ++i) of_lengths[kOrder[i]] = static_cast<std::uint8_t>(bits_.read(3));
    PrefixCode code;
    if (!code.build(of_lengths, true)) return Inflated::damaged;
    std::array<std::uint8_t, kLengths + kDistances> lengths{};
    const int total = literals + distances;
    for (int i = 0; i < total;) {
      if (bits_.overrun()) return Inflated::damaged;
      const int symbol = code.read(bits_);
      if (symbol < 16) {
        lengths[i++] = static_cast<std::uint8_t>(symbol);
        continue;
      }
      if (symbol == 16 && i == 0) return Inflated::damaged;
      const std::uint8_t repeated = symbol == 16 ? lengths[i - 1] : 0;
      int count = symbol == 16 ? 3 + bits_.read(2) : symbol == 17 ? 3 + bits_.read(3) : 11 + bits_.read(7);
      if (count > total - i) return Inflated::damaged;
      while (count-- > 0) lengths[i++] = repeated;
    }
    if (lengths[kEndOfBlock] == 0) return Inflated::damaged;
    const std::span<const std::uint8_t> all(lengths);
    if (!literals_.build(all.first(literals), true)) return Inflated::damaged;
    const auto rest = all.subspan(literals, distances);
    has_distances_ = std::any_of(rest.begin(), rest.end(), [](std::uint8_t length) { return length != 0; });
    if (has_distances_ && !distances_.build(rest, true)) return Inflated::damaged;
    return block();
  }

  Inflated block() {
    while (true) {
      const int symbol = literals_.read(bits_);
      if (bits_.overrun()) return Inflated::damaged;
      if (symbol == kEndOfBlock) return Inflated::done;
      if (symbol < kEndOfBlock) {
        if (out_.size() == limit_) return Inflated::too_long;
        out_.push_back(static_cast<std::uint8_t>(symbol));
        continue;
      }
      if (symbol >= kLengths || !has_distances_) return Inflated::damaged;
      const std::size_t length = kFirstLength[symbol - 257] + bits_.read(kLengthBits[symbol - 257]);
      const int code = distances_.read(bits_);
      if (code >= kDistances) return Inflated::damaged;
      const std::size_t distance = kFirstDistance[code] + bits_.read(distance_bits(code));
      if (distance > out_.size()) return Inflated::damaged;
      if (length > limit_ - out_.size()) return Inflated::too_long;
      for (std::size_t i = 0, from = out_.size() - distance; i < length; ++i) out_.push_back(out_[from + i]);
    }
  }

  Bytes bytes_;
  BitReader bits_;
  std::size_t limit_;
  std::vector<std::uint8_t>& out_;
  PrefixCode literals_, distances_;
  bool has_distances_ = true;
};

std::uint32_t adler32(Bytes bytes) {
  std::uint32_t a = 1, b = 0;
  for (std::size_t i = 0; i < bytes.size();) {
    const std::size_t end = std::min(bytes.size(), i + 5552);  // before either sum can overflow
    for (; i < end; ++i) a += bytes[i], b += a;
    a %= 65521;
    b %= 65521;
  }
  return b << 16 | a;
}

}  // namespace

Inflated inflate(Bytes deflated, std::size_t limit, std::vector<std::uint8_t>& out) {
  out.clear();
  if (deflated.size() < 6 || (deflated[0] & 15) != 8 || deflated[0] >> 4 > 7 || (deflated[0] << 8 | deflated[1]) % 31 != 0 ||
      (deflated[1] & 32) != 0)
    return Inflated::damaged;
  const Bytes body = deflated.subspan(2, deflated.size() - 6);
  Inflater inflater(body, limit, out);
  const Inflated result = inflater.run();
  if (result != Inflated::done) return result;
  const std::uint8_t* sum = deflated.data() + deflated.size() - 4;
  const std::uint32_t expected = static_cast<std::uint32_t>(sum[0]) << 24 | sum[1] << 16 | sum[2] << 8 | sum[3];
  return inflater.end() == body.size() && adler32(out) == expected ? Inflated::done : Inflated::damaged;
}

}  // namespace softstair
