// SPDX-License-Identifier: Apache-2.0
#include "latents.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace softstair {
namespace {

constexpr std::int32_t kLargestExponent = 1024;
constexpr std::int32_t kLargestRateBias = 1 << 24;

void check_symbols(std::span<const std::int16_t> symbols) {
  if (std::find(symbols.begin(), symbols.end(), std::int16_t{-32768}) != symbols.end())
    throw std::invalid_argument("a symbol is out of range");
}

int z_index_row(std::size_t index, int channels) { return static_cast<int>(index % channels); }

}  // namespace

void Model::check() const {
  const auto inside = [](const std::vector<std::int32_t>& values, std::int32_t limit) {
    return std::all_of(values.begin(), values.end(),
                       [limit](std::int32_t v) { return v >= -limit && v <= limit; });
  };
  if (z_tables->rows() != network->hyper_latents())
    throw std::invalid_argument("z needs a table for every channel");
  if (rule.rows != y_tables->rows() || rule.skip < -1024 || rule.skip > rule.rows ||
      rule.base < -kLargestExponent || rule.base > kLargestExponent)
    throw std::invalid_argument("the row rule does not fit the tables of y");
  if (rate_bias.size() != static_cast<std::size_t>(network->hyper_width()) ||
      !inside(rate_bias, kLargestRateBias))
    throw std::invalid_argument("the rate bias does not fit the scale network");
  if (exponent.size() != static_cast<std::size_t>(network->latents()) ||
      !inside(exponent, kLargestExponent))
    throw std::invalid_argument("the gains do not fit the scale network");
}

Decoded decode_symbols(const Model& model, Size size, std::span<const std::uint8_t> bytes) {
  const int lanes = lanes_for(size), zc = model.network->hyper_latents();
  const int channels = model.network->latents(), group = channels / kPhases;
  Decoder decoder(bytes, lanes);
  Symbols symbols;
  if (decoder.fault() != Fault::none) return {std::move(symbols), decoder.fault()};

  symbols.z.resize(static_cast<std::size_t>(size.z_height()) * size.z_width() * zc);
  for (std::size_t i = 0; i < symbols.z.size(); ++i) {
    symbols.z[i] = static_cast<std::int16_t>(
        decoder.read(*model.z_tables, z_index_row(i, zc), static_cast<int>(i % lanes)));
    if (decoder.fault() != Fault::none) return {std::move(symbols), decoder.fault()};
  }
  symbols.y.assign(static_cast<std::size_t>(size.height) * size.width * channels, 0);
  ScaleField field(model.network, symbols.z.data(), size.height, size.width,
                   model.rate_bias.data(), model.exponent.data());

  // The latents to be read, listed line by line so that the inner loop has nothing to decide.
  struct Entry {
    std::uint32_t index;  // x * channels + channel
    std::int16_t row;
  };
  std::vector<std::int16_t> rows(static_cast<std::size_t>(size.width) * group);
  std::vector<Entry> list(rows.size());
  for (int phase = 0; phase < kPhases; ++phase) {
    field.begin_phase(phase);
    unsigned rank = 0;
    for (int y = 0; y < size.height; ++y) {
      field.rows(y, model.rule, rows.data());
      std::size_t count = 0;
      for (int x = 0; x < size.width; ++x) {
        const std::int16_t* row = rows.data() + static_cast<std::size_t>(x) * group;
        const std::uint32_t first =
            static_cast<std::uint32_t>(x * channels + channel_group(y, x, phase) * group);
        for (int c = 0; c < group; ++c) {
          list[count] = {first + static_cast<std::uint32_t>(c), row[c]};
          count += row[c] != kSkipped;
        }
      }
      std::int16_t* line = symbols.y.data() + static_cast<std::size_t>(y) * size.width * channels;
      for (std::size_t i = 0; i < count; ++i, ++rank)
        line[list[i].index] = static_cast<std::int16_t>(
            decoder.read(*model.y_tables, list[i].row, static_cast<int>(rank % lanes)));
      if (decoder.fault() != Fault::none) return {std::move(symbols), decoder.fault()};
      if (phase + 1 < kPhases)
        for (std::size_t i = 0; i < count; ++i)
          if (const int symbol = line[list[i].index]; symbol != 0)
            field.magnitudes(y)[list[i].index] = ScaleField::magnitude_of(symbol);
    }
  }
  decoder.finish();
  return {std::move(symbols), decoder.fault()};
}

TileEncoder::TileEncoder(std::shared_ptr<const Model> model, Size size,
                         std::span<const std::int16_t> z)
    : model_(std::move(model)),
      size_(size),
      z_(z.begin(), z.end()),
      y_(static_cast<std::size_t>(size.height) * size.width * model_->network->latents(), 0),
      rows_(y_.size() / kPhases),
      field_(model_->network, z_.data(), size.height, size.width, model_->rate_bias.data(),
             model_->exponent.data()) {
  check_symbols(z_);
}

const std::vector<std::int16_t>& TileEncoder::begin_phase() {
  if (phase_ + 1 >= kPhases) throw std::invalid_argument("all phases are done");
  ++phase_;
  field_.begin_phase(phase_);
  const std::size_t line = rows_.size() / size_.height;
  for (int y = 0; y < size_.height; ++y) field_.rows(y, model_->rule, rows_.data() + y * line);
  coded_[phase_].clear();
  return rows_;
}

