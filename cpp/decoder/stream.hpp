// SPDX-License-Identifier: Apache-2.0
// The .stair format, versions 1 and 2: docs/format/stream.md.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "cursor.hpp"
#include "tiles.hpp"
#include "trellis.hpp"

namespace softstair {

constexpr std::array<const char*, 7> kModes = {"scalar", "rdoq", "tcq4", "tcq8", "tcq16", "tcq32", "tcq512"};
constexpr std::array<int, 7> kStatesOfModes = {1, 1, 4, 8, 16, 32, 512};
constexpr int kRdoq = 1;             // what layers are made of
constexpr int kLayered = 6;          // the number of their mode; later ones are one more than here
constexpr int kPositionsPerLayer = 32;

using Fingerprint = std::array<std::uint8_t, 8>;
std::string hexadecimal(Bytes bytes);

// fingerprint: of the bundle that decodes it; if a pack changed that one, the pack's, and `base` is that
// of the bundle before. layers: how many the file was made with; the rate position is that of the first.
// smoothing: threshold of that of learned pixels, in grey levels; 0: none.
struct Header {
  int version = 0;
  std::uint32_t flags = 0;
  Fingerprint fingerprint{}, base{};
  int width = 0, height = 0;
  bool grey = false;
  int mode = 0, position = 0, layout = 0, layers = 1, smoothing = 0;
};

// What a tile holds that is coded exactly. learned: the payload of the pixels that are not, or nothing
// if all are. image: VP8L; alpha is 0 where the learned pixels show.
struct ExactPayload {
  Bytes learned, image;
};

enum class Piece { whole, cut, damaged };

// A stream of which the header and the index were read; tiles are, when they are asked for.
class Stream {
 public:
  // The bytes must outlive this. Throws Error.
  Stream(Bytes bytes, std::uint64_t max_pixels);

  const Header& header() const { return header_; }
  const TileGrid& grid() const { return *grid_; }
  bool has_alpha() const;
  bool progressive() const;
  bool layered() const { return header_.layers > 1; }
  // How many layers are there as a whole, at least 1.
  int layers() const { return layers_; }
  // The rate position of the last of them.
  int shown_position() const { return header_.position + kPositionsPerLayer * (layers_ - 1); }
  // Whether there are whole layers, and a part of another.
  bool ends_within_a_layer() const;
  // Whether any tile needs one.
  bool needs_bundle() const { return header_.fingerprint != Fingerprint{}; }
  bool exact(int tile) const { return !exact_.empty() && exact_[tile]; }
  int exact_tiles() const;
  // True if exact payloads are of the picture in fewer colours.
  bool reduced() const;

  // The payload of a tile, its checksum compared. Parts of one are joined when it is first asked for,
  // which one thread alone may do.
  Bytes tile(int index) const;
  // What `tile` would find.
  Piece find(int index) const;
  // What is there of a tile that is cut, in layers of the first one. No checksum covers its last part.
  std::vector<std::uint8_t> beginning(int index) const;
  // The parts of the payload of an exact one.
  ExactPayload exact_payload(int index) const;
  // What is read of a tile's symbols: its payload, or the learned part of it; may be nothing.
  Bytes learned(int index) const { return exact(index) ? exact_payload(index).learned : tile(index); }
  // (height, width), or nothing.
  std::vector<std::uint8_t> alpha() const;
  // kind: as stair_metadata_kind.
  std::optional<std::vector<std::uint8_t>> metadata(int kind) const;
  // Alpha, metadata and the end, checked.
  void check_extras() const;
  // Whether their lengths and checksums are right, without throwing.
  bool has_whole_extras() const;

 private:
  void read_header();
  // Parts of a payload as they lie in the file, each with a checksum; and those that are there to be joined.
  std::size_t parts() const { return layered() ? header_.layers : progressive() ? 2 : 1; }
  std::size_t joined_parts() const { return layered() ? layers_ : parts(); }
  // Moves over alpha and metadata; false if the bytes end before, or, where that is asked, a checksum is wrong.
  bool pass_extras(std::uint64_t& at, bool checked) const;
  std::uint64_t extras_start() const { return layered() ? extras_start_ : offsets_.back(); }
  Piece state(std::size_t part) const;
  Bytes piece(std::size_t part, const std::string& name) const;
  Bytes block(Cursor& cursor, const char* name, Bytes before = {}) const;
  int alpha_blocks() const;
  void pass_alpha(Cursor& cursor) const;
  std::vector<std::uint8_t> exact_alpha(Cursor& cursor) const;
  std::vector<std::uint8_t> inflated(Bytes deflated, const char* name, std::size_t limit) const;
  Cursor after_tiles() const;

  Cursor cursor_;
  Header header_;
  std::optional<TileGrid> grid_;
  std::vector<std::uint32_t> lengths_;  // of tiles; if these are in parts, of the parts of each in turn
  std::vector<std::uint64_t> offsets_;  // of these, and where the last one ends
  std::uint64_t extras_start_ = 0;      // of alpha and metadata, if there are layers
  std::vector<std::uint64_t> boundaries_;  // where layers end
  int layers_ = 1;
  mutable std::vector<std::vector<std::uint8_t>> joined_;  // payloads whose parts were found whole
  std::vector<bool> exact_;
  std::uint32_t head_crc_ = 0;
};

}  // namespace softstair
