// SPDX-License-Identifier: Apache-2.0
#include "jpeg_check.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace softstair {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr int kSof0 = 0xC0, kSof1 = 0xC1, kSof2 = 0xC2, kDht = 0xC4, kSoi = 0xD8, kEoi = 0xD9;
constexpr int kSos = 0xDA, kDri = 0xDD, kRst0 = 0xD0, kTem = 0x01;
constexpr std::size_t kStray = 16;  // bytes behind a scan that some cameras leave, and nobody misses
constexpr int kScans = 200;         // a file with more is not looked at to the end

struct Damage {};

// A Huffman table by the length of its codes.
struct Table {
  bool there = false;
  std::array<int, 18> last{};    // largest code of a length, or -1
  std::array<int, 17> offset{};  // of its values, less its first code
  std::array<std::uint8_t, 256> values{};
};

struct Component {
  int id = 0, h = 1, v = 1;
  int columns = 0, rows = 0;                    // blocks that it has
  int padded = 0;                               // blocks of a row of whole MCUs
  std::vector<std::uint64_t> nonzero;           // of a progressive file: coefficients known by now
};

// Bits of a scan: stuffed zeros are left out, and a marker ends them.
class Bits {
 public:
  Bits(Bytes data, std::size_t at) : data_(data), at_(at) {}

  int bit() {
    if (left_ == 0) {
      if (at_ >= data_.size()) throw Damage{};
      byte_ = data_[at_];
      if (byte_ == 0xFF) {
        while (at_ + 1 < data_.size() && data_[at_ + 1] == 0xFF) ++at_;      // fill
        if (at_ + 1 >= data_.size() || data_[at_ + 1] != 0) throw Damage{};  // a marker, too early
        ++at_;
      }
      ++at_;
      left_ = 8;
    }
    return byte_ >> --left_ & 1;
  }

  int bits(int count) {
    int value = 0;
    while (count-- > 0) value = value << 1 | bit();
    return value;
  }

  int symbol(const Table& table) {
    int code = 0;
    for (int length = 1; length <= 16; ++length) {
      code = code << 1 | bit();
      if (code <= table.last[length]) return table.values[(code + table.offset[length]) & 0xFF];
    }
    throw Damage{};
  }

  // The marker behind the bits, with the number of bytes that belong to nothing; nothing at the end.
  std::optional<int> marker(std::size_t& stray) {
    left_ = 0;
    stray = 0;
    while (at_ + 1 < data_.size()) {
      if (data_[at_] == 0xFF && data_[at_ + 1] != 0 && data_[at_ + 1] != 0xFF) return data_[at_ + 1];
      if (data_[at_] != 0xFF) ++stray;
      ++at_;
    }
    return std::nullopt;
  }

  void skip_marker() { at_ += 2; }
  std::size_t at() const { return at_; }

 private:
  Bytes data_;
  std::size_t at_;
  int byte_ = 0, left_ = 0;
};

class Checker {
 public:
  explicit Checker(Bytes data) : data_(data) {}

  JpegHealth run() {
    std::size_t at = 2;
    for (int scans = 0; at + 4 <= data_.size();) {
      if (data_[at] != 0xFF) return JpegHealth::damaged;
      const int marker = data_[at + 1];
      if (marker == 0xFF) { ++at; continue; }
      if (marker == kEoi) return JpegHealth::sound;
      if (marker == kTem || marker == kSoi || (marker >= kRst0 && marker < kSoi)) { at += 2; continue; }
      const std::size_t length = data_[at + 2] << 8 | data_[at + 3];
      if (length < 2 || at + 2 + length > data_.size()) return JpegHealth::unknown;  // the reader's to tell
      const Bytes body = data_.subspan(at + 4, length - 2);
      at += 2 + length;
      if (marker == kDht) {
        if (!read_tables(body)) return JpegHealth::unknown;
      } else if (marker == kDri && body.size() >= 2) {
        restart_ = body[0] << 8 | body[1];
      } else if (marker == kSof0 || marker == kSof1 || marker == kSof2) {
        progressive_ = marker == kSof2;
        if (!read_frame(body)) return JpegHealth::unknown;
      } else if (marker >= 0xC3 && marker <= 0xCF && marker != 0xC8) {
        return JpegHealth::unknown;  // another process, or arithmetic coding
      } else if (marker == kSos) {
        if (++scans > kScans || components_.empty() || !read_scan(body)) return JpegHealth::unknown;
        Bits bits(data_, at);
        try {
          walk(bits);
        } catch (const Damage&) {
          return JpegHealth::damaged;
        }
        std::size_t stray = 0;
        const auto next = bits.marker(stray);
        if (stray > kStray) return JpegHealth::damaged;
        if (!next) return JpegHealth::sound;  // without an end, as some writers leave it
        at = bits.at();
      }
    }
    return JpegHealth::sound;
  }

