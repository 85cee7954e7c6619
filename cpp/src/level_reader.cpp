// SPDX-License-Identifier: Apache-2.0
#include "level_reader.hpp"

#include <cstdlib>

namespace softstair {

LevelReader::LevelReader(const Model& model, Decoder& decoder, int lanes, const Place& place)
    : tables_(model.read_tables()),
      leans_(model.leans()),
      of_row_(model.trellis->dependent() ? 2 * leans_ : leans_),
      trellis_(*model.trellis),
      coarser_(trellis_.dependent() ? 0 : 1),
      largest_(trellis_.dependent() ? kLargestLevel : kLargestSymbol),
      decoder_(decoder),
      mask_(lanes - 1),
      place_(place) {}

Fault LevelReader::fault() const {
  if (decoder_.fault() != Fault::none) return decoder_.fault();
  return beyond_ ? Fault::corrupt : Fault::none;
}

// The next coded latent in half steps. table: that of quantizer 0, if there are two; negative: -1 if it is that of the
// negative level, otherwise 0.
[[gnu::always_inline]] inline int LevelReader::read(int table, int negative) {
  const std::size_t rank = place_.rank++;
  int& state = place_.state[rank & mask_];
  const int quantizer = quantizer_of(state);
  // Masks: no processor guesses what they say.
  const int level = (decoder_.read_here(tables_, table + (-quantizer & leans_), rank) ^ negative) - negative;
  if (level > largest_ || level < -largest_) [[unlikely]]
    beyond_ = true;
  state = trellis_.next(state, level);
  return index_of(level, quantizer);
}

void LevelReader::read(std::span<const Entry> list, std::int16_t* __restrict line, std::uint8_t* __restrict magnitudes) {
  for (const Entry& entry : list) {
    const int half_steps = read(entry.row * of_row_, 0);
    line[entry.index] = static_cast<std::int16_t>(half_steps >> coarser_);
    magnitudes[entry.index] = ScaleField::magnitude_of(half_steps);
  }
}

void LevelReader::read(PlaceField& context, int x, std::int16_t* __restrict symbols, std::uint8_t* __restrict magnitudes) {
  const std::ptrdiff_t step = context.blocks();
  for (context.begin_place(x); context.next_block();) {
    int tables[kContextBlock];
    for (int i = 0; i < kContextBlock; ++i) tables[i] = context.row(i) * of_row_ + std::abs(context.lean(i));
    const int first = context.channel(0);
    for (const int i : Bits(context.coded())) {
      const int half_steps = read(tables[i], -(context.lean(i) < 0)), magnitude = ScaleField::magnitude_of(half_steps);
      symbols[first + i * step] = static_cast<std::int16_t>(half_steps >> coarser_);
      magnitudes[first + i * step] = static_cast<std::uint8_t>(magnitude);
      context.see(i, magnitude, half_steps);
    }
  }
}

}  // namespace softstair