void TileEncoder::record(int y, int x, int channel, int index_in_phase, int symbol) {
  const std::int16_t row = rows_[index_in_phase];
  if (row == kSkipped) return;
  coded_[phase_].push_back({row, static_cast<std::int16_t>(symbol)});
  if (symbol == 0) return;
  y_[(static_cast<std::size_t>(y) * size_.width + x) * channels() + channel] =
      static_cast<std::int16_t>(symbol);
}

void TileEncoder::end_phase() {
  // Magnitudes become visible to later phases only now.
  const int group = channels() / kPhases;
  for (int y = 0; y < size_.height; ++y)
    for (int x = 0; x < size_.width; ++x) {
      const int first = channel_group(y, x, phase_) * group;
      const std::int16_t* at =
          y_.data() + (static_cast<std::size_t>(y) * size_.width + x) * channels() + first;
      for (int c = 0; c < group; ++c)
        if (at[c] != 0) field_.magnitudes(y)[x*channels()+first + c]=ScaleField::magnitude_of(at[c]);
    }
}

void TileEncoder::quantize(const float* y, const float* mean, const float* gain, float* decoded) {
  if (phase_ < 0) throw std::invalid_argument("no phase was begun");
  const int group = channels() / kPhases;
  const std::size_t plane = static_cast<std::size_t>(size_.height) * size_.width;
  int index = 0;
  for (int row = 0; row < size_.height; ++row)
    for (int column = 0; column < size_.width; ++column) {
      const int first = channel_group(row, column, phase_) * group;
      for (int c = first; c < first + group; ++c, ++index) {
        const std::size_t at = c * plane + static_cast<std::size_t>(row) * size_.width + column;
        int symbol = 0;
        if (rows_[index] != kSkipped) {
          const float scaled = std::nearbyint((y[at] - mean[at]) * gain[c]);
          // A NaN fails both comparisons and becomes zero.
          if (scaled > 0) symbol = static_cast<int>(std::min<float>(scaled, kLargestSymbol));
          if (scaled < 0) symbol = static_cast<int>(std::max<float>(scaled, -kLargestSymbol));
        }
        record(row, column, c, index, symbol);
        decoded[at] = mean[at] + static_cast<float>(symbol) * (1.0f / gain[c]);
      }
    }
  end_phase();
}

void TileEncoder::put(const std::int16_t* symbols) {
  if (phase_ < 0) throw std::invalid_argument("no phase was begun");
  check_symbols({symbols, y_.size()});
  const int group = channels() / kPhases;
  int index = 0;
  for (int row = 0; row < size_.height; ++row)
    for (int column = 0; column < size_.width; ++column) {
      const int first = channel_group(row, column, phase_) * group;
      for (int c = first; c < first + group; ++c, ++index)
        record(row, column, c, index,
               symbols[(static_cast<std::size_t>(row) * size_.width + column) * channels() + c]);
    }
  end_phase();
}

std::vector<std::uint8_t> TileEncoder::finish() const {
  const int lanes = lanes_for(size_), zc = model_->network->hyper_latents();
  Encoder encoder(lanes);
  for (int phase = kPhases - 1; phase >= 0; --phase)
    for (std::size_t rank = coded_[phase].size(); rank-- > 0;) {
      const Coded& coded = coded_[phase][rank];
      encoder.write_before(*model_->y_tables, coded.row, static_cast<int>(rank % lanes), coded.value);
    }
  for (std::size_t i = z_.size(); i-- > 0;)
    encoder.write_before(*model_->z_tables, z_index_row(i, zc), static_cast<int>(i % lanes), z_[i]);
  return encoder.finish();
}

std::pair<double, double> TileEncoder::cross_entropy() const {
  double z_bits = 0, y_bits = 0;
  for (std::size_t i = 0; i < z_.size(); ++i)
    z_bits += softstair::cross_entropy(*model_->z_tables,
                                       z_index_row(i, model_->network->hyper_latents()), z_[i]);
  for (const auto& phase : coded_)
    for (const Coded& coded : phase)
      y_bits += softstair::cross_entropy(*model_->y_tables, coded.row, coded.value);
  return {z_bits, y_bits};
}

std::int64_t TileEncoder::coded() const {
  std::int64_t count = 0;
  for (const auto& phase : coded_) count += static_cast<std::int64_t>(phase.size());
  return count;
}

void reconstruct_phase(int phase, Size size, int channels, const std::int16_t* symbols,
                       const float* mean, const float* step, float* decoded) {
  const int group = channels / kPhases;
  const std::size_t plane = static_cast<std::size_t>(size.height) * size.width;
  for (int row = 0; row < size.height; ++row)
    for (int column = 0; column < size.width; ++column) {
      const std::size_t position = static_cast<std::size_t>(row) * size.width + column;
      const int first = channel_group(row, column, phase) * group;
      for (int c = first; c < first + group; ++c) {
        const std::size_t at = c * plane + position;
        decoded[at] = mean[at] + static_cast<float>(symbols[position * channels + c]) * step[c];
      }
    }
}

}  // namespace softstair
