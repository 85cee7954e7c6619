// SPDX-License-Identifier: Apache-2.0
#include "vp8l.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>

#include "prefix_code.hpp"

namespace softstair {
namespace {

using Pixels = std::vector<std::uint32_t>;

constexpr std::uint32_t kSignature = 0x2f, kOpaque = 0xff000000u;
constexpr int kLengthCodes = 24, kDistanceCodes = 40, kLargestCacheBits = 11;
constexpr int kGreen = 0, kRed = 1, kBlue = 2, kAlpha = 3, kDistance = 4;  // the codes of a group

// Short distances stand for places nearby: what lies before a pixel within eight columns and seven
// rows, the nearest first, and of equally near ones the one in the nearer column, to the left first.
struct Place {
  std::int8_t left, up;
};
constexpr auto kPlaces = [] {
  std::array<Place, 120> places{};
  int count = 0;
  for (int up = 0; up < 8; ++up)
    for (int left = up == 0 ? 1 : -7; left <= 8; ++left) places[count++] = {static_cast<std::int8_t>(left), static_cast<std::int8_t>(up)};
  const auto rank = [](Place p) {
    const int column = p.left < 0 ? -p.left : p.left;
    return (p.left * p.left + p.up * p.up) * 32 + column * 2 + (p.left < 0);
  };
  std::sort(places.begin(), places.end(), [&](Place a, Place b) { return rank(a) < rank(b); });
  return places;
}();

int parts(int length, int bits) { return (length + (1 << bits) - 1) >> bits; }

// The four components of two pixels added, each modulo 256.
std::uint32_t add(std::uint32_t a, std::uint32_t b) {
  const std::uint32_t even = (a & 0x00ff00ffu) + (b & 0x00ff00ffu), odd = (a & 0xff00ff00u) + (b & 0xff00ff00u);
  return (even & 0x00ff00ffu) | (odd & 0xff00ff00u);
}

std::uint32_t mean(std::uint32_t a, std::uint32_t b) { return (((a ^ b) & 0xfefefefeu) >> 1) + (a & b); }

int component(std::uint32_t pixel, int shift) { return static_cast<int>(pixel >> shift & 255); }

template <typename Combine>
std::uint32_t each(Combine combine) {
  std::uint32_t pixel = 0;
  for (int shift = 0; shift < 32; shift += 8) pixel |= static_cast<std::uint32_t>(std::clamp(combine(shift), 0, 255)) << shift;
  return pixel;
}

// What a pixel is predicted to be by its neighbours.
std::uint32_t predicted(int mode, std::uint32_t left, std::uint32_t top, std::uint32_t top_left, std::uint32_t top_right) {
  switch (mode) {
    case 1: return left;
    case 2: return top;
    case 3: return top_right;
    case 4: return top_left;
    case 5: return mean(mean(left, top_right), top);
    case 6: return mean(left, top_left);
    case 7: return mean(left, top);
    case 8: return mean(top_left, top);
    case 9: return mean(top, top_right);
    case 10: return mean(mean(left, top_left), mean(top, top_right));
    case 11: {
      int to_left = 0, to_top = 0;
      for (int shift = 0; shift < 32; shift += 8) {
        to_left += std::abs(component(top, shift) - component(top_left, shift));
        to_top += std::abs(component(left, shift) - component(top_left, shift));
      }
      return to_left < to_top ? left : top;
    }
    case 12:
      return each([&](int shift) { return component(left, shift) + component(top, shift) - component(top_left, shift); });
    case 13: {
      const std::uint32_t middle = mean(left, top);
      return each([&](int shift) { return component(middle, shift) + (component(middle, shift) - component(top_left, shift)) / 2; });
    }
    default: return kOpaque;
  }
}

struct Transform {
  enum Kind { predictor = 0, colour = 1, subtract_green = 2, indexing = 3 };
  Kind kind;
  int bits = 0;   // of the blocks, or of how many pixels an index holds
  int width = 0;  // of the picture after it is undone
  Pixels data;
};

using Group = std::array<PrefixCode, 5>;

class Reader {
 public:
  Reader(Bytes bytes, const std::string& what) : bits_(bytes), what_(what) {}

