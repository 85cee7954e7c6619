// SPDX-License-Identifier: Apache-2.0
#include "presence.hpp"

#include <algorithm>

namespace softstair {
namespace {

constexpr double kLeastRead = 1.0 / 64;  // of the tiles; where less was read, there is no picture to be completed
constexpr std::uint8_t kGrey = 128;

}  // namespace

void Presence::check(const std::vector<int>& needed, const Beginning& beginning) {
  needed_ = needed.size();
  double read = 0;
  std::size_t whole = 0;
  int last = -1;
  for (const int index : needed) {
    if (!partial_) stream_.tile(index);  // throws
    const Piece found = stream_.find(index);
    if (found == Piece::whole) {
      read += 1;
      ++whole;
      continue;
    }
    last = index;
    const int rows = found == Piece::damaged || stream_.exact(index) ? 0 : beginning(index);
    if (rows > 0) {
      rows_[index] = rows;
      read += static_cast<double>(rows) / stream_.grid().box(index).cells(kStride).rows();
      continue;
    }
    rows_[index] = found == Piece::damaged ? kDamaged : kMissing;
  }
  // Where every tile that is there is damaged it is the index that is, and a beginning means nothing.
  if (last >= 0 && (read < static_cast<double>(needed_) * kLeastRead || (whole == 0 && count(kDamaged) > 0))) stream_.tile(last);
}

void Presence::miss_damaged(int index) { rows_[index] = kDamaged; }

Box Presence::known(int index) const {
  Box box = stream_.grid().box(index);
  if (missing(index)) box.bottom = box.top;
  if (const int rows = cut_rows(index); rows > 0) box.bottom = std::min(box.bottom, box.top + kStride * rows);
  return box;
}

bool Presence::any_known(const Box& box) const {
  const std::vector<int> tiles = stream_.grid().meeting(box);
  return std::any_of(tiles.begin(), tiles.end(), [&](int index) { return known(index).meets(box); });
}

void Presence::paint_unread(const Box& box, int colours, std::vector<std::uint8_t>& pixels) const {
  if (count(kWhole) == rows_.size()) return;
  for (const int index : stream_.grid().meeting(box)) {
    Box unread = stream_.grid().box(index);
    unread.top = known(index).bottom;
    if (unread.rows() == 0 || !unread.meets(box)) continue;
    const Box part = unread.within(box).seen_from(box);
    for (int y = part.top; y < part.bottom; ++y)
      std::fill_n(pixels.begin() + (static_cast<std::ptrdiff_t>(y) * box.columns() + part.left) * colours, part.columns() * colours, kGrey);
  }
}

std::string Presence::damage(bool whole_extras) const {
  std::string text;
  const auto add = [&](const std::string& part) {
    if (!part.empty()) text += (text.empty() ? "The picture is not complete: " : "; ") + part;
  };
  if (const std::size_t damaged = count(kDamaged); damaged > 0) add(decimal(damaged) + " of " + decimal(needed_) + " tiles were damaged and are grey");
  add(ends_early());
  if (stream_.ends_within_a_layer())
    add("the file ends early: " + decimal(stream_.layers()) + " of " + decimal(stream_.header().layers) + " layers are shown");
  if (!whole_extras) add("alpha and metadata were damaged or missing and were left out");
  return text.empty() ? text : text + ".";
}

std::string Presence::ends_early() const {
  const std::size_t absent = count(kMissing), cut = rows_.size() - count(kWhole) - absent - count(kDamaged);
  const std::string of = " of " + decimal(needed_) + " tiles ";
  if (cut == 0) return absent == 0 ? "" : "the file ends early: " + decimal(absent) + of + "are grey";
  if (needed_ == 1) return "the file ends early and is shown as far as its bytes reach";
  const std::string shown = "the file ends early: " + decimal(cut) + of + "as far as the bytes reach";
  return absent == 0 ? shown : shown + ", " + decimal(absent) + " grey";
}

}  // namespace softstair
