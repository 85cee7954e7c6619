// SPDX-License-Identifier: Apache-2.0
#include "tile_reader.hpp"

#include <algorithm>

#include "refinement.hpp"

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
      steps_(bundle.steps(stream.header().position, stream.header().mode)),
      levels_(stream.layered() ? std::vector<float>{0, (1 + kInCell) / 2, 1 + kInCell} : bundle.levels(stream.header().position, stream.header().mode)),
      hat_(bundle.hat(stream.header().position)),
      synthesis_hat_(bundle.hat(stream.shown_position())) {
  for (int layer = 0; layer < stream.layers(); ++layer) models_.push_back(bundle.model(stream.header().position, stream.header().mode, layer));
}

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
  Symbols symbols;
  check(read(index, symbols), index);
  return symbols;
}

int TileReader::rows_begun(int index) const {
  int rows = 0;
  begun(index, rows);
  return rows;
}

Tensor TileReader::latents(int index) const {
  if (has_none(index)) return no_latents(index);
  return reconstructed(symbols(index), size_of(index), margins_of(index), stream_.layers() - 1);
}

std::optional<Tensor> TileReader::latents_if_whole(int index) const {
  if (has_none(index)) return no_latents(index);
  Symbols symbols;
  if (read(index, symbols) != Fault::none) return std::nullopt;
  return reconstructed(symbols, size_of(index), margins_of(index), stream_.layers() - 1);
}

