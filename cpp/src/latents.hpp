// SPDX-License-Identifier: Apache-2.0
// The entropy-coded part of a tile: z, then y in four phases, in one rANS stream.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

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

// Reads the symbols of a tile phase by phase: networks work on what was read while the next is.
class TileDecoder {
 public:
  // Reads z. Bytes are copied; the model must outlive this.
  TileDecoder(const Model& model, Size size, std::span<const std::uint8_t> bytes);
  TileDecoder(const TileDecoder&) = delete;
  TileDecoder& operator=(const TileDecoder&) = delete;

  // Read the next phase; with the last, the stream must end. After a fault nothing is read.
  // Throws std::invalid_argument if there is no further phase.
  void read_phase();

  Fault fault() const { return fault_; }
  Size size() const { return size_; }
  std::size_t channels() const { return static_cast<std::size_t>(model_.network->latents()); }
  std::size_t z_channels() const { return static_cast<std::size_t>(model_.network->hyper_latents()); }
  // z, and y where it was read; zeros elsewhere. y stays in its place.
  const Symbols& symbols() const { return symbols_; }
  Symbols take() && { return std::move(symbols_); }

 private:
  template <bool kDependent>
  Fault read_levels();

  const Model& model_;
  Size size_;
  std::vector<std::uint8_t> bytes_;
  Decoder decoder_;
  Symbols symbols_;
  Fault fault_;
  std::optional<ScaleField> field_;  // from the first phase to the last
  int phase_ = 0;
};

// Encodes while the latents are being decided: the means of a phase depend on the symbols of the
// earlier ones, so a caller asks for the rows of a phase, decides its symbols, puts them, goes on.
class TileEncoder {
 public:
  // z is copied. Throws std::invalid_argument if a symbol of z is out of [-32767, 32767].
  TileEncoder(std::shared_ptr<const Model> model, Size size, std::span<const std::int16_t> z);

  Size size() const { return size_; }
  int channels() const { return model_->network->latents(); }

  // Table rows of the next phase, (height, width, C / 4); kSkipped where nothing is coded.
  const std::vector<std::int16_t>& begin_phase();

  // Quantize the phase begun: `search` on (y - mean) * gain, in steps. decoded receives mean +
  // value / gain. All (C, height, width), gain (C). Other phases are left alone.
  void quantize(const float* y, const float* mean, const float* gain, const Staircase& staircase,
                float* decoded);

  // Or put symbols decided elsewhere, (height, width, C); where nothing is coded, zero is taken.
  // Throws std::invalid_argument if the trellis cannot reach one of them.
  void put(const std::int16_t* symbols);

  std::vector<std::uint8_t> finish() const;
  // What the tables alone would charge, in bits: (z, y).
  std::pair<double, double> cross_entropy() const;
  const std::vector<std::int16_t>& symbols() const { return y_; }
  // Table rows and levels of all coded latents of y so far, in coding order.
  std::pair<std::vector<std::int16_t>, std::vector<std::int16_t>> coded() const;

 private:
  struct Coded {
    std::int16_t row, level;
  };
  void list_coded();
  void end_phase();
  template <bool kDependent>
  void decide();

  std::shared_ptr<const Model> model_;
  Size size_;
  std::vector<std::int16_t> z_, y_;
  // Of the phase begun, (height, width, channels / 4).
  std::vector<std::int16_t> rows_, decided_;
  std::vector<std::uint8_t> magnitudes_;
  ScaleField field_;
  int phase_ = -1;
  // Of the phase begun: its coded latents, as places in rows_, and what `search` takes and gives.
  std::vector<std::int32_t> places_;
  std::vector<std::int16_t> searched_rows_, levels_;
  std::vector<float> residual_, searched_residual_;
  std::vector<Coded> coded_[kPhases];
};

// mean + value * step for the latents of one phase. symbols (height, width, C); mean and decoded
// (C, height, width); step (C) = 1 / gain. fine: symbols are indices on the fine grid.
void reconstruct_phase(int phase, Size size, int channels, const std::int16_t* symbols, bool fine,
                       const Staircase& staircase, const float* mean, const float* step,
                       float* decoded);

}  // namespace softstair
