// SPDX-License-Identifier: Apache-2.0
#include "tile_decoder.hpp"

#include <algorithm>
#include <stdexcept>

namespace softstair {
namespace {

constexpr std::int32_t kLargestExponent = 1024;
constexpr std::int32_t kLargestRateBias = 1 << 24;

}  // namespace

void Model::check() const {
  const auto inside = [](const std::vector<std::int32_t>& values, std::int32_t limit) {
    return std::all_of(values.begin(), values.end(),
                       [limit](std::int32_t v) { return v >= -limit && v <= limit; });
  };
  if (z_tables->rows() != network->hyper_latents())
    throw std::invalid_argument("z needs a table for every channel");
  if (rule.rows * (trellis->dependent() ? 2 : 1) != y_tables->rows() || rule.skip < -1024 || rule.skip > rule.rows ||
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

// Reads the levels of one phase; a lane of a trellis follows its state.
template <bool kDependent>
class LevelReader {
 public:
  LevelReader(const Model& model, Decoder& decoder, int lanes)
      : tables_(*model.y_tables), trellis_(*model.trellis), decoder_(decoder), mask_(lanes - 1) {}

  // The symbol of the next coded latent, whose table row is given.
  int read(int row) {
    const std::size_t rank = rank_++;
    if constexpr (!kDependent) return decoder_.read(tables_, row, rank);
    int& state = state_[rank & mask_];
    const int quantizer = quantizer_of(state);
    const int level = decoder_.read(tables_, 2 * row + quantizer, rank);
    if (level > kLargestLevel || level < -kLargestLevel) [[unlikely]]
      beyond_ = true;
    state = trellis_.next(state, level);
    return index_of(level, quantizer);
  }

  Fault fault() const {
    if (decoder_.fault() != Fault::none) return decoder_.fault();
    return beyond_ ? Fault::corrupt : Fault::none;
  }

 private:
  const Tables& tables_;
  const Trellis& trellis_;
  Decoder& decoder_;
  std::size_t rank_ = 0, mask_;
  int state_[kMaxLanes] = {};
  bool beyond_ = false;
};

// What a stream begins with.
Fault read_first(const Model& model, Size size, std::span<const std::uint8_t> bytes, Decoder& decoder,
                 std::vector<std::int16_t>& z) {
  if (decoder.fault() != Fault::none) return decoder.fault();

  // A size is only a claim of the header: nothing large is allocated if z alone needs more bytes.
  double position_bits = 0;
  for (int c = 0; c < model.z_tables->rows(); ++c) position_bits += least_bits(*model.z_tables, c);
  if (cannot_hold(bytes.size(), position_bits * size.z_height() * size.z_width()))
    return Fault::truncated;

  z.resize(static_cast<std::size_t>(size.z_height()) * size.z_width() * model.z_tables->rows());
  return read_z(*model.z_tables, decoder, z);
}

}  // namespace

TileDecoder::TileDecoder(const Model& model, Size size, std::span<const std::uint8_t> bytes)
    : model_(model),
      size_(size),
      bytes_(bytes.begin(), bytes.end()),
      decoder_(bytes_, lanes_for(size)),
      fault_(read_first(model, size, bytes_, decoder_, symbols_.z)) {
  if (fault_ != Fault::none) return;
  symbols_.y.resize(static_cast<std::size_t>(size.height) * size.width * model.network->latents());
}

void TileDecoder::read_phase() {
  if (phase_ == kPhases) throw std::invalid_argument("all phases have been read");
  if (fault_ != Fault::none) return;
  if (phase_ == 0)  // not before: networks can begin as soon as z is known
    field_.emplace(model_.network, symbols_.z.data(), size_.height, size_.width,
                   model_.rate_bias.data(), model_.exponent.data());
  fault_ = model_.trellis->dependent() ? read_levels<true>() : read_levels<false>();
  if (++phase_ < kPhases || fault_ != Fault::none) return;
  field_.reset();  // more memory than the symbols, which may be kept
  decoder_.finish();
  fault_ = decoder_.fault();
}

template <bool kDependent>
Fault TileDecoder::read_levels() {
  ScaleField& field = *field_;
  std::vector<std::int16_t> rows(static_cast<std::size_t>(size_.width) * field.group());
  std::vector<Entry> list(rows.size());
  field.begin_phase(phase_);
  LevelReader<kDependent> reader(model_, decoder_, lanes_for(size_));
  for (int y = 0; y < size_.height; ++y) {
    field.rows(y, model_.rule, rows.data());
    const std::size_t count = list_coded(field, y, phase_, rows.data(), list.data());
    std::int16_t* line =
        symbols_.y.data() + static_cast<std::size_t>(y) * size_.width * field.channels();
    std::uint8_t* magnitudes = field.magnitudes(y);
    for (std::size_t i = 0; i < count; ++i) {
      const int symbol = reader.read(list[i].row);
      line[list[i].index] = static_cast<std::int16_t>(symbol);
      magnitudes[list[i].index] = ScaleField::magnitude_of<kDependent>(symbol);
    }
    if (reader.fault() != Fault::none) return reader.fault();
  }
  return Fault::none;
}

Decoded decode_symbols(const Model& model, Size size, std::span<const std::uint8_t> bytes) {
  TileDecoder decoder(model, size, bytes);
  for (int phase = 0; phase < kPhases; ++phase) decoder.read_phase();
  const Fault fault = decoder.fault();
  return {std::move(decoder).take(), fault};
}

void reconstruct_phase(int phase, Size size, int channels, const std::int16_t* symbols, bool fine,
                       const Staircase& staircase, const float* mean, const float* step,
                       float* decoded) {
  const int group = channels / kPhases;
  const std::size_t plane = static_cast<std::size_t>(size.height) * size.width;
  for (int row = 0; row < size.height; ++row)
    for (int column = 0; column < size.width; ++column) {
      const std::size_t position = static_cast<std::size_t>(row) * size.width + column;
      const int first = channel_group(row, column, phase) * group;
      for (int c = first; c < first + group; ++c) {
        const std::size_t at = c * plane + position;
        decoded[at] =
            mean[at] + value_of(symbols[position * channels + c], fine, staircase) * step[c];
      }
    }
}

}  // namespace softstair