  Pixels whole(int height, int width) {
    need(bits_.read(8) == kSignature);
    const int stored_width = static_cast<int>(bits_.read(14)) + 1, stored_height = static_cast<int>(bits_.read(14)) + 1;
    bits_.read(1);  // whether alpha is used: a hint
    need(bits_.read(3) == 0);
    if (bits_.overrun() || stored_width != width || stored_height != height)
      fail_with(STAIR_CORRUPT, "The " + what_ + " is " + decimal(stored_width) + "x" + decimal(stored_height) + " pixels where " +
                                   decimal(width) + "x" + decimal(height) + " were expected.");
    std::vector<Transform> transforms;
    int inner = width;
    while (bits_.read(1) != 0) {
      Transform transform = read_transform(inner, height);
      for (const Transform& earlier : transforms) need(earlier.kind != transform.kind);
      if (transform.kind == Transform::indexing) inner = parts(inner, transform.bits);
      transforms.push_back(std::move(transform));
    }
    Pixels pixels = read_image(inner, height, true);
    for (auto transform = transforms.rbegin(); transform != transforms.rend(); ++transform) undo(*transform, pixels, height);
    return pixels;
  }

 private:
  void need(bool holds) const {
    if (!holds) fail_with(STAIR_CORRUPT, "The " + what_ + " cannot be decoded: it is corrupt.");
  }

  Transform read_transform(int width, int height) {
    Transform transform{static_cast<Transform::Kind>(bits_.read(2)), 0, width, {}};
    if (transform.kind == Transform::predictor || transform.kind == Transform::colour) {
      transform.bits = static_cast<int>(bits_.read(3)) + 2;
      transform.data = read_image(parts(width, transform.bits), parts(height, transform.bits), false);
    } else if (transform.kind == Transform::indexing) {
      const int colours = static_cast<int>(bits_.read(8)) + 1;
      transform.data = read_image(colours, 1, false);
      for (int i = 1; i < colours; ++i) transform.data[i] = add(transform.data[i], transform.data[i - 1]);
      transform.data.resize(256);  // indices beyond are transparent black
      transform.bits = colours <= 2 ? 3 : colours <= 4 ? 2 : colours <= 16 ? 1 : 0;
    }
    return transform;
  }

  // A picture without transforms. main: it may have several groups of codes.
  Pixels read_image(int width, int height, bool main) {
    int cache_bits = 0;
    if (bits_.read(1) != 0) {
      cache_bits = static_cast<int>(bits_.read(4));
      need(cache_bits >= 1 && cache_bits <= kLargestCacheBits);
    }
    int block_bits = 0;
    Pixels which;  // group of every block
    if (main && bits_.read(1) != 0) {
      block_bits = static_cast<int>(bits_.read(3)) + 2;
      which = read_image(parts(width, block_bits), parts(height, block_bits), false);
      for (std::uint32_t& block : which) block = block >> 8 & 0xffff;
    }
    const std::vector<Group> groups = read_groups(which, cache_bits);
    return read_pixels(width, height, cache_bits, block_bits, which, groups);
  }

  // Groups that blocks use; `which` comes to say their places in the result.
  std::vector<Group> read_groups(Pixels& which, int cache_bits) {
    std::vector<int> place(which.empty() ? 1 : *std::max_element(which.begin(), which.end()) + 1, -1);
    int used = 0;
    if (which.empty()) place[0] = used++;
    for (const std::uint32_t group : which)
      if (place[group] < 0) place[group] = 0;
    if (!which.empty())
      for (int& p : place)
        if (p == 0) p = used++;
    for (std::uint32_t& group : which) group = static_cast<std::uint32_t>(place[group]);
    std::vector<Group> groups;
    groups.reserve(std::min(used, 64));
    for (const int p : place) {
      Group group;
      for (int code = 0; code < 5; ++code) {
        const int alphabet = code == kGreen ? 256 + kLengthCodes + (cache_bits > 0 ? 1 << cache_bits : 0) : code == kDistance ? kDistanceCodes : 256;
        read_code(alphabet, group[code]);
      }
      if (p >= 0) groups.push_back(std::move(group));
    }
    return groups;
  }

