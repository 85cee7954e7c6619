// SPDX-License-Identifier: Apache-2.0
#include "picture.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <new>

#include "checksums.hpp"
#include "pixels.hpp"
#include "presence.hpp"
#include "tile_reader.hpp"
#include "vp8l.hpp"

namespace softstair {
namespace {

constexpr int kLargestWindow = 8;  // layout of the windows that the synthesis runs on
constexpr int kFurthest = 15;      // cells that a synthesis may see

// Throws unless the bundle is the stream's, or the stream shows that it needs none.
void check_bundle(const Bundle* bundle, const Stream& stream) {
  const Header& header = stream.header();
  if (!stream.needs_bundle()) {
    for (int index = 0; index < stream.grid().count(); ++index)
      require(stream.exact(index), STAIR_CORRUPT, "The stream has learned tiles, but names no bundle.");
    return;
  }
  const bool right = bundle != nullptr && bundle->fingerprint() == header.fingerprint;
  if (!right && header.base != Fingerprint{})
    fail_with(STAIR_WRONG_BUNDLE, "The stream was made with pack " + hexadecimal(header.fingerprint) + " of bundle " +
                                      hexadecimal(header.base) + "; it needs the bundle that softstair pack flatten makes of them.");
  if (!right)
    fail_with(STAIR_WRONG_BUNDLE, "The stream was made with bundle " + hexadecimal(header.fingerprint) +
                                      (bundle == nullptr ? ", which is not there." : ", not with bundle " + hexadecimal(bundle->fingerprint()) + "."));
  const int finest = header.position + kPositionsPerLayer * (header.layers - 1);
  if (finest > bundle->last_position())
    fail_with(STAIR_CORRUPT, "Rate position " + decimal(finest) + " is beyond the bundle's last, " +
                                 decimal(bundle->last_position()) + ".");
  if (!bundle->has_mode(header.mode)) fail_with(STAIR_CORRUPT, std::string("The bundle has no mode ") + kModes[header.mode] + ".");
}

// Latents of a picture, of which only the tiles in use are held.
class LatentPlane {
 public:
  // icons: holds what the reader's icon makes of tiles instead.
  LatentPlane(const TileGrid& grid, const TileReader& reader, Presence& presence, bool icons) : grid_(grid), reader_(reader), presence_(presence), icons_(icons), tiles_(grid.count()) {}

  // fetched(): called after every tile that was decoded.
  template <typename Fetched>
  void prepare(const Box& cells, Fetched fetched) {
    for (const int index : grid_.meeting(cells.times(kStride)))
      if (tiles_[index].empty()) {
        tiles_[index] = latents(index);
        fetched();
      }
  }
  void drop_above(int row) {
    for (int index = 0; index < grid_.count() && cells_of(index).bottom <= row; ++index) tiles_[index] = Tensor();
  }
  void window(const Box& cells, Tensor& to) const {
    for (const int index : grid_.meeting(cells.times(kStride))) {
      const Box tile = cells_of(index), common = tile.within(cells), from = common.seen_from(tile), at = common.seen_from(cells);
      const Tensor& source = tiles_[index];
      for (int y = 0; y < common.rows(); ++y)
        std::copy_n(source.at(from.top + y, from.left), static_cast<std::size_t>(common.columns()) * to.channels(), to.at(at.top + y, at.left));
    }
  }

 private:
  Box cells_of(int index) const { return grid_.box(index).cells(kStride); }

  Tensor latents(int index) {
    if (icons_) return reader_.icon(index);
    if (!presence_.partial()) return reader_.latents(index);
    if (presence_.cut_rows(index) > 0) return reader_.latents_begun(index);
    std::optional<Tensor> latents;
    if (!presence_.missing(index) && !(latents = reader_.latents_if_whole(index))) presence_.miss_damaged(index);
    return latents ? std::move(*latents) : reader_.no_latents(index);
  }

  const TileGrid& grid_;
  const TileReader& reader_;
  Presence& presence_;
  bool icons_;
  std::vector<Tensor> tiles_;
};

// Pixels of a picture that are coded exactly, of which only the tiles in use are held.
class ExactPlane {
 public:
  ExactPlane(const Stream& stream, const Presence& presence) : stream_(stream), presence_(presence), tiles_(stream.grid().count()) {}

