// SPDX-License-Identifier: Apache-2.0
#include "tile_encoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>

namespace softstair {
namespace {

constexpr int kBlock = 16;  // channels whose latents of a position share a cache line

// All lines of latents of a phase: action(channel, first column, place of column 0 in (C, height,
// width), its place in (height, width, C / 4)) for columns first, first + 2, ... A group of channels
// is coded at one position of every 2x2; block by block, memory is read in few long streams.
template <typename Action>
void for_lines(int phase, Size size, int channels, const Action& action) {
  const int group = channels / kPhases;
  for (int position = 0; position < kPhases; ++position) {
    const int row = position / 2, column = position % 2;
    const int first = channel_group(row, column, phase) * group;
    for (int block = 0; block < group; block += kBlock)
      for (int y = row; y < size.height; y += 2)
        for (int i = block; i < std::min(block + kBlock, group); ++i) {
          const std::size_t line = static_cast<std::size_t>(y) * size.width;
          const std::size_t plane = static_cast<std::size_t>(first + i) * size.height * size.width;
          action(first + i, column, plane + line, line * group + i);
        }
  }
}

// Ask for a line's memory ahead of time: every other line of a channel is what no machine guesses.
inline void prefetch([[maybe_unused]] const float* from, [[maybe_unused]] int count) {
#if defined(__GNUC__)
  for (int i = 0; i < count; i += 16) __builtin_prefetch(from + i);
#endif
}

}  // namespace

TileEncoder::TileEncoder(std::shared_ptr<const Model> model, Size size,
                         std::span<const std::int16_t> z)
    : model_(std::move(model)),
      size_(size),
      z_(z.begin(), z.end()),
      y_(static_cast<std::size_t>(size.height) * size.width * model_->network->latents(), 0),
      rows_(y_.size() / kPhases),
      decided_(rows_.size()),
      field_(model_->network, z_.data(), size.height, size.width, model_->rate_bias.data(),
             model_->exponent.data()) {
  check_symbols(z_);
  find_z_rows();
  if (model_->place) context_.emplace(model_->place, model_->signs, size_.width);
}

// Every z with its table row; both sides walk through the places of z alike.
void TileEncoder::find_z_rows() {
  const std::size_t depth = static_cast<std::size_t>(model_->network->hyper_latents());
  const HyperNetwork* hyper = model_->hyper.get();
  coded_z_.resize(z_.size());
  for (std::size_t i = 0; i < z_.size(); ++i) coded_z_[i] = {static_cast<std::int16_t>(i % depth), z_[i]};
  if (hyper == nullptr) return;
  HyperPlace place(*hyper, model_->hyper_rate);
  for (int y = 0; y < size_.z_height(); ++y)
    for (int x = 0; x < size_.z_width(); ++x) {
      place.begin(z_.data(), y, x, size_.z_width());
      Coded* here = coded_z_.data() + (static_cast<std::size_t>(y) * size_.z_width() + x) * depth;
      for (std::size_t c = 0; c < depth; ++c) {
        const int number = hyper->live_number(static_cast<int>(c)), symbol = here[c].level;
        if (number < 0) continue;
        if (symbol > kLargestHyper || symbol < -kLargestHyper) throw std::invalid_argument("a symbol of z is out of range");
        const HyperRow at = place.row(number);
        here[c] = {static_cast<std::int16_t>(at.row), static_cast<std::int16_t>(symbol - at.base)};
        place.see(number, symbol);
      }
    }
}

const Tables& TileEncoder::z_tables(std::size_t i) const {
  const HyperNetwork* hyper = model_->hyper.get();
  const auto channel = static_cast<int>(i % model_->network->hyper_latents());
  return hyper != nullptr && hyper->live_number(channel) >= 0 ? hyper->tables() : *model_->z_tables;
}

const std::vector<std::int16_t>& TileEncoder::begin_phase() {
  if (phase_ + 1 >= kPhases) throw std::invalid_argument("all phases are done");
  ++phase_;
  field_.begin_phase(phase_);
  if (context_) context_->begin_phase(phase_);
  const std::size_t line = rows_.size() / size_.height;
  for (int y = 0; y < size_.height; ++y) field_.rows(y, model_->rule, rows_.data() + y * line);
  return rows_;
}

void TileEncoder::list_coded() {
  places_.resize(rows_.size() + 1);  // one more, so that the loop need not know what is coded
  searched_rows_.resize(rows_.size() + 1);
  std::size_t count = 0;
  const auto list = [&](std::size_t i) {
    places_[count] = static_cast<std::int32_t>(i);
    searched_rows_[count] = rows_[i];
    count += rows_[i] != kSkipped;
  };
  if (context_) {
    for (std::size_t first = 0; first < rows_.size(); first += field_.group())
      for (int block = 0; block < context_->blocks(); ++block)
        for (int i = 0; i < kContextBlock; ++i) list(first + context_->channel(block, i));
  } else {
    for (std::size_t i = 0; i < rows_.size(); ++i) list(i);
  }
  places_.resize(count);
  searched_rows_.resize(count);
  levels_.resize(count);
}

// action(i, at) for every coded latent of the phase, as a reader meets them: its number in the block, its place in rows_.
template <typename Action>
void TileEncoder::walk(PlaceField& field, const Action& action) const {
  const int group = field_.group();
  std::size_t first = 0;
  for (int y = 0; y < size_.height; ++y) {
    field.begin_line(y, rows_.data() + first);
    for (int x = 0; x < size_.width; ++x, first += group)
      for (field.begin_place(x); field.next_block();)
        for (const int i : Bits(field.coded())) action(i, first + field.channel(i));
    field.end_line();
  }
}

// Rows for the search as the context would correct them, if symbols were what residuals are, rounded. A search makes them
// smaller than that, so it rounds up late.
void TileEncoder::guess_rows() {
  constexpr float kUp = 0.25f, kMost = 32767;
  PlaceField guess = *context_;
  auto row = searched_rows_.begin();
  walk(guess, [&](int i, std::size_t at) {
    const int half_steps = static_cast<int>(std::min(kMost, 2 * std::abs(residual_[at]) + kUp));
    *row++ = static_cast<std::int16_t>(guess.row(i));
    guess.see(i, ScaleField::magnitude_of(half_steps), residual_[at] < 0 ? -half_steps : half_steps);
  });
}

void TileEncoder::quantize(const float* y, const float* mean, const float* gain,
                           const Staircase& staircase, float* decoded, bool with_context) {
  if (phase_ < 0) throw std::invalid_argument("no phase was begun");
  const std::ptrdiff_t group = field_.group();
  residual_.resize(rows_.size());
  const auto take = [&](int channel, int column, std::size_t line, std::size_t in_phase) {
    const float* of_y = y + line;
    const float* of_mean = mean + line;
    float* residual = residual_.data() + in_phase;
    prefetch(of_y + 2 * size_.width, size_.width);
    prefetch(of_mean + 2 * size_.width, size_.width);
    for (int x = column; x < size_.width; x += 2)
      residual[x * group] = (of_y[x] - of_mean[x]) * gain[channel];
  };
  for_lines(phase_, size_, channels(), take);
  list_coded();
  if (context_ && with_context) guess_rows();
  const std::size_t count = places_.size();
  searched_residual_.resize(count);
  for (std::size_t i = 0; i < count; ++i) searched_residual_[i] = residual_[places_[i]];
  search(*model_->trellis, *model_->y_tables, staircase, searched_residual_, searched_rows_,
         lanes_for(size_), model_->network->simd(), levels_.data());
  end_phase();
  const bool fine = model_->trellis->dependent();
  const auto place = [&](int channel, int column, std::size_t line, std::size_t in_phase) {
    const float step = 1.0f / gain[channel];
    const float* of_mean = mean + line;
    const std::int16_t* decided = decided_.data() + in_phase;
    float* out = decoded + line;
    prefetch(of_mean + 2 * size_.width, size_.width);
    prefetch(out + 2 * size_.width, size_.width);
    if (staircase.grid.empty()) {  // without branches: signs are as good as random
      const float unit = fine ? 0.5f : 1.0f;
      for (int x = column; x < size_.width; x += 2)
        out[x] = of_mean[x] + unit * static_cast<float>(decided[x * group]) * step;
      return;
    }
    for (int x = column; x < size_.width; x += 2)
      out[x] = of_mean[x] + value_of(decided[x * group], fine, staircase) * step;
  };
  for_lines(phase_, size_, channels(), place);
}

void TileEncoder::put(const std::int16_t* symbols) {
  if (phase_ < 0) throw std::invalid_argument("no phase was begun");
  check_symbols({symbols, y_.size()});
  list_coded();
  const int group = field_.group(), lanes = lanes_for(size_);
  int state[kMaxLanes] = {};
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const std::size_t position = places_[i] / group;
    const int first = channel_group(static_cast<int>(position / size_.width),
                                    static_cast<int>(position % size_.width), phase_) * group;
    const int symbol = symbols[position * channels() + first + places_[i] % group];
    levels_[i] = static_cast<std::int16_t>(symbol);
    if (!model_->trellis->dependent()) continue;
    int& s = state[i % lanes];
    const int quantizer = quantizer_of(s);
    const int level = (symbol + (symbol > 0 ? quantizer : symbol < 0 ? -quantizer : 0)) / 2;
    if (index_of(level, quantizer) != symbol)
      throw std::invalid_argument("a symbol is none that the trellis can reach");
    levels_[i] = static_cast<std::int16_t>(level);
    s = model_->trellis->next(s, level);
  }
  end_phase();
}

