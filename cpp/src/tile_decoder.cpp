// SPDX-License-Identifier: Apache-2.0
#include "tile_decoder.hpp"

#include <algorithm>
#include <stdexcept>

#include "level_reader.hpp"
#include "refuse.hpp"

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
    refuse("z needs a table for every channel");
  if (rule.rows * (trellis->dependent() ? 2 : 1) != y_tables->rows() || rule.skip < -1024 || rule.skip > rule.rows ||
      rule.base < -kLargestExponent || rule.base > kLargestExponent)
    refuse("the row rule does not fit the tables of y");
  if (rate_bias.size() != static_cast<std::size_t>(network->hyper_width()) ||
      !inside(rate_bias, kLargestRateBias))
    refuse("the rate bias does not fit the scale network");
  if (exponent.size() != static_cast<std::size_t>(network->latents()) ||
      !inside(exponent, kLargestExponent))
    refuse("the gains do not fit the scale network");
  if (place && (place->group() * kPhases != network->latents() || place->rows() != rule.rows))
    refuse("the context of a place does not fit the scale network");
  if (signs && (!place || signs->group() != place->group() || signs->rows() != rule.rows || !leaning ||
                leaning->rows() != y_tables->rows() * leans()))
    refuse("the context of signs does not fit the scale network");
  if (hyper && (hyper->channels() != network->hyper_latents() || hyper_rate.size() != hyper->rate_size() ||
                !inside(hyper_rate, kLargestRate)))
    refuse("the context of z does not fit the scale network");
}

double Model::least_hyper_bits() const {
  double bits = 0;
  for (int c = 0; c < network->hyper_latents(); ++c)
    bits += hyper && hyper->live_number(c) >= 0 ? hyper->least() : least_bits(*z_tables, c);
  return bits;
}

namespace {

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

}  // namespace

TileDecoder::TileDecoder(const Model& model, Size size, std::span<const std::uint8_t> bytes, bool layered)
    : model_(model), size_(size), growing_(false), layered_(layered), bytes_(bytes.begin(), bytes.end()) {
  decoder_.emplace(bytes_, lanes_for(size));
  fault_ = decoder_->fault();
  if (fault_ == Fault::none) fault_ = read_z();
}

void TileDecoder::append(std::span<const std::uint8_t> bytes) {
  if (!growing_) refuse("the tile has all its bytes");
  if (fault_ != Fault::none || bytes.empty()) return;
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  if (phase_ == kPhases) {
    fault_ = Fault::corrupt;
    return;
  }
  const int lanes = lanes_for(size_);
  if (decoder_)
    decoder_->extend(bytes_);
  else if (bytes_.size() >= lanes * sizeof(std::uint32_t))
    decoder_.emplace(bytes_, lanes);
  else
    return;
  fault_ = decoder_->fault();
  if (fault_ == Fault::none) fault_ = read_z();
  for (int phase = phase_; fault_ == Fault::none && has_z() && phase < kPhases; ++phase) {
    read_phase();
    if (phase_ == phase) return;
  }
}

// Reads the lines of z that are left.
Fault TileDecoder::read_z() {
  const std::size_t line = z_channels() * size_.z_width();
  const double line_bits = model_.least_hyper_bits() * size_.z_width();
  // A size is only a claim of the header: nothing large is allocated for z that the bytes cannot hold.
  if (!growing_ && cannot_hold(bytes_.size(), line_bits * size_.z_height())) return Fault::truncated;
  for (; !has_z(); ++z_lines_) {
    if (growing_ && cannot_hold(bytes_.size(), line_bits * (z_lines_ + 1))) return Fault::none;
    const Decoder before = *decoder_;
    const std::size_t start = z_lines_ * line;
    symbols_.z.resize(growing_ ? start + line : size_.z_height() * line);
    const Fault fault = read_z_line(start);
    if (fault == Fault::none) continue;
    if (!waits()) return fault;
    decoder_ = before;
    symbols_.z.resize(start);
    return Fault::none;
  }
  symbols_.y.resize(static_cast<std::size_t>(size_.height) * size_.width * channels());
  return Fault::none;
}

