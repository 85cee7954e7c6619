// SPDX-License-Identifier: Apache-2.0
// The loops that read latents: what they do is done for every one of them.
#pragma once

#include <cstdint>
#include <span>

#include "tile_decoder.hpp"

namespace softstair {

// A latent to be read: where it lies in its line, x * channels + channel, and its table.
struct Entry {
  std::uint32_t index;
  std::int16_t row;
};

// Reads the levels of one phase; a lane of a trellis follows its state.
class LevelReader {
 public:
  LevelReader(const Model& model, Decoder& decoder, int lanes, const Place& place);

  // Of a line: symbols, and what the scale network sees of them.
  void read(std::span<const Entry> list, std::int16_t* line, std::uint8_t* magnitudes);
  // Of the place x of a line that the context has begun, block by block: each corrects the tables of those after it.
  // symbols and magnitudes: of the group that is read there.
  void read(PlaceField& context, int x, std::int16_t* symbols, std::uint8_t* magnitudes);

  Fault fault() const;
  const Place& place() const { return place_; }

 private:
  int read(int table, int negative);

  const Tables& tables_;
  int leans_, of_row_;  // tables that a row has: of either quantizer, and in all
  const Trellis& trellis_;
  int coarser_, largest_;  // symbols are in 2^coarser half steps; of a level
  Decoder& decoder_;
  std::size_t mask_;
  Place place_;
  bool beyond_ = false;
};

}  // namespace softstair