 private:
  bool read_tables(Bytes body) {
    while (body.size() >= 17) {
      const int kind = body[0] >> 4, id = body[0] & 15;
      if (kind > 1 || id > 3) return false;
      Table& table = tables_[kind][id];
      std::size_t total = 0;
      int code = 0;
      for (int length = 1; length <= 16; ++length) {
        const int count = body[length];
        table.offset[length] = static_cast<int>(total) - code;
        code += count;
        table.last[length] = count ? code - 1 : -1;
        if (code > 1 << length) return false;
        total += static_cast<std::size_t>(count);
        code <<= 1;
      }
      if (total > 256 || body.size() < 17 + total) return false;
      std::copy_n(body.begin() + 17, total, table.values.begin());
      table.there = true;
      body = body.subspan(17 + total);
    }
    return body.empty();
  }

  bool read_frame(Bytes body) {
    if (body.size() < 6 || body[0] != 8 || !components_.empty()) return false;
    const int height = body[1] << 8 | body[2], width = body[3] << 8 | body[4], count = body[5];
    if (!height || !width || count < 1 || count > 4 || body.size() < 6u + 3u * count) return false;
    int h = 1, v = 1;
    for (int i = 0; i < count; ++i) {
      Component one;
      one.id = body[6 + 3 * i];
      one.h = body[7 + 3 * i] >> 4;
      one.v = body[7 + 3 * i] & 15;
      if (one.h < 1 || one.h > 4 || one.v < 1 || one.v > 4) return false;
      h = std::max(h, one.h);
      v = std::max(v, one.v);
      components_.push_back(one);
    }
    columns_ = (width + 8 * h - 1) / (8 * h);
    rows_ = (height + 8 * v - 1) / (8 * v);
    for (Component& one : components_) {
      one.columns = ((width * one.h + h - 1) / h + 7) / 8;
      one.rows = ((height * one.v + v - 1) / v + 7) / 8;
      one.padded = columns_ * one.h;
      if (progressive_) one.nonzero.assign(static_cast<std::size_t>(one.padded) * rows_ * one.v, 0);
    }
    return true;
  }

  bool read_scan(Bytes body) {
    scan_.clear();
    const std::size_t count = body.empty() ? 0 : body[0];
    if (count < 1 || count > 4 || body.size() < 4 + 2 * count) return false;
    for (std::size_t i = 0; i < count; ++i) {
      const auto found = std::find_if(components_.begin(), components_.end(),
                                      [&](const Component& c) { return c.id == body[1 + 2 * i]; });
      const int dc = body[2 + 2 * i] >> 4, ac = body[2 + 2 * i] & 15;
      if (found == components_.end() || dc > 3 || ac > 3) return false;
      scan_.push_back({&*found, &tables_[0][dc], &tables_[1][ac]});
    }
    first_ = body[1 + 2 * count];
    last_ = body[2 + 2 * count];
    high_ = body[3 + 2 * count] >> 4;
    if (!progressive_) first_ = 0, last_ = 63, high_ = 0;
    if (first_ > last_ || last_ > 63 || (first_ > 0 && count > 1)) return false;
    const bool needs_dc = first_ == 0 && high_ == 0, needs_ac = last_ > 0;
    for (const Part& part : scan_)
      if ((needs_dc && !part.dc->there) || (needs_ac && !part.ac->there)) return false;
    return true;
  }