// Reads a line of z, whose first symbol is `start`.
Fault TileDecoder::read_z_line(std::size_t start) {
  const Tables& tables = *model_.z_tables;
  const std::size_t depth = z_channels();
  const HyperNetwork* hyper = model_.hyper.get();
  std::optional<HyperPlace> place;
  if (hyper != nullptr) place.emplace(*hyper, model_.hyper_rate);
  for (int x = 0; x < size_.z_width() && decoder_->fault() == Fault::none; ++x, start += depth) {
    if (place) place->begin(symbols_.z.data(), z_lines_, x, size_.z_width());
    for (std::size_t c = 0; c < depth; ++c) {
      const int channel = static_cast<int>(c), number = place ? hyper->live_number(channel) : -1;
      std::int16_t& symbol = symbols_.z[start + c];
      if (number < 0) {
        symbol = static_cast<std::int16_t>(decoder_->read(tables, channel, start + c));
        continue;
      }
      const HyperRow at = place->row(number);
      const int value = at.base + decoder_->read(hyper->tables(), at.row, start + c);
      if (value > kLargestHyper || value < -kLargestHyper)
        return decoder_->fault() == Fault::none ? Fault::corrupt : decoder_->fault();
      symbol = static_cast<std::int16_t>(value);
      place->see(number, value);
    }
  }
  return decoder_->fault();
}

void TileDecoder::read_phase() {
  if (phase_ == kPhases) refuse("all phases have been read");
  if (fault_ != Fault::none || !has_z()) return;
  if (!field_)  // not before: networks can begin as soon as z is known
    field_.emplace(model_.network, symbols_.z.data(), size_.height, size_.width,
                   model_.rate_bias.data(), model_.exponent.data());
  if (model_.place && !context_) context_.emplace(model_.place, model_.signs, size_.width);
  if (begun_ == phase_) {
    if (context_) context_->begin_phase(begun_);
    field_->begin_phase(begun_++);
  }
  fault_ = read_levels();
  if (fault_ != Fault::none || line_ < size_.height) return;
  line_ = 0;
  place_ = {};
  if (++phase_ < kPhases) return;
  field_.reset();  // more memory than the symbols, which may be kept
  context_.reset();
  decoder_->finish(!layered_);
  fault_ = decoder_->fault();
}

// Reads the lines of the phase that are left.
Fault TileDecoder::read_levels() {
  ScaleField& field = *field_;
  std::vector<std::int16_t> rows(static_cast<std::size_t>(size_.width) * field.group());
  std::vector<Entry> list(rows.size());
  LevelReader reader(model_, *decoder_, lanes_for(size_), place_);
  for (; line_ < size_.height; ++line_) {
    const Decoder before = *decoder_;
    const Place place = reader.place();
    field.rows(line_, model_.rule, rows.data());
    const auto coded = [&] { return list_coded(field, line_, phase_, rows.data(), list.data()); };
    std::int16_t* line =
        symbols_.y.data() + static_cast<std::size_t>(line_) * size_.width * field.channels();
    std::uint8_t* magnitudes = field.magnitudes(line_);
    if (context_) {
      context_->begin_line(line_, rows.data());
      for (int x = 0; x < field.width(); ++x) {
        const int first = x * field.channels() + channel_group(line_, x, phase_) * field.group();
        reader.read(*context_, x, line + first, magnitudes + first);
      }
    } else {
      reader.read({list.data(), coded()}, line, magnitudes);
    }
    if (reader.fault() == Fault::none) {
      if (context_) context_->end_line();
      continue;
    }
    if (!waits()) return reader.fault();
    // The line comes again when there is more of it.
    for (std::size_t i = 0, count = coded(); i < count; ++i) line[list[i].index] = 0, magnitudes[list[i].index] = 0;
    decoder_ = before;
    place_ = place;
    return Fault::none;
  }
  return Fault::none;
}

