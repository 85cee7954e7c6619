// SPDX-License-Identifier: Apache-2.0
// The entropy-coded part of a tile: deciding its symbols and writing it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tile_decoder.hpp"

namespace softstair {

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
  // value / gain. All (C, height, width), gain (C). Other phases are left alone. with_context: the search
  // counts bits by rows as the context of a place will correct them, as far as that can be foreseen.
  void quantize(const float* y, const float* mean, const float* gain, const Staircase& staircase,
                float* decoded, bool with_context = false);

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
    std::int16_t row, level, lean = 0;  // see PlaceField::lean
  };
  // Of the tables that a reader has: the row, and the level that it finds there.
  std::pair<int, int> as_read(const Coded& coded) const;
  void find_z_rows();
  const Tables& z_tables(std::size_t i) const;
  void list_coded();
  void guess_rows();
  template <typename Action>
  void walk(PlaceField& field, const Action& action) const;
  void end_phase();
  template <bool kDependent>
  void decide();
  template <bool kDependent>
  void correct();

  std::shared_ptr<const Model> model_;
  Size size_;
  std::vector<std::int16_t> z_, y_;
  std::vector<Coded> coded_z_;
  // Of the phase begun, (height, width, channels / 4).
  std::vector<std::int16_t> rows_, decided_;
  std::vector<std::uint8_t> magnitudes_;
  ScaleField field_;
  std::optional<PlaceField> context_;  // if the model has one
  int phase_ = -1;
  // Of the phase begun: its coded latents, as places in rows_, and what `search` takes and gives.
  std::vector<std::int32_t> places_;
  std::vector<std::int16_t> searched_rows_, levels_;
  std::vector<float> residual_, searched_residual_;
  std::vector<Coded> coded_[kPhases];
};

}  // namespace softstair
