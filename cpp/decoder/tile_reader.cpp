// SPDX-License-Identifier: Apache-2.0
#include "tile_reader.hpp"

#include <algorithm>

namespace softstair {
namespace {

// Positions beyond an axis of n, mirrored around the last position or around its outer edge.
int reflected(int i, int n) {
  if (n == 1) return 0;
  const int period = 2 * (n - 1), at = (i % period + period) % period;
  return at < n ? at : period - at;
}
int mirrored(int i, int n) {
  const int at = (i % (2 * n) + 2 * n) % (2 * n);
  return at < n ? at : 2 * n - 1 - at;
}

// Copies rows of `from`, cut to or continued from (top, left) on, to all of `to`.
template <typename Row, typename Column>
void copy_from(const Tensor& from, Tensor& to, int top, int left, Row row, Column column) {
  const int channels = to.channels();
  for (int y = 0; y < to.height(); ++y) {
    const float* source = from.row(row(y + top));
    float* target = to.row(y);
    for (int x = 0; x < to.width(); ++x, target += channels) std::copy_n(source + static_cast<std::ptrdiff_t>(column(x + left)) * channels, channels, target);
  }
}

}  // namespace

TileReader::TileReader(const Bundle& bundle, const Stream& stream)
    : bundle_(bundle),
      stream_(stream),
      model_(bundle.model(stream.header().position, stream.header().mode)),
      steps_(bundle.steps(stream.header().position, stream.header().mode)),
      levels_(bundle.levels(stream.header().position, stream.header().mode)),
      hat_(bundle.hat(stream.header().position)) {}

Size TileReader::size_of(int index) const {
  const Box cells = stream_.grid().box(index).cells(kStride);
  return {cells.rows(), cells.columns()};
}

TileReader::Margins TileReader::margins_of(int index) const {
  const Box tile = stream_.grid().box(index), picture = stream_.grid().whole();
  return {tile.top > picture.top ? kMirrored : 0, tile.left > picture.left ? kMirrored : 0, tile.bottom < picture.bottom ? kMirrored : 0,
          tile.right < picture.right ? kMirrored : 0};
}

Symbols TileReader::symbols(int index) const {
  TileDecoder decoder(model_, size_of(index), stream_.learned(index));
  read(decoder);
  check(decoder, index);
  return std::move(decoder).take();
}

int TileReader::rows_begun(int index) const {
  int rows = 0;
  begun(index, rows);
  return rows;
}

Tensor TileReader::latents(int index) const {
  if (has_none(index)) return no_latents(index);
  return reconstructed(symbols(index), size_of(index), margins_of(index));
}

std::optional<Tensor> TileReader::latents_if_whole(int index) const {
  if (has_none(index)) return no_latents(index);
  TileDecoder decoder(model_, size_of(index), stream_.learned(index));
  read(decoder);
  if (decoder.fault() != Fault::none) return std::nullopt;
  return reconstructed(std::move(decoder).take(), size_of(index), margins_of(index));
}

Tensor TileReader::latents_begun(int index) const {
  Size size = size_of(index);
  Margins margins = margins_of(index);
  int rows = 0;
  const Symbols symbols = begun(index, rows);
  if (rows < size.height) margins.bottom = 0;  // there is nothing to be shown a mirror image of
  size.height = rows;
  const Tensor read = reconstructed(symbols, size, margins);
  Tensor whole = no_latents(index);
  for (int y = 0; y < rows; ++y) std::copy_n(read.row(y), static_cast<std::size_t>(size.width) * bundle_.channels(), whole.row(y));
  return whole;
}

Tensor TileReader::no_latents(int index) const {
  const Size size = size_of(index);
  Tensor nothing(size.height, size.width, bundle_.channels(), 0);
  nothing.fill(0);
  return nothing;
}

bool TileReader::has_none(int index) const { return stream_.exact(index) && stream_.learned(index).empty(); }

void TileReader::read(TileDecoder& decoder) {
  for (int phase = 0; phase < kPhases && decoder.fault() == Fault::none; ++phase) decoder.read_phase();
}

void TileReader::check(const TileDecoder& decoder, int index) {
  if (decoder.fault() == Fault::none) return;
  throw Error(STAIR_CORRUPT, "The payload of tile " + std::to_string(index) + " cannot be decoded: it is " +
                                 (decoder.fault() == Fault::truncated ? "truncated." : "corrupt."));
}

Symbols TileReader::begun(int index, int& rows) const {
  const Size size = size_of(index);
  TileDecoder decoder(model_, size);
  decoder.append(stream_.beginning(index));
  if (decoder.fault() != Fault::none) return {};
  rows = std::min(size.height, 2 * decoder.z_lines());
  Symbols symbols = std::move(decoder).take();
  symbols.y.resize(static_cast<std::size_t>(rows) * size.width * bundle_.channels());
  return symbols;
}

Tensor TileReader::reconstructed(const Symbols& symbols, Size size, const Margins& margins) const {
  const Tensor base = this->base(symbols.z, size, margins);
  Tensor decoded = bundle_.mean().input("known", size.height, size.width);
  decoded.fill(0);
  for (int phase = 0; phase < kPhases; ++phase) {
    const Tensor mean = this->mean(decoded, base, phase, margins);
    place(phase, symbols.y, mean, margins, decoded);
  }
  return decoded;
}

// What the mean network makes of z^, cut to the positions that it is shown.
Tensor TileReader::base(const std::vector<std::int16_t>& z, Size size, const Margins& m) const {
  const int rows = size.z_height(), columns = size.z_width(), channels = model_.network->hyper_latents();
  Tensor in = bundle_.mean_base().input("z_hat", rows + m.top + m.bottom, columns + m.left + m.right);
  for (int y = 0; y < in.height(); ++y)
    for (int x = 0; x < in.width(); ++x) {
      const std::size_t at = static_cast<std::size_t>(mirrored(y - m.top, rows)) * columns + mirrored(x - m.left, columns);
      std::copy_n(z.data() + at * channels, channels, in.at(y, x));
    }
  const Tensor whole = bundle_.mean_base().run({{"z_hat", &in}}, {{"hat", hat_}});
  // z^ covers two positions each: of its margin, only the inner half is needed.
  Tensor cut = bundle_.mean().input("base", size.height + m.top + m.bottom, size.width + m.left + m.right);
  const auto same = [](int i) { return i; };
  copy_from(whole, cut, m.top, m.left, same, same);
  return cut;
}

Tensor TileReader::mean(const Tensor& decoded, const Tensor& base, int phase, const Margins& m) const {
  std::vector<float> one_hot(kPhases);
  one_hot[phase] = 1;
  const auto run = [&](const Tensor& known) {
    return bundle_.mean().run({{"known", &known}, {"base", &base}}, {{"phase", one_hot}, {"hat", hat_}});
  };
  if (!m.any()) return run(decoded);
  Tensor known = bundle_.mean().input("known", base.height(), base.width());
  copy_from(
      decoded, known, -m.top, -m.left, [&](int y) { return reflected(y, decoded.height()); }, [&](int x) { return reflected(x, decoded.width()); });
  return run(known);
}

// mean + value * step for the latents of one phase.
void TileReader::place(int phase, const std::vector<std::int16_t>& symbols, const Tensor& mean, const Margins& m, Tensor& decoded) const {
  const int channels = bundle_.channels(), group = channels / kPhases;
  const bool fine = model_.trellis->dependent();
  const Staircase staircase{0, levels_};
  const float unit = fine ? 0.5f : 1.0f;
  for (int y = 0; y < decoded.height(); ++y)
    for (int x = 0; x < decoded.width(); ++x) {
      const int first = channel_group(y, x, phase) * group;
      const std::int16_t* symbol = symbols.data() + (static_cast<std::size_t>(y) * decoded.width() + x) * channels + first;
      const float* of_mean = mean.at(y + m.top, x + m.left) + first;
      const float* step = steps_.data() + first;
      float* to = decoded.at(y, x) + first;
      if (levels_.empty())
        for (int c = 0; c < group; ++c) to[c] = of_mean[c] + unit * static_cast<float>(symbol[c]) * step[c];
      else
        for (int c = 0; c < group; ++c) to[c] = of_mean[c] + value_of(symbol[c], fine, staircase) * step[c];
    }
}

}  // namespace softstair
