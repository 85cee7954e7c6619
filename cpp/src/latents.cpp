// SPDX-License-Identifier: Apache-2.0
#include "latents.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace softstair {
namespace {

constexpr std::int32_t kLargestExponent = 1024;
constexpr std::int32_t kLargestRateBias = 1 << 24;

// Round half to even, without a call: next to 1.5 * 2^23 a float has no bits left for a fraction.
int nearest_symbol(float value) {
  constexpr float kShift = 12582912.0f, kLargest = kLargestSymbol;
  const float number = value == value ? value : 0.0f;
  const float inside = std::min(std::max(number, -kLargest), kLargest);
  return static_cast<int>(inside + kShift - kShift);
}

// The nearest symbol, or the one below it in magnitude if the row's threshold is not reached.
int lower(float residual, int nearest, const float* thresholds) {
  const int magnitude = nearest < 0 ? -nearest : nearest;
  if (magnitude == 0 || magnitude > kThresholds || std::abs(residual) >= thresholds[magnitude - 1])
    return nearest;
  return nearest < 0 ? nearest + 1 : nearest - 1;
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

namespace {

// A latent to be read: where it lies in its line, x * channels + channel, and its table.
struct Entry {
  std::uint32_t index;
  std::int16_t row;
};

// List the coded latents of a line, so that the loop that reads them has nothing to decide.
std::size_t list_coded(const ScaleField& field, int y, int phase, const std::int16_t* rows,
                       Entry* list) {
  const int group = field.group();
  std::size_t count = 0;
  for (int x = 0; x < field.width(); ++x, rows += group) {
    const auto first =
        static_cast<std::uint32_t>(x * field.channels() + channel_group(y, x, phase) * group);
    for (int c = 0; c < group; ++c) {
      list[count] = {first + static_cast<std::uint32_t>(c), rows[c]};
      count += rows[c] != kSkipped;
    }
  }
  return count;
}

Fault read_z(const Tables& tables, Decoder& decoder, std::vector<std::int16_t>& z) {
  const int channels = tables.rows();
  for (std::size_t first = 0; first < z.size(); first += channels) {
    for (int c = 0; c < channels; ++c)
      z[first + c] = static_cast<std::int16_t>(decoder.read(tables, c, first + c));
    if (decoder.fault() != Fault::none) break;
  }
  return decoder.fault();
}

Fault read_y(const Model& model, Size size, Decoder& decoder, ScaleField& field,
             std::vector<std::int16_t>& symbols) {
  const Tables& tables = *model.y_tables;
  std::vector<std::int16_t> rows(static_cast<std::size_t>(size.width) * field.group());
  std::vector<Entry> list(rows.size());
  for (int phase = 0; phase < kPhases; ++phase) {
    field.begin_phase(phase);
    std::size_t rank = 0;
    for (int y = 0; y < size.height; ++y) {
      field.rows(y, model.rule, rows.data());
      const std::size_t count = list_coded(field, y, phase, rows.data(), list.data());
      std::int16_t* line =
          symbols.data() + static_cast<std::size_t>(y) * size.width * field.channels();
      std::uint8_t* magnitudes = field.magnitudes(y);
      for (std::size_t i = 0; i < count; ++i, ++rank) {
        const int symbol = decoder.read(tables, list[i].row, rank);
        line[list[i].index] = static_cast<std::int16_t>(symbol);
        magnitudes[list[i].index] = ScaleField::magnitude_of(symbol);
      }
      if (decoder.fault() != Fault::none) return decoder.fault();
    }
  }
  return Fault::none;
}

}  // namespace

Decoded decode_symbols(const Model& model, Size size, std::span<const std::uint8_t> bytes) {
  Decoder decoder(bytes, lanes_for(size));
  Decoded decoded{{}, decoder.fault()};
  if (decoded.fault != Fault::none) return decoded;

  // A size is only a claim of the header: nothing large is allocated if z alone needs more bytes.
  double position_bits = 0;
  for (int c = 0; c < model.z_tables->rows(); ++c) position_bits += least_bits(*model.z_tables, c);
  if (cannot_hold(bytes.size(), position_bits * size.z_height() * size.z_width()))
    return {{}, Fault::truncated};

  auto& [z, y] = decoded.symbols;
  z.resize(static_cast<std::size_t>(size.z_height()) * size.z_width() * model.z_tables->rows());
  decoded.fault = read_z(*model.z_tables, decoder, z);
  if (decoded.fault != Fault::none) return decoded;

  y.resize(static_cast<std::size_t>(size.height) * size.width * model.network->latents());
  ScaleField field(model.network, z.data(), size.height, size.width, model.rate_bias.data(),
                   model.exponent.data());
  decoded.fault = read_y(model, size, decoder, field, y);
  if (decoded.fault != Fault::none) return decoded;

  decoder.finish();
  decoded.fault = decoder.fault();
  return decoded;
}

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
}

const std::vector<std::int16_t>& TileEncoder::begin_phase() {
  if (phase_ + 1 >= kPhases) throw std::invalid_argument("all phases are done");
  ++phase_;
  field_.begin_phase(phase_);
  const std::size_t line = rows_.size() / size_.height;
  for (int y = 0; y < size_.height; ++y) field_.rows(y, model_->rule, rows_.data() + y * line);
  return rows_;
}

void TileEncoder::quantize(const float* y, const float* mean, const float* gain,
                           const float* thresholds, float* decoded) {
  if (phase_ < 0) throw std::invalid_argument("no phase was begun");
  const int group = field_.group();
  const std::size_t plane = static_cast<std::size_t>(size_.height) * size_.width;
  for (int row = 0; row < size_.height; ++row)
    // Positions of one parity code the same channels, which lie in planes of their own.
    for (int parity = 0; parity < 2; ++parity)
      for (int i = 0; i < group; ++i) {
        const int channel = channel_group(row, parity, phase_) * group + i;
        const float step = 1.0f / gain[channel];
        for (int x = parity; x < size_.width; x += 2) {
          const std::size_t position = static_cast<std::size_t>(row) * size_.width + x;
          const std::size_t at = channel * plane + position, in_phase = position * group + i;
          const float residual = (y[at] - mean[at]) * gain[channel];
          const int nearest = nearest_symbol(residual);
          const std::int16_t table = rows_[in_phase];
          const int symbol =
              table == kSkipped ? 0 : lower(residual, nearest, thresholds + table * kThresholds);
          decided_[in_phase] = static_cast<std::int16_t>(symbol);
          decoded[at] = mean[at] + static_cast<float>(symbol) * step;
        }
      }
  end_phase();
}

void TileEncoder::put(const std::int16_t* symbols) {
  if (phase_ < 0) throw std::invalid_argument("no phase was begun");
  check_symbols({symbols, y_.size()});
  const int group = field_.group();
  std::size_t in_phase = 0;
  for (int row = 0; row < size_.height; ++row)
    for (int x = 0; x < size_.width; ++x, symbols += channels()) {
      const std::int16_t* given = symbols + channel_group(row, x, phase_) * group;
      for (int i = 0; i < group; ++i, ++in_phase)
        decided_[in_phase] = rows_[in_phase] == kSkipped ? std::int16_t{0} : given[i];
    }
  end_phase();
}

void TileEncoder::end_phase() {
  // One place more than needed, so that the loop need not know whether a latent is coded.
  auto& coded = coded_[phase_];
  coded.resize(rows_.size() - std::count(rows_.begin(), rows_.end(), kSkipped) + 1);
  std::size_t count = 0;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    coded[count] = {rows_[i], decided_[i]};
    count += rows_[i] != kSkipped;
  }
  coded.pop_back();

  // Magnitudes become visible to later phases only now.
  const int group = field_.group();
  const std::int16_t* decided = decided_.data();
  for (int row = 0; row < size_.height; ++row)
    for (int x = 0; x < size_.width; ++x, decided += group) {
      const std::size_t in_line = static_cast<std::size_t>(x) * channels() +
                                  channel_group(row, x, phase_) * group;
      const std::size_t line = static_cast<std::size_t>(row) * size_.width * channels();
      std::copy_n(decided, group, y_.data() + line + in_line);
      std::transform(decided, decided + group, field_.magnitudes(row) + in_line,
                     ScaleField::magnitude_of);
    }
}

std::vector<std::uint8_t> TileEncoder::finish() const {
  const int zc = model_->network->hyper_latents();
  Encoder encoder(lanes_for(size_));
  for (int phase = kPhases - 1; phase >= 0; --phase)
    for (std::size_t rank = coded_[phase].size(); rank-- > 0;) {
      const Coded& coded = coded_[phase][rank];
      encoder.write_before(*model_->y_tables, coded.row, rank, coded.value);
    }
  for (std::size_t i = z_.size(); i-- > 0;)
    encoder.write_before(*model_->z_tables, z_index_row(i, zc), i, z_[i]);
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