  // Whether any pixel of a box is a learned one, as far as payloads say.
  bool leaves_any(const Box& box) const {
    for (const int index : stream_.grid().meeting(box))
      if (!stream_.exact(index) || (!presence_.missing(index) && !stream_.exact_payload(index).learned.empty())) return true;
    return false;
  }
  void drop_above(int row) {
    for (int index = 0; index < stream_.grid().count() && stream_.grid().box(index).bottom <= row; ++index) tiles_[index] = {};
  }
  // Over the pixels of a box, (rows, columns, colours).
  void put(const Box& box, int colours, std::vector<std::uint8_t>& pixels) {
    for (const int index : stream_.grid().meeting(box)) {
      if (!stream_.exact(index) || presence_.missing(index)) continue;
      const std::vector<std::uint32_t>& image = this->image(index);
      const Box tile = stream_.grid().box(index), common = tile.within(box), from = common.seen_from(tile), at = common.seen_from(box);
      for (int y = 0; y < common.rows(); ++y) {
        const std::uint32_t* source = image.data() + static_cast<std::size_t>(from.top + y) * tile.columns() + from.left;
        std::uint8_t* to = pixels.data() + (static_cast<std::size_t>(at.top + y) * box.columns() + at.left) * colours;
        for (int x = 0; x < common.columns(); ++x, to += colours)
          if (const std::uint32_t pixel = source[x]; pixel >> 24 != 0)
            for (int c = 0; c < colours; ++c) to[c] = static_cast<std::uint8_t>(pixel >> (colours == 1 ? 8 : 16 - 8 * c));
      }
    }
  }

 private:
  const std::vector<std::uint32_t>& image(int index) {
    if (!tiles_[index].empty()) return tiles_[index];
    const std::string name = "image of tile " + decimal(index);
    const ExactPayload payload = stream_.exact_payload(index);
    if (!stream_.needs_bundle() && !payload.learned.empty())
      fail_with(STAIR_CORRUPT, "The stream has a learned part in tile " + decimal(index) + ", but names no bundle.");
    const Box box = stream_.grid().box(index);
    std::vector<std::uint32_t> image = decode_vp8l(payload.image, box.rows(), box.columns(), name);
    for (const std::uint32_t pixel : image)
      if (pixel >> 24 != 255 && (pixel >> 24 != 0 || payload.learned.empty()))
        fail_with(STAIR_CORRUPT, "The " + name + " has pixels that are neither exact nor learned.");
    return tiles_[index] = std::move(image);
  }

  const Stream& stream_;
  const Presence& presence_;
  std::vector<std::vector<std::uint32_t>> tiles_;
};

// Means of blocks of divisor x divisor samples, of what there is at the right and the bottom.
std::vector<std::uint8_t> reduced(const std::vector<std::uint8_t>& plane, int height, int width, int channels, int divisor) {
  if (divisor == 1) return plane;
  const int rows = (height + divisor - 1) / divisor, columns = (width + divisor - 1) / divisor;
  std::vector<std::uint8_t> result(static_cast<std::size_t>(rows) * columns * channels);
  std::vector<std::uint32_t> sums(static_cast<std::size_t>(columns) * channels);
  for (int row = 0; row < rows; ++row) {
    const int first = row * divisor, last = std::min(height, first + divisor);
    std::fill(sums.begin(), sums.end(), 0);
    for (int y = first; y < last; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < channels; ++c)
          sums[static_cast<std::size_t>(x / divisor) * channels + c] += plane[(static_cast<std::size_t>(y) * width + x) * channels + c];
    for (int x = 0; x < columns; ++x) {
      const auto area = static_cast<std::uint32_t>((last - first) * (std::min(width, (x + 1) * divisor) - x * divisor));
      for (int c = 0; c < channels; ++c)
        result[(static_cast<std::size_t>(row) * columns + x) * channels + c] =
            static_cast<std::uint8_t>((sums[static_cast<std::size_t>(x) * channels + c] + area / 2) / area);
    }
  }
  return result;
}

class Painter {
 public:
  Painter(const Bundle* bundle, const Stream& stream, const View& view, int channels, const Limits& limits,
          const std::function<bool(double)>& progress)
      : bundle_(bundle), stream_(stream), divisor_(view.divisor), wanted_(channels), limits_(limits), progress_(progress), whole_(stream.grid().whole()), presence_(stream, view.partial), exact_(stream, presence_) {
    region_ = view.region.value_or(whole_);
    if (region_.rows() < 1 || region_.columns() < 1 || !(region_.meets(whole_) && region_.within(whole_) == region_))
      fail_with(STAIR_USAGE, "The region is not inside the picture of " + decimal(whole_.right) + "x" + decimal(whole_.bottom) + " pixels.");
    region_ = region_.cells(divisor_).times(divisor_).within(whole_);
    if (!stream.needs_bundle()) return;
    synthesis_ = &bundle->synthesis(stream.header().mode);
    if (stream.exact_tiles() == 0 && !view.partial) {
      if (divisor_ >= kIconDivisor && bundle->icon() != nullptr) {
        made_ = kStride;
        return;
      }
      if (divisor_ >= kPreviewDivisor && bundle->preview() != nullptr) {
        synthesis_ = bundle->preview();
        made_ = kPreviewDivisor;
      }
    }
    reach_ = synthesis_->reach();
    if (reach_ > kFurthest) fail_bundle("The synthesis of the bundle sees further than large pictures can be cut with.");
    if (smoothing() > 0) reach_ = std::max(reach_, 1);  // its two pixels need no cell of their own
  }

