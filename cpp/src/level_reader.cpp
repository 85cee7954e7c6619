// SPDX-License-Identifier: Apache-2.0
#include "level_reader.hpp"

namespace softstair {

LevelReader::LevelReader(const Model& model, Decoder& decoder, int lanes, const Place& place)
    : tables_(model.read_tables()),
      leans_(model.leans()),
      trellis_(*model.trellis),
      dependent_(trellis_.dependent()),
      decoder_(decoder),
      mask_(lanes - 1),
      place_(place) {}

Fault LevelReader::fault() const {
  if (decoder_.fault() != Fault::none) return decoder_.fault();
  return beyond_ ? Fault::corrupt : Fault::none;
}

inline int LevelReader::level_of(int row, int lean, std::size_t rank) {
  const int negative = -(lean < 0);  // a mask: no processor guesses this
  const int level = decoder_.read(tables_, row * leans_ + ((lean ^ negative) - negative), rank);
  return (level ^ negative) - negative;
}

// The symbol of the next coded latent, whose table row is given and which sign it leans to.
inline int LevelReader::read(int row, int lean) {
  const std::size_t rank = place_.rank++;
  if (!dependent_) return level_of(row, lean, rank);
  int& state = place_.state[rank & mask_];
  const int quantizer = quantizer_of(state);
  const int level = level_of(2 * row + quantizer, lean, rank);
  if (level > kLargestLevel || level < -kLargestLevel) [[unlikely]]
    beyond_ = true;
  state = trellis_.next(state, level);
  return index_of(level, quantizer);
}

void LevelReader::read(std::span<const Entry> list, std::int16_t* line, std::uint8_t* magnitudes) {
  for (const Entry& entry : list) {
    const int symbol = read(entry.row, 0);
    line[entry.index] = static_cast<std::int16_t>(symbol);
    magnitudes[entry.index] = ScaleField::magnitude_of(half_steps(symbol));
  }
}

void LevelReader::read(PlaceField& context, int x, std::int16_t* symbols, std::uint8_t* magnitudes) {
  for (context.begin_place(x); context.next_block();)
    for (const int i : context.coded()) {
      const int symbol = read(context.row(i), context.lean(i)), channel = context.channel(i);
      symbols[channel] = static_cast<std::int16_t>(symbol);
      magnitudes[channel] = ScaleField::magnitude_of(half_steps(symbol));
      context.see(i, magnitudes[channel], half_steps(symbol));
    }
}

}  // namespace softstair