void TileEncoder::end_phase() {
  if (model_->trellis->dependent())
    decide<true>();
  else
    decide<false>();
  // Magnitudes become visible to later phases only now.
  const int group = field_.group();
  const std::int16_t* decided = decided_.data();
  const std::uint8_t* magnitudes = magnitudes_.data();
  for (int row = 0; row < size_.height; ++row)
    for (int x = 0; x < size_.width; ++x, decided += group, magnitudes += group) {
      const std::size_t in_line = static_cast<std::size_t>(x) * channels() +
                                  channel_group(row, x, phase_) * group;
      const std::size_t line = static_cast<std::size_t>(row) * size_.width * channels();
      std::copy_n(decided, group, y_.data() + line + in_line);
      std::copy_n(magnitudes, group, field_.magnitudes(row) + in_line);
    }
}

template <bool kDependent>
void TileEncoder::decide() {
  const std::size_t mask = lanes_for(size_) - 1;
  auto& coded = coded_[phase_];
  coded.resize(places_.size());
  decided_.assign(rows_.size(), 0);
  magnitudes_.assign(rows_.size(), 0);
  int state[kMaxLanes] = {};
  for (std::size_t i = 0; i < places_.size(); ++i) {
    int symbol = levels_[i], row = searched_rows_[i];
    if constexpr (kDependent) {
      int& s = state[i & mask];
      const int quantizer = quantizer_of(s);
      row = 2 * row + quantizer;
      s = model_->trellis->next(s, symbol);
      symbol = index_of(symbol, quantizer);
    }
    coded[i] = {static_cast<std::int16_t>(row), levels_[i]};
    decided_[places_[i]] = static_cast<std::int16_t>(symbol);
    magnitudes_[places_[i]] = ScaleField::magnitude_of(kDependent ? symbol : 2 * symbol);
  }
  if (context_) correct<kDependent>();
}