  Picture paint() {
    const Header& header = stream_.header();
    const int window = plan();
    const TileGrid windows(header.height, header.width, window);
    const Box all = whole_.cells(kStride);
    const Box seen = windows.count() == 1 && region_ == whole_ ? all : region_.cells(kStride).grown(reach_, all);
    const std::vector<int> needed = stream_.grid().meeting(seen.times(kStride));
    if (synthesis_ != nullptr) {
      reader_.emplace(*bundle_, stream_);
      plane_.emplace(stream_.grid(), *reader_, presence_, is_icon());
    }
    presence_.check(needed, [&](int index) { return reader_ ? reader_->rows_begun(index) : 0; });
    const bool whole_extras = !presence_.partial() || stream_.has_whole_extras();
    alpha_ = stream_.has_alpha() && whole_extras;
    start(seen);
    for (int row = 0; row < windows.rows(); ++row) paint_row(windows, row);
    if (alpha_) add_alpha();
    picture_.damage = presence_.damage(whole_extras);
    return std::move(picture_);
  }

 private:
  bool is_icon() const { return made_ == kStride; }
  // Of pixels; means of them need none.
  int smoothing() const { return made_ == 1 ? stream_.header().smoothing : 0; }
  int colours() const { return stream_.header().grey && wanted_ == 0 ? 1 : 3; }

  // The largest windows whose work fits into the memory.
  int plan() const {
    const Box shown = region_.cells(divisor_), largest = stream_.grid().largest();
    const auto area = [](const Box& box) { return static_cast<std::uint64_t>(box.rows()) * box.columns(); };
    std::uint64_t fixed = 4 * area(shown) + (stream_.has_alpha() ? 2 * area(whole_) : 0);
    if (stream_.exact_tiles() > 0) fixed += 2 * sizeof(std::uint32_t) * area(largest) * (stream_.grid().columns() + 1);
    std::uint64_t least = 0;
    for (int window = kLargestWindow; window >= 1; window /= 2) {
      const int side = window * kUnit + 2 * reach_ * kStride;
      const Box run{0, 0, std::min(side, whole_.bottom), std::min(side, whole_.right)};
      least = fixed + 8 * area(run) + (synthesis_ == nullptr ? 0 : learned_bytes(run, largest));
      least += least / 8;  // what lies between blocks of memory, and the bundle
      if (least <= limits_.max_memory) return window;
    }
    fail_with(STAIR_LIMIT, "The picture of " + decimal(whole_.right) + "x" + decimal(whole_.bottom) + " pixels needs about " +
                               decimal(least / 1000000) + " MB of memory, more than the limit of " +
                               decimal(limits_.max_memory / 1000000) + " MB; raise the limit.");
  }