  void read_code(int alphabet, PrefixCode& code) {
    std::vector<std::uint8_t> lengths(alphabet);
    if (bits_.read(1) != 0) {  // one or two symbols
      const bool two = bits_.read(1) != 0;
      const std::uint32_t first = bits_.read(bits_.read(1) != 0 ? 8 : 1), second = two ? bits_.read(8) : first;
      need(first < lengths.size() && second < lengths.size());
      lengths[first] = lengths[second] = 1;
    } else {
      read_lengths(lengths);
    }
    need(!bits_.overrun() && code.build(lengths, false));
  }

  void read_lengths(std::vector<std::uint8_t>& lengths) {
    constexpr std::array<std::uint8_t, 19> kOrder = {17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    std::array<std::uint8_t, 19> of_lengths{};
    const int given = static_cast<int>(bits_.read(4)) + 4;
    for (int i = 0; i < given; ++i) of_lengths[kOrder[i]] = static_cast<std::uint8_t>(bits_.read(3));
    std::size_t left = lengths.size();
    if (bits_.read(1) != 0) {
      const int width = 2 + 2 * static_cast<int>(bits_.read(3));
      left = 2 + bits_.read(width);
      need(left <= lengths.size());
    }
    PrefixCode code;
    need(code.build(of_lengths, false));
    std::uint8_t previous = 8;
    for (std::size_t i = 0; i < lengths.size() && left > 0; --left) {
      need(!bits_.overrun());
      const int symbol = code.read(bits_);
      if (symbol < 16) {
        lengths[i++] = static_cast<std::uint8_t>(symbol);
        if (symbol != 0) previous = static_cast<std::uint8_t>(symbol);
        continue;
      }
      const std::uint8_t repeated = symbol == 16 ? previous : 0;
      std::size_t count = symbol == 16 ? 3 + bits_.read(2) : symbol == 17 ? 3 + bits_.read(3) : 11 + bits_.read(7);
      need(count <= lengths.size() - i);
      while (count-- > 0) lengths[i++] = repeated;
    }
  }

  // The number that a length or distance code and the bits after it stand for.
  std::uint32_t read_number(int code) {
    if (code < 4) return static_cast<std::uint32_t>(code) + 1;
    const int extra = (code - 2) >> 1;
    return ((2u + (code & 1)) << extra) + bits_.read(extra) + 1;
  }

  static std::size_t distance_of(std::uint32_t number, int width) {
    if (number > kPlaces.size()) return number - kPlaces.size();
    const Place place = kPlaces[number - 1];
    return static_cast<std::size_t>(std::max(1, place.left + place.up * width));
  }

  Pixels read_pixels(int width, int height, int cache_bits, int block_bits, const Pixels& which, const std::vector<Group>& groups) {
    const std::size_t count = static_cast<std::size_t>(width) * height;
    const int blocks = parts(width, block_bits);
    Pixels pixels(count), cache(cache_bits > 0 ? std::size_t{1} << cache_bits : 0);
    const auto remember = [&](std::uint32_t pixel) {
      if (cache_bits > 0) cache[0x1e35a7bdu * pixel >> (32 - cache_bits)] = pixel;
    };
    const Group* group = groups.data();
    int x = 0, y = 0;
    for (std::size_t at = 0; at < count;) {
      if (!which.empty()) group = &groups[which[static_cast<std::size_t>(y >> block_bits) * blocks + (x >> block_bits)]];
      const int symbol = (*group)[kGreen].read(bits_);
      std::size_t run = 1;
      if (symbol < 256) {
        const auto red = static_cast<std::uint32_t>((*group)[kRed].read(bits_)), blue = static_cast<std::uint32_t>((*group)[kBlue].read(bits_));
        const auto alpha = static_cast<std::uint32_t>((*group)[kAlpha].read(bits_));
        remember(pixels[at] = alpha << 24 | red << 16 | static_cast<std::uint32_t>(symbol) << 8 | blue);
      } else if (symbol < 256 + kLengthCodes) {
        run = read_number(symbol - 256);
        const std::size_t distance = distance_of(read_number((*group)[kDistance].read(bits_)), width);
        need(distance <= at && run <= count - at);
        for (std::size_t i = at; i < at + run; ++i) remember(pixels[i] = pixels[i - distance]);
      } else {
        remember(pixels[at] = cache[symbol - 256 - kLengthCodes]);
      }
      need(!bits_.overrun());
      at += run;
      for (x += static_cast<int>(run); x >= width; x -= width) ++y;
    }
    return pixels;
  }

  void undo(const Transform& transform, Pixels& pixels, int height) const {
    switch (transform.kind) {
      case Transform::predictor: return undo_predictor(transform, pixels, height);
      case Transform::colour: return undo_colour(transform, pixels, height);
      case Transform::subtract_green:
        for (std::uint32_t& pixel : pixels) {
          const std::uint32_t green = pixel >> 8 & 255;
          pixel = add(pixel, green << 16 | green);
        }
        return;
      default: return undo_indexing(transform, pixels, height);
    }
  }

  static void undo_predictor(const Transform& transform, Pixels& pixels, int height) {
    const int width = transform.width, blocks = parts(width, transform.bits);
    for (int y = 0; y < height; ++y) {
      std::uint32_t* row = pixels.data() + static_cast<std::size_t>(y) * width;
      const std::uint32_t* modes = transform.data.data() + static_cast<std::size_t>(y >> transform.bits) * blocks;
      row[0] = add(row[0], y == 0 ? kOpaque : row[-width]);
      for (int x = 1; x < width; ++x) {
        const std::uint32_t* above = row + x - width;
        // At the end of a row the pixel above to the right is the first of this one, as it lies.
        row[x] = add(row[x], y == 0 ? row[x - 1] : predicted(component(modes[x >> transform.bits], 8) & 15, row[x - 1], above[0], above[-1], above[1]));
      }
    }
  }

  static void undo_colour(const Transform& transform, Pixels& pixels, int height) {
    const int width = transform.width, blocks = parts(width, transform.bits);
    const auto part = [](std::uint32_t factor, std::uint32_t value) {
      return static_cast<std::int8_t>(factor) * static_cast<std::int8_t>(value) >> 5;
    };
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        std::uint32_t& pixel = pixels[static_cast<std::size_t>(y) * width + x];
        const std::uint32_t factors = transform.data[static_cast<std::size_t>(y >> transform.bits) * blocks + (x >> transform.bits)];
        const std::uint32_t green = pixel >> 8;
        const auto red = static_cast<std::uint32_t>(component(pixel, 16) + part(factors, green)) & 255;
        const auto blue = static_cast<std::uint32_t>(component(pixel, 0) + part(factors >> 8, green) + part(factors >> 16, red)) & 255;
        pixel = (pixel & 0xff00ff00u) | red << 16 | blue;
      }
  }

  static void undo_indexing(const Transform& transform, Pixels& pixels, int height) {
    const int width = transform.width, packed = parts(width, transform.bits);
    const int each = 8 >> transform.bits, mask = (1 << each) - 1;
    Pixels result(static_cast<std::size_t>(width) * height);
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const int indices = component(pixels[static_cast<std::size_t>(y) * packed + (x >> transform.bits)], 8);
        const int inside = x & ((1 << transform.bits) - 1);
        result[static_cast<std::size_t>(y) * width + x] = transform.data[indices >> (inside * each) & mask];
      }
    pixels = std::move(result);
  }

  BitReader bits_;
  std::string what_;
};

}  // namespace

std::vector<std::uint32_t> decode_vp8l(Bytes bytes, int height, int width, const std::string& what) { return Reader(bytes, what).whole(height, width); }

}  // namespace softstair
