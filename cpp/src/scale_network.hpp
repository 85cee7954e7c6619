// SPDX-License-Identifier: Apache-2.0
// The scale network: z^ and magnitudes of earlier symbols to a table row for every latent, in
// integers. Grids and order of operations are those of docs/format/scale-network.md.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "layers.hpp"

namespace softstair {

constexpr int kPhases = 4;
constexpr int kReach = 2, kSide = 2 * kReach + 1;  // of the neighbourhood of magnitudes

// Which of the four channel groups a position codes in a phase.
inline int channel_group(int y, int x, int phase) {
  constexpr int kClass[2][2] = {{0, 2}, {3, 1}};
  return phase ^ kClass[y & 1][x & 1];
}

// Weights shared by all pictures. Immutable.
class ScaleNetwork {
 public:
  using Layers = std::map<std::string, Weights>;

  // phase_bias: (4, width) in 2^-9. Throws std::invalid_argument if a layer is missing, has
  // the wrong shape or could overflow. simd: use vector kernels where available.
  ScaleNetwork(const Layers& layers, const std::vector<std::int32_t>& phase_bias, bool simd);

  int latents() const { return latents_; }
  int hyper_latents() const { return hyper_latents_; }
  int hyper_width() const { return hyper_width_; }
  int width() const { return width_; }
  bool simd() const { return simd_; }

 private:
  friend class ScaleField;
  void read_widths(const Layers& layers);
  void add_layers(const Layers& layers, bool simd);
  void find_starts(const std::vector<std::int32_t>& phase_bias);

  bool simd_;
  int latents_, hyper_latents_, hyper_width_, width_;
  Matrix hyper_, mix_, log_scale_head_, log_scale_entry_, gather_, widen_;
  std::array<Matrix, 4> expand_;                   // one for every position of a 2x2 block
  std::array<Matrix, kPhases> correction_head_;    // one for every channel group
  Depthwise neighbours_, local_;
  std::array<std::vector<std::int32_t>, kPhases> phase_start_;  // bias of gather_ and of the phase
  std::vector<std::int32_t> first_start_;  // what gather_ comes to in the first phase
};

// How a log-scale becomes a table row: (s + d + e_c + t - base) >> 2, cut off above at rows - 1;
// below `skip` nothing is coded.
struct RowRule {
  int base, skip, rows;

  // Without branches, so that whole lines can be done at once.
  std::int16_t row(int scale) const {
    const int row = (scale - base) >> 2;
    const int inside = std::min(std::max(row, 0), rows - 1);
    return static_cast<std::int16_t>(row < skip ? kSkipped : inside);
  }
};

// The scale network's view of one tile: fills in as phases are decoded.
class ScaleField {
 public:
  // z: (ceil(height / 2), ceil(width / 2), Z). rate_bias: hyper_width values in 2^-9. exponent:
  // d + e_c for every channel.
  ScaleField(std::shared_ptr<const ScaleNetwork> network, const std::int16_t* z, int height,
             int width, const std::int32_t* rate_bias, const std::int32_t* exponent);

  int height() const { return height_; }
  int width() const { return width_; }
  int channels() const { return network_->latents(); }
  int group() const { return channels() / kPhases; }

  // Prepare a phase. Magnitudes of all earlier phases must be known, others still zero.
  void begin_phase(int phase);
  // The same where magnitudes of all phases are known, if only coarsely: each is done as if it were the last.
  void begin_refining(int phase);
  // Rows of one line of positions in the phase begun: width() x group() values.
  void rows(int y, RowRule rule, std::int16_t* out);
  // Magnitudes of a line of positions, width() x channels(), to be filled with magnitude_of(symbol)
  // as symbols become known.
  std::uint8_t* magnitudes(int y) { return magnitude_.data() + magnitude_index(y, 0); }
  // round(16 min(log2(1 + |q|), 3)), of a symbol of so many half steps.
  static std::uint8_t magnitude_of(int half_steps) {
    static constexpr std::array<std::uint8_t, 16> kHalves = {0,  9,  16, 21, 25, 29, 32, 35,
                                                             37, 39, 41, 43, 45, 47, 48, 48};
    const int m = half_steps < 0 ? -half_steps : half_steps;
    return kHalves[m < 15 ? m : 15];
  }

  // s(z^) of every latent, 1/32 octave, (height, width, channels). Ends the use of the field.
  std::vector<std::int16_t> log_scale() && { return std::move(log_scale_); }

 private:
  std::size_t magnitude_index(int y, int x) const {
    return (static_cast<std::size_t>(y + kReach) * (width_ + 2 * kReach) + x + kReach) *
           network_->latents();
  }
  std::size_t hidden_pitch() const {
    return static_cast<std::size_t>(width_ + 2) * network_->width();
  }
  std::vector<std::int16_t> spread_hyper(const std::int16_t* z,
                                         const std::int32_t* rate_bias) const;
  void run_mix(const std::vector<std::int16_t>& spread);
  void enter_log_scale(int y);
  template <typename Known>
  void find_known(Known known);
  void enter_phase(const std::vector<std::int32_t>& bias);
  void start_line(int y, const std::vector<std::int32_t>& bias);
  void sum_neighbours(int y);

  std::shared_ptr<const ScaleNetwork> network_;
  int height_, width_, phase_ = 0;
  std::vector<std::int16_t> exponent_;
  std::vector<std::int16_t> log_scale_;   // (height, width, channels)
  std::vector<std::uint8_t> magnitude_;   // (height + 4, width + 4, channels), zero border
  std::vector<std::int32_t> entered_;     // (height, width, width of the network)
  std::vector<std::int16_t> hidden_;      // (height + 2, width + 2, width), zero border
  std::vector<TapPair> near_, local_;     // taps of the 5x5 and the 3x3 neighbourhood
  std::array<std::vector<TapPair>, kPhases> known_;  // of near_, by position class XOR group
  // Scratch for one line: as wide as the latents; as the network, twice; starting accumulators.
  std::vector<std::int16_t> line_, narrow_, wide_;
  std::vector<std::int32_t> start_;
};

}  // namespace softstair