Decoded decode_symbols(const Model& model, Size size, std::span<const std::uint8_t> bytes) {
  TileDecoder decoder(model, size, bytes);
  for (int phase = 0; phase < kPhases && decoder.fault() == Fault::none; ++phase) decoder.read_phase();
  const Fault fault = decoder.fault();
  return {std::move(decoder).take(), fault};
}

constexpr int kUsual = 31;  // symbols up to this have their values looked up
constexpr int kAtOnce = 16;  // channels: lines of more push each other out of the cache

void reconstruct_phase(int phase, Size size, int channels, const std::int16_t* symbols, bool fine,
                       const Staircase& staircase, const MeansOfPhase& means, const float* step,
                       float* decoded) {
  const bool silent = value_of(0, fine, staircase) == 0;  // most symbols say nothing then
  const int group = channels / kPhases;
  const std::size_t plane = static_cast<std::size_t>(size.height) * size.width;
  float values[2 * kUsual + 1];
  for (int symbol = -kUsual; symbol <= kUsual; ++symbol) values[symbol + kUsual] = value_of(symbol, fine, staircase);
  for (int row = 0; row < size.height; ++row)
    for (int parity = 0; parity < 2; ++parity) {  // of columns, which decides the channels
      const MeansAt& mean = means[2 * (row & 1) + parity];
      const int group_start = channel_group(row, parity, phase) * group;
      for (int done = 0; done < group; done += kAtOnce) {
        const int count = std::min(kAtOnce, group - done), first = group_start + done;
        float* line = decoded + first * plane + static_cast<std::size_t>(row) * size.width;
        const float* from = mean.first + done * mean.channel + row / 2 * mean.row;
        for (int c = 0; c < count && from != line + parity; ++c) {
          const float* of = from + c * mean.channel;
          float* to = line + c * plane;
          for (int x = parity; x < size.width; x += 2, of += mean.column) to[x] = *of;
        }
        const std::int16_t* symbol = symbols + static_cast<std::size_t>(row) * size.width * channels + first;
        for (int x = parity; x < size.width; x += 2) {
          const std::int16_t* here = symbol + static_cast<std::ptrdiff_t>(x) * channels;
          int said[kAtOnce], saying = 0;
          for (int c = 0; c < count; ++c) {  // no branch, which no processor would guess
            said[saying] = c;
            saying += !silent || here[c] != 0;
          }
          for (int i = 0; i < saying; ++i) {
            const int c = said[i], s = here[c];
            const float value = s >= -kUsual && s <= kUsual ? values[s + kUsual] : value_of(s, fine, staircase);
            line[c * plane + x] += value * step[first + c];
          }
        }
      }
    }
}

void reconstruct_phase(int phase, Size size, int channels, const std::int16_t* symbols, bool fine,
                       const Staircase& staircase, const float* mean, const float* step,
                       float* decoded) {
  const auto plane = static_cast<std::ptrdiff_t>(size.height) * size.width;
  MeansOfPhase means;
  for (int place = 0; place < kPhases; ++place) {
    const int row = place / 2, column = place % 2;
    const int first = channel_group(row, column, phase) * (channels / kPhases);
    means[place] = {mean + first * plane + static_cast<std::ptrdiff_t>(row) * size.width + column, plane, 2 * static_cast<std::ptrdiff_t>(size.width), 2};
  }
  reconstruct_phase(phase, size, channels, symbols, fine, staircase, means, step, decoded);
}

void add_to_places(const MeansOfPhase& parts, int channels, Size size, float* sums) {
  for (int c = 0; c < channels; ++c)
    for (int row = 0; row < size.height; ++row, sums += size.width)
      for (int parity = 0; parity < 2; ++parity) {
        const MeansAt& part = parts[2 * (row & 1) + parity];
        const float* from = part.first + c * part.channel + row / 2 * part.row;
        for (int x = parity; x < size.width; x += 2) sums[x] += from[x / 2 * part.column];
      }
}

}  // namespace softstair
