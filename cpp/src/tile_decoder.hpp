// SPDX-License-Identifier: Apache-2.0
// The entropy-coded part of a tile, z, then y in four phases, in one rANS stream: reading it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "context.hpp"
#include "rans.hpp"
#include "scale_network.hpp"
#include "tables.hpp"
#include "trellis.hpp"

namespace softstair {

// Everything that decides how the symbols of one rate position are read.
struct Model {
  std::shared_ptr<const ScaleNetwork> network;
  std::shared_ptr<const Tables> z_tables;  // a row for every channel of z
  const Trellis* trellis;                  // one state: scalar quantization
  std::shared_ptr<const Tables> y_tables;  // a row for every scale; of a trellis, two: see search
  RowRule rule;
  std::vector<std::int32_t> rate_bias;  // of the scale network's first layer
  std::vector<std::int32_t> exponent;   // d + e_c: log2 of the gain of every channel, 1/32 octave
  // Context networks, of bundles that have them, or null.
  std::shared_ptr<const PlaceNetwork> place = nullptr;
  std::shared_ptr<const HyperNetwork> hyper = nullptr;
  std::vector<std::int32_t> hyper_rate = {};  // the bias of the latter that depends on the rate
  std::shared_ptr<const SignNetwork> signs = nullptr;  // beside that of a place
  std::shared_ptr<const Tables> leaning = nullptr;     // y_tables for every lean of signs

  // Tables that symbols of y are read with, and how many of them a row has.
  const Tables& read_tables() const { return signs ? *leaning : *y_tables; }
  int leans() const { return signs ? signs->leans() + 1 : 1; }
  // Bits that z of a place costs at the least.
  double least_hyper_bits() const;
  // Throws std::invalid_argument if the parts do not fit each other.
  void check() const;
};

struct Size {
  int height, width;  // of y; z has half of it, rounded up

  int z_height() const { return (height + 1) / 2; }
  int z_width() const { return (width + 1) / 2; }
};

// Symbols of a tile: z (z_height, z_width, Z) and y (height, width, C). Those of y are levels, of a
// trellis indices on the fine grid, in half steps.
struct Symbols {
  std::vector<std::int16_t> z, y;
};

// Lanes are a fixed rule of the size: short streams cannot pay for four states.
inline int lanes_for(Size size) {
  return static_cast<std::int64_t>(size.height) * size.width >= 256 ? 4 : 1;
}

struct Decoded {
  Symbols symbols;
  Fault fault = Fault::none;
};

Decoded decode_symbols(const Model& model, Size size, std::span<const std::uint8_t> bytes);

// Where a phase is read: how many of its latents were, and the state of every lane's trellis.
struct Place {
  std::size_t rank = 0;
  int state[kMaxLanes] = {};
};

// Reads the symbols of a tile phase by phase: networks work on what was read while the next is.
//
// Of a tile whose bytes arrive one after the other, or end early, lines of positions are read as far as
// the bytes hold whole ones. No byte after them is guessed at; but what was read has been checked by
// nothing, and damage may go unnoticed.
class TileDecoder {
 public:
  // Reads z. Bytes are copied; the model must outlive this. layered: others may follow this layer.
  TileDecoder(const Model& model, Size size, std::span<const std::uint8_t> bytes, bool layered = false);
  // Has no bytes yet, see `append`.
  TileDecoder(const Model& model, Size size) : model_(model), size_(size), growing_(true) {}
  TileDecoder(const TileDecoder&) = delete;
  TileDecoder& operator=(const TileDecoder&) = delete;

  // Read the next phase; with the last, the stream must end. After a fault nothing is read.
  // Throws std::invalid_argument if there is no further phase.
  void read_phase();

  // More of the bytes: reads on as far as they reach. The fault is never that they are too few.
  // Throws std::invalid_argument if all bytes were given at the beginning.
  void append(std::span<const std::uint8_t> bytes);

  Fault fault() const { return fault_; }
  // Of the bytes, how many the symbols read so far need.
  std::size_t bytes_read() const { return decoder_ ? decoder_->position() : 0; }
  Size size() const { return size_; }
  std::size_t channels() const { return static_cast<std::size_t>(model_.network->latents()); }
  std::size_t z_channels() const { return static_cast<std::size_t>(model_.network->hyper_latents()); }
  // Lines that were read: of z, and of y, where those of a phase follow those of the one before.
  int z_lines() const { return z_lines_; }
  int y_lines() const { return phase_ * size_.height + line_; }
  // z, as many lines as were read, and y, zero where it was not; empty before all of z was read, from
  // when on it stays in its place.
  const Symbols& symbols() const { return symbols_; }
  Symbols take() && { return std::move(symbols_); }

 private:
  Fault read_z();
  Fault read_z_line(std::size_t start);
  Fault read_levels();
  // True if a fault is only that bytes are to come.
  bool waits() const { return growing_ && decoder_->fault() == Fault::truncated; }
  bool has_z() const { return z_lines_ == size_.z_height(); }

  const Model& model_;
  Size size_;
  bool growing_, layered_ = false;
  std::vector<std::uint8_t> bytes_;
  std::optional<Decoder> decoder_;  // from when there are bytes to begin with
  Symbols symbols_;
  Fault fault_ = Fault::none;
  std::optional<ScaleField> field_;  // from the first phase to the last
  std::optional<PlaceField> context_;  // the same, if the model has one
  int z_lines_ = 0, begun_ = 0, phase_ = 0, line_ = 0;
  Place place_;
};

// Where a symbol lies, in steps. fine: it is an index on the fine grid.
inline float value_of(int symbol, bool fine, const Staircase& staircase) {
  if (fine) return symbol < 0 ? -staircase.value(-symbol) : staircase.value(symbol);
  if (staircase.grid.empty()) return static_cast<float>(symbol);
  return symbol < 0 ? -staircase.value(-2 * symbol) : staircase.value(2 * symbol);
}

// Numbers at the places of a class: that of the first channel and place, and how far apart others are.
struct MeansAt {
  const float* first;
  std::ptrdiff_t channel, row, column;
};
// By class: places of even rows and columns, odd columns, odd rows, both odd. The channels are those of the phase.
using MeansOfPhase = std::array<MeansAt, kPhases>;

// mean + value * step for the latents of one phase. symbols (height, width, C); decoded (C, height, width), where
// means may lie already; step (C) = 1 / gain. fine: symbols are indices on the fine grid.
void reconstruct_phase(int phase, Size size, int channels, const std::int16_t* symbols, bool fine,
                       const Staircase& staircase, const MeansOfPhase& means, const float* step,
                       float* decoded);
// The same with the means of all latents, (C, height, width).
void reconstruct_phase(int phase, Size size, int channels, const std::int16_t* symbols, bool fine,
                       const Staircase& staircase, const float* mean, const float* step,
                       float* decoded);

// Add to sums (channels, height, width) what there is of every place, of all channels.
void add_to_places(const MeansOfPhase& parts, int channels, Size size, float* sums);

}  // namespace softstair