  // What latents and networks take: y^ of a row of windows, and a tile or a window at work.
  std::uint64_t learned_bytes(const Box& run, const Box& largest) const {
    const std::uint64_t channels = bundle_->channels();
    const auto cells = [](int rows, int columns) { return static_cast<std::uint64_t>(rows / kStride + 1) * (columns / kStride + 1); };
    const std::uint64_t held = sizeof(float) * channels *
                               cells(std::min(whole_.bottom, run.rows() + 2 * largest.rows()), std::min(whole_.right, region_.columns() + 2 * largest.columns()));
    const int rows = largest.rows() / kStride + 1 + 2 * kMirrored, columns = largest.columns() / kStride + 1 + 2 * kMirrored;
    const std::uint64_t tile = kSymbolBytes * channels * rows * columns + bundle_->mean().peak_bytes(rows, columns);
    const Box run_cells = run.cells(kStride);
    return held + std::max<std::uint64_t>(tile, synthesis_->peak_bytes(run_cells.rows(), run_cells.columns()));
  }

  void start(const Box& seen) {
    const Box shown = region_.cells(divisor_);
    picture_.width = shown.columns();
    picture_.height = shown.rows();
    picture_.channels = wanted_ == 4 ? 4 : colours() + (alpha_ ? 1 : 0);
    // Decoding a tile takes about as long as its part of the synthesis.
    total_ = static_cast<double>(stream_.grid().meeting(seen.times(kStride)).size()) * area(stream_.grid().largest()) + area(region_);
  }
  static double area(const Box& box) { return static_cast<double>(box.rows()) * box.columns(); }
  void advance(double work) {
    done_ += work;
    if (progress_ && progress_(std::min(1.0, done_ / total_))) fail_with(STAIR_STOPPED, "Decoding was stopped.");
  }

  void paint_row(const TileGrid& windows, int row) {
    std::vector<Box> cores;
    for (int column = 0; column < windows.columns(); ++column)
      if (const Box box = windows.box(row * windows.columns() + column); box.meets(region_)) cores.push_back(box.within(region_));
    if (cores.empty()) return;
    const Box all = whole_.cells(kStride);
    std::vector<Box> seen;
    for (const Box& core : cores) seen.push_back(windows.count() == 1 && core == whole_ ? all : core.cells(kStride).grown(reach_, all));
    exact_.drop_above(cores.front().top);
    if (plane_) plane_->drop_above(seen.front().top);
    for (std::size_t i = 0; i < cores.size(); ++i) {
      const int colours = stream_.header().grey ? 1 : 3;
      std::vector<std::uint8_t> window;
      if (presence_.any_known(seen[i].times(kStride).within(whole_)) && exact_.leaves_any(cores[i])) {
        require(plane_.has_value(), STAIR_CORRUPT, "The stream has a learned part, but names no bundle.");
        plane_->prepare(seen[i], [&] { advance(area(stream_.grid().largest())); });
        window = synthesised(cores[i], seen[i]);
      } else {
        window.resize(static_cast<std::size_t>(cores[i].rows()) * cores[i].columns() * colours);
      }
      if (made_ == 1) {  // else all is learned and there
        exact_.put(cores[i], colours, window);
        presence_.paint_unread(cores[i], colours, window);
      }
      put(window, cores[i]);
      advance(area(cores[i]));
    }
  }

  // Pixels of a window, or their means as the network makes them: (rows, columns, 3), or of a grey picture (rows, columns).
  std::vector<std::uint8_t> synthesised(const Box& core, const Box& seen) const {
    Tensor planes;
    if (is_icon()) {
      planes = Tensor(seen.rows(), seen.columns(), 3, 0);
      plane_->window(seen, planes);
    } else {
      Tensor latents = synthesis_->input("latents", seen.rows(), seen.columns());
      plane_->window(seen, latents);
      planes = synthesis_->run({{"latents", latents}}, {{"hat", reader_->hat()}});
    }
    const Box from = core.cells(made_).seen_from(seen.times(kStride / made_));
    std::vector<std::uint8_t> window(static_cast<std::size_t>(from.rows()) * from.columns() * 3);
    to_pixels({planes.row(0), planes.height(), planes.width(), planes.pitch(), 3, 1},
              {from.top, from.left, from.rows(), from.columns()}, smoothing(), window.data());
    if (!stream_.header().grey) return window;
    for (std::size_t i = 0; 3 * i < window.size(); ++i) {  // a third is never a half
      const std::uint8_t* colours = window.data() + 3 * i;
      window[i] = static_cast<std::uint8_t>((2 * (colours[0] + colours[1] + colours[2]) + 3) / 6);
    }
    window.resize(window.size() / 3);
    return window;
  }