Tensor TileReader::latents_begun(int index) const {
  Size size = size_of(index);
  Margins margins = margins_of(index);
  int rows = 0;
  const Symbols symbols = begun(index, rows);
  if (rows < size.height) margins.bottom = 0;  // there is nothing to be shown a mirror image of
  size.height = rows;
  const Tensor read = reconstructed(symbols, size, margins, 0);
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

Fault TileReader::read(int index, Symbols& symbols) const {
  const Size size = size_of(index);
  const Bytes payload = stream_.learned(index);
  TileDecoder decoder(models_[0], size, payload, stream_.layered());
  for (int phase = 0; phase < kPhases && decoder.fault() == Fault::none; ++phase) decoder.read_phase();
  if (decoder.fault() != Fault::none) return decoder.fault();
  Bytes rest = payload.subspan(decoder.bytes_read());
  symbols = std::move(decoder).take();
  if (!stream_.layered()) return Fault::none;
  LayerReader reader(*models_[0].y_tables, size, symbols.z, symbols.y);
  for (std::size_t layer = 1; layer < models_.size(); ++layer) {
    std::size_t read = 0;
    if (const Fault fault = reader.read(models_[layer], rest, read); fault != Fault::none) return fault;
    rest = rest.subspan(read);
  }
  return rest.empty() ? Fault::none : Fault::corrupt;
}

void TileReader::check(Fault fault, int index) {
  if (fault == Fault::none) return;
  fail_with(STAIR_CORRUPT, "The payload of tile " + decimal(index) + " cannot be decoded: it is " +
                               (fault == Fault::truncated ? "truncated." : "corrupt."));
}

Symbols TileReader::begun(int index, int& rows) const {
  const Size size = size_of(index);
  TileDecoder decoder(models_[0], size);
  decoder.append(stream_.beginning(index));
  if (decoder.fault() != Fault::none) return {};
  rows = std::min(size.height, 2 * decoder.z_lines());
  Symbols symbols = std::move(decoder).take();
  symbols.y.resize(static_cast<std::size_t>(rows) * size.width * bundle_.channels());
  return symbols;
}

Tensor TileReader::reconstructed(const Symbols& symbols, Size size, const Margins& margins, int layer) const {
  // The first layer's levels are those of the last one without their lowest bits.
  std::vector<std::int16_t> first;
  if (layer > 0) {
    first.resize(symbols.y.size());
    std::transform(symbols.y.begin(), symbols.y.end(), first.begin(),
                   [layer](int level) { return static_cast<std::int16_t>(level < 0 ? -(-level >> layer) : level >> layer); });
  }
  const Tensor base = this->base(bundle_.mean(), symbols.z, size, margins);
  Tensor decoded = bundle_.mean().input("known", size.height, size.width);
  decoded.fill(0);
  for (int phase = 0; phase < kPhases; ++phase) {
    const Tensor mean = this->mean(bundle_.mean(), decoded, base, phase, margins);
    place(phase, layer > 0 ? first : symbols.y, steps_, mean, margins, decoded);
  }
  if (layer > 0) refine(symbols.y, first, layer, decoded);
  return decoded;
}

Tensor TileReader::icon(int index) const {
  const Size size = size_of(index);
  const Margins margins = margins_of(index);
  TileDecoder decoder(models_[0], size, stream_.learned(index), stream_.layered());
  for (int phase = 0; phase < kPhases && decoder.fault() == Fault::none; ++phase) decoder.read_phase();
  check(decoder.fault(), index);
  const Symbols all = std::move(decoder).take();
  const int group = bundle_.channels() / kPhases, seen = bundle_.icon_group();
  std::vector<std::int16_t> symbols;
  std::vector<float> steps;
  symbols.reserve(all.y.size() / group * seen);
  for (auto first = all.y.begin(); first != all.y.end(); first += group) symbols.insert(symbols.end(), first, first + seen);
  for (auto first = steps_.begin(); first != steps_.end(); first += group) steps.insert(steps.end(), first, first + seen);
  const Network& network = *bundle_.icon();
  const Tensor base = this->base(network, all.z, size, margins);
  Tensor decoded = network.input("known", size.height, size.width);
  decoded.fill(0);
  for (int phase = 0; phase < kPhases; ++phase) place(phase, symbols, steps, mean(network, decoded, base, phase, margins), margins, decoded);
  const Tensor made = mean(network, decoded, base, kPhases, margins);
  Tensor colours(size.height, size.width, 3, 0);
  for (int y = 0; y < size.height; ++y)
    for (int x = 0; x < size.width; ++x) std::copy_n(made.at(y + margins.top, x + margins.left) + decoded.channels(), 3, colours.at(y, x));
  return colours;
}

// From y^ of the first layer to that of another: the means are the same.
void TileReader::refine(const std::vector<std::int16_t>& symbols, const std::vector<std::int16_t>& first, int layer, Tensor& decoded) const {
  const int channels = bundle_.channels(), last = stream_.header().layers - 1;
  const float scale = 1.0f / static_cast<float>(1 << layer);
  std::size_t at = 0;
  for (int y = 0; y < decoded.height(); ++y)
    for (int x = 0; x < decoded.width(); ++x) {
      float* to = decoded.at(y, x);
      for (int c = 0; c < channels; ++c, ++at)
        to[c] += (value_in_layer(symbols[at], last - layer) * scale - value_in_layer(first[at], last)) * steps_[c];
    }
}

// What the mean network makes of z^, cut to the positions that it is shown.
Tensor TileReader::base(const Network& network, const std::vector<std::int16_t>& z, Size size, const Margins& m) const {
  const int rows = size.z_height(), columns = size.z_width(), channels = models_[0].network->hyper_latents();
  Tensor in = bundle_.mean_base().input("z_hat", rows + m.top + m.bottom, columns + m.left + m.right);
  for (int y = 0; y < in.height(); ++y)
    for (int x = 0; x < in.width(); ++x) {
      const std::size_t at = static_cast<std::size_t>(mirrored(y - m.top, rows)) * columns + mirrored(x - m.left, columns);
      std::copy_n(z.data() + at * channels, channels, in.at(y, x));
    }
  const Tensor whole = bundle_.mean_base().run({{"z_hat", in}}, {{"hat", hat_}});
  // z^ covers two positions each: of its margin, only the inner half is needed.
  Tensor cut = network.input("base", size.height + m.top + m.bottom, size.width + m.left + m.right);
  const auto same = [](int i) { return i; };
  copy_from(whole, cut, m.top, m.left, same, same);
  return cut;
}

Tensor TileReader::mean(const Network& network, const Tensor& decoded, const Tensor& base, int phase, const Margins& m) const {
  std::vector<float> one_hot(kPhases);
  if (phase < kPhases) one_hot[phase] = 1;
  const auto run = [&](const Tensor& known) {
    return network.run({{"known", known}, {"base", base}}, {{"phase", one_hot}, {"hat", hat_}});
  };
  if (!m.any()) return run(decoded);
  Tensor known = network.input("known", base.height(), base.width());
  copy_from(
      decoded, known, -m.top, -m.left, [&](int y) { return reflected(y, decoded.height()); }, [&](int x) { return reflected(x, decoded.width()); });
  return run(known);
}

// mean + value * step for the latents of one phase.
void TileReader::place(int phase, const std::vector<std::int16_t>& symbols, const std::vector<float>& steps, const Tensor& mean, const Margins& m, Tensor& decoded) const {
  const int channels = decoded.channels(), group = channels / kPhases;
  const bool fine = models_[0].trellis->dependent();
  const Staircase staircase{0, levels_};
  const float unit = fine ? 0.5f : 1.0f;
  for (int y = 0; y < decoded.height(); ++y)
    for (int x = 0; x < decoded.width(); ++x) {
      const int first = channel_group(y, x, phase) * group;
      const std::int16_t* symbol = symbols.data() + (static_cast<std::size_t>(y) * decoded.width() + x) * channels + first;
      const float* of_mean = mean.at(y + m.top, x + m.left) + first;
      const float* step = steps.data() + first;
      float* to = decoded.at(y, x) + first;
      if (levels_.empty())
        for (int c = 0; c < group; ++c) to[c] = of_mean[c] + unit * static_cast<float>(symbol[c]) * step[c];
      else
        for (int c = 0; c < group; ++c) to[c] = of_mean[c] + value_of(symbol[c], fine, staircase) * step[c];
    }
}

}  // namespace softstair
