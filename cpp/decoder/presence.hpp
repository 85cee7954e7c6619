// SPDX-License-Identifier: Apache-2.0
// What is there of the tiles that a picture needs. Where gaps are allowed, nothing is thrown for them: there
// is no unwinding in WebAssembly.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "stream.hpp"

namespace softstair {

class Presence {
 public:
  // Latent rows that can be read of a tile that the bytes end in; 0 if that is nothing.
  using Beginning = std::function<int(int index)>;

  Presence(const Stream& stream, bool partial) : stream_(stream), partial_(partial), rows_(stream.grid().count(), kWhole) {}

  bool partial() const { return partial_; }
  // Looks for tiles before time is spent on any of them. Throws Error if one is not there, or, where
  // gaps are allowed, if all but a little is not.
  void check(const std::vector<int>& needed, const Beginning& beginning);
  // Nothing can be shown of the tile, which is there.
  void miss_damaged(int index);

  bool missing(int index) const { return rows_[index] <= kMissing; }
  // Latent rows that were read of a tile that the bytes end in; 0 of any other.
  int cut_rows(int index) const { return std::max(0, rows_[index]); }
  bool any_known(const Box& box) const;
  // Makes grey what was not read of the pixels of a box, (rows, columns, colours).
  void paint_unread(const Box& box, int colours, std::vector<std::uint8_t>& pixels) const;
  // One sentence on what is missing; empty if nothing is.
  std::string damage(bool whole_extras) const;

 private:
  static constexpr int kWhole = 0, kMissing = -1, kDamaged = -2;

  // Pixels of a tile of which something was read; it may be empty.
  Box known(int index) const;
  std::string ends_early() const;
  std::size_t count(int rows) const { return std::count(rows_.begin(), rows_.end(), rows); }

  const Stream& stream_;
  bool partial_;
  std::size_t needed_ = 0;
  std::vector<int> rows_;  // of every tile: how many of it were read, or one of these
};

}  // namespace softstair