  // Pixels of a window, reduced, to their place.
  void put(const std::vector<std::uint8_t>& pixels, const Box& core) {
    // Memory for the picture is taken when the first window has proved that it is there.
    if (!picture_.pixels) {
      const std::size_t size = static_cast<std::size_t>(picture_.width) * picture_.height * picture_.channels;
      picture_.pixels.reset(static_cast<std::uint8_t*>(std::malloc(size)));
      if (!picture_.pixels) out_of_memory();
      std::fill_n(picture_.pixels.get(), size, 255);
    }
    const bool grey = stream_.header().grey;
    const int colours = grey ? 1 : 3;
    const Box shown = core.cells(divisor_).seen_from(region_.cells(divisor_));
    const Box made = core.cells(made_);
    const std::vector<std::uint8_t> window = reduced(pixels, made.rows(), made.columns(), colours, divisor_ / made_);
    const std::uint8_t* source = window.data();
    for (int y = shown.top; y < shown.bottom; ++y) {
      std::uint8_t* pixel = picture_.pixels.get() + (static_cast<std::size_t>(y) * picture_.width + shown.left) * picture_.channels;
      for (int x = shown.left; x < shown.right; ++x, pixel += picture_.channels, source += colours)
        for (int c = 0; c < this->colours(); ++c) pixel[c] = source[grey ? 0 : c];
    }
  }

  void add_alpha() {
    std::vector<std::uint8_t> plane = stream_.alpha(), part;
    if (region_ != whole_) {
      for (int y = region_.top; y < region_.bottom; ++y) {
        const auto row = plane.begin() + static_cast<std::ptrdiff_t>(y) * whole_.right;
        part.insert(part.end(), row + region_.left, row + region_.right);
      }
      plane = std::move(part);
    }
    plane = reduced(plane, region_.rows(), region_.columns(), 1, divisor_);
    for (std::size_t i = 0; i < plane.size(); ++i) picture_.pixels.get()[(i + 1) * picture_.channels - 1] = plane[i];
  }

  const Bundle* bundle_;
  const Stream& stream_;
  const Network* synthesis_ = nullptr;  // or the preview; none if the stream needs no bundle
  int divisor_, wanted_, reach_ = 0, made_ = 1;  // made_: the divisor of what the network makes
  Limits limits_;
  const std::function<bool(double)>& progress_;
  Box whole_, region_;
  bool alpha_ = false;
  Presence presence_;
  std::optional<TileReader> reader_;
  std::optional<LatentPlane> plane_;
  ExactPlane exact_;
  Picture picture_;
  double done_ = 0, total_ = 1;
};

}  // namespace

Picture decode(const Bundle* bundle, const Stream& stream, const View& view, int channels, const Limits& limits,
               const std::function<bool(double)>& progress) {
  check_bundle(bundle, stream);
  if (!view.partial) stream.check_extras();
  return Painter(bundle, stream, view, channels, limits, progress).paint();
}

std::array<std::uint8_t, 32> symbol_hash(const Bundle* bundle, const Stream& stream) {
  check_bundle(bundle, stream);
  Sha256 digest;
  if (!stream.needs_bundle()) return digest.finish();
  const TileReader reader(*bundle, stream);
  for (int index = 0; index < stream.grid().count(); ++index) {
    if (stream.exact(index) && stream.learned(index).empty()) continue;
    const Symbols symbols = reader.symbols(index);
    for (const auto* values : {&symbols.z, &symbols.y})
      if constexpr (std::endian::native == std::endian::little)
        digest.add({reinterpret_cast<const std::uint8_t*>(values->data()), 2 * values->size()});
      else
        for (const std::int16_t value : *values)
          digest.add(std::array{static_cast<std::uint8_t>(value), static_cast<std::uint8_t>(value >> 8)});
  }
  return digest.finish();
}

}  // namespace softstair