// The table rows of a phase that is decided, as its reader corrects them.
template <bool kDependent>
void TileEncoder::correct() {
  auto coded = coded_[phase_].begin();
  walk(*context_, [&](int i, std::size_t at) {
    const int row = context_->row(i);
    // A trellis has its quantizer in the lowest bit.
    coded->row = static_cast<std::int16_t>(kDependent ? 2 * row + (coded->row & 1) : row);
    coded->lean = static_cast<std::int16_t>(context_->lean(i));
    ++coded;
    context_->see(i, magnitudes_[at], kDependent ? decided_[at] : 2 * decided_[at]);
  });
}

std::pair<int, int> TileEncoder::as_read(const Coded& coded) const {
  return {coded.row * model_->leans() + std::abs(coded.lean), coded.lean < 0 ? -coded.level : coded.level};
}

std::vector<std::uint8_t> TileEncoder::finish() const {
  Encoder encoder(lanes_for(size_));
  for (int phase = kPhases - 1; phase >= 0; --phase)
    for (std::size_t rank = coded_[phase].size(); rank-- > 0;) {
      const auto [row, level] = as_read(coded_[phase][rank]);
      encoder.write_before(model_->read_tables(), row, rank, level);
    }
  for (std::size_t i = z_.size(); i-- > 0;)
    encoder.write_before(z_tables(i), coded_z_[i].row, i, coded_z_[i].level);
  return encoder.finish();
}

std::pair<double, double> TileEncoder::cross_entropy() const {
  double z_bits = 0, y_bits = 0;
  for (std::size_t i = 0; i < z_.size(); ++i)
    z_bits += z_tables(i).bits(coded_z_[i].row, coded_z_[i].level);
  for (const auto& phase : coded_)
    for (const Coded& coded : phase) {
      const auto [row, level] = as_read(coded);
      y_bits += model_->read_tables().bits(row, level);
    }
  return {z_bits, y_bits};
}

std::pair<std::vector<std::int16_t>, std::vector<std::int16_t>> TileEncoder::coded() const {
  std::pair<std::vector<std::int16_t>, std::vector<std::int16_t>> all;
  for (const auto& phase : coded_)
    for (const Coded& coded : phase) {
      all.first.push_back(coded.row);
      all.second.push_back(coded.level);
    }
  return all;
}

}  // namespace softstair