  void walk(Bits& bits) {
    const bool alone = scan_.size() == 1;
    const int columns = alone ? scan_[0].component->columns : columns_;
    const int rows = alone ? scan_[0].component->rows : rows_;
    run_ = 0;
    const std::int64_t units = static_cast<std::int64_t>(columns) * rows;
    for (std::int64_t unit = 0; unit < units; ++unit) {
      if (restart_ && unit && unit % restart_ == 0) restart(bits, static_cast<int>(unit / restart_ - 1) & 7);
      const int row = static_cast<int>(unit / columns), column = static_cast<int>(unit % columns);
      if (alone) {
        block(bits, scan_[0], row, column);
        continue;
      }
      for (const Part& part : scan_) {
        const Component& one = *part.component;
        for (int y = 0; y < one.v; ++y)
          for (int x = 0; x < one.h; ++x) block(bits, part, row * one.v + y, column * one.h + x);
      }
    }
  }

  void restart(Bits& bits, int number) {
    std::size_t stray = 0;
    const auto marker = bits.marker(stray);
    if (!marker || *marker != kRst0 + number || stray > kStray) throw Damage{};
    bits.skip_marker();
    run_ = 0;
  }

  struct Part {
    Component* component;
    const Table *dc, *ac;
  };

  void block(Bits& bits, const Part& part, int row, int column) {
    if (!progressive_) {
      magnitude(bits, bits.symbol(*part.dc), 11);
      for (int k = 1; k < 64; ++k) {
        const int symbol = bits.symbol(*part.ac), size = symbol & 15, zeros = symbol >> 4;
        if (size == 0) {
          if (zeros != 15) return;
          k += 15;
          continue;
        }
        k += zeros;
        if (k > 63) throw Damage{};
        magnitude(bits, size, 10);
      }
      return;
    }
    if (first_ == 0) {
      if (high_) bits.bit();
      else magnitude(bits, bits.symbol(*part.dc), 11);
      if (last_ == 0) return;
    }
    auto& known = part.component->nonzero[static_cast<std::size_t>(row) * part.component->padded + column];
    if (high_) refine(bits, *part.ac, known);
    else add(bits, *part.ac, known);
  }

  // The first bits of some coefficients.
  void add(Bits& bits, const Table& table, std::uint64_t& known) {
    if (run_) { --run_; return; }
    for (int k = std::max(first_, 1); k <= last_; ++k) {
      const int symbol = bits.symbol(table), size = symbol & 15, zeros = symbol >> 4;
      if (size == 0) {
        if (zeros == 15) { k += 15; continue; }
        run_ = (1 << zeros) + (zeros ? bits.bits(zeros) : 0) - 1;
        return;
      }
      k += zeros;
      if (k > 63) throw Damage{};
      magnitude(bits, size, 10);
      known |= std::uint64_t{1} << k;
    }
  }

  // A further bit of those that are known, and new ones among the others.
  void refine(Bits& bits, const Table& table, std::uint64_t& known) {
    int k = std::max(first_, 1);
    if (!run_) {
      for (; k <= last_; ++k) {
        const int symbol = bits.symbol(table), size = symbol & 15;
        int zeros = symbol >> 4;
        if (size == 0 && zeros != 15) {
          run_ = (1 << zeros) + (zeros ? bits.bits(zeros) : 0);
          break;
        }
        if (size > 1) throw Damage{};
        if (size) bits.bit();
        for (; k <= last_; ++k) {
          if (known >> k & 1) bits.bit();
          else if (zeros-- == 0) break;
        }
        if (size && k > 63) throw Damage{};
        if (size && k <= last_) known |= std::uint64_t{1} << k;
      }
    }
    if (run_) {
      for (; k <= last_; ++k)
        if (known >> k & 1) bits.bit();
      --run_;
    }
  }

  static void magnitude(Bits& bits, int size, int most) {
    if (size > most + 5) throw Damage{};
    bits.bits(size);
  }

  Bytes data_;
  bool progressive_ = false;
  int restart_ = 0, columns_ = 0, rows_ = 0;
  int first_ = 0, last_ = 63, high_ = 0, run_ = 0;
  std::array<std::array<Table, 4>, 2> tables_{};
  std::vector<Component> components_;
  std::vector<Part> scan_;
};

}  // namespace

JpegHealth check_jpeg(Bytes data) {
  if (data.size() < 4 || data[0] != 0xFF || data[1] != kSoi) return JpegHealth::unknown;
  return Checker(data).run();
}

}  // namespace softstair
