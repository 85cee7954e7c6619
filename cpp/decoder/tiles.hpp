// SPDX-License-Identifier: Apache-2.0
// How a picture is cut into tiles, and the boxes that this takes.
#pragma once

#include <algorithm>
#include <vector>

namespace softstair {

constexpr int kStride = 16;  // pixels per latent position
// Of the picture that the graph preview makes; from which on the graph icon makes one at a sixteenth.
constexpr int kPreviewDivisor = 4, kIconDivisor = 32;
constexpr int kUnit = 256;   // pixels; sides of tiles are multiples of it
constexpr int kLargestLayout = 256;

// Rows top to bottom and columns left to right, both ends excluded.
struct Box {
  int top = 0, left = 0, bottom = 0, right = 0;

  bool operator==(const Box&) const = default;
  int rows() const { return bottom - top; }
  int columns() const { return right - left; }
  bool meets(const Box& o) const { return top < o.bottom && o.top < bottom && left < o.right && o.left < right; }
  // What the two have in common; they must meet.
  Box within(const Box& o) const {
    return {std::max(top, o.top), std::max(left, o.left), std::min(bottom, o.bottom), std::min(right, o.right)};
  }
  Box grown(int margin, const Box& limit) const { return Box{top - margin, left - margin, bottom + margin, right + margin}.within(limit); }
  Box seen_from(const Box& o) const { return {top - o.top, left - o.left, bottom - o.top, right - o.left}; }
  Box times(int factor) const { return {top * factor, left * factor, bottom * factor, right * factor}; }
  // The smallest box of square cells that covers this one.
  Box cells(int side) const { return {top / side, left / side, (bottom + side - 1) / side, (right + side - 1) / side}; }
};

// The tiles of a picture in raster order. layout: largest side of a tile in units; 0 is one tile.
class TileGrid {
 public:
  TileGrid(int height, int width, int layout) : rows_(cuts(height, layout)), columns_(cuts(width, layout)) {}

  int rows() const { return static_cast<int>(rows_.size()) - 1; }
  int columns() const { return static_cast<int>(columns_.size()) - 1; }
  int count() const { return rows() * columns(); }
  Box whole() const { return {0, 0, rows_.back(), columns_.back()}; }
  Box box(int index) const {
    const int row = index / columns(), column = index % columns();
    return {rows_[row], columns_[column], rows_[row + 1], columns_[column + 1]};
  }
  // As high as the highest tile and as wide as the widest one.
  Box largest() const {
    Box result;
    for (int i = 0; i < rows(); ++i) result.bottom = std::max(result.bottom, rows_[i + 1] - rows_[i]);
    for (int i = 0; i < columns(); ++i) result.right = std::max(result.right, columns_[i + 1] - columns_[i]);
    return result;
  }
  std::vector<int> meeting(const Box& box) const {
    std::vector<int> found;
    for (int row = 0; row < rows(); ++row) {
      if (rows_[row] >= box.bottom || box.top >= rows_[row + 1]) continue;
      for (int column = 0; column < columns(); ++column)
        if (columns_[column] < box.right && box.left < columns_[column + 1]) found.push_back(row * columns() + column);
    }
    return found;
  }

 private:
  static std::vector<int> cuts(int length, int layout) {
    const int units = (length + kUnit - 1) / kUnit, parts = layout == 0 ? 1 : (units + layout - 1) / layout;
    std::vector<int> cuts;
    for (int part = 0; part < parts; ++part) cuts.push_back(kUnit * static_cast<int>(static_cast<long long>(part) * units / parts));
    cuts.push_back(length);
    return cuts;
  }

  std::vector<int> rows_, columns_;
};

}  // namespace softstair
