// SPDX-License-Identifier: Apache-2.0
// Trellis-coded quantization: two quantizers, switched by the parities of earlier levels.
// M. W. Marcellin and T. R. Fischer, "Trellis coded quantization of memoryless and Gauss-Markov
// sources", IEEE Trans. Commun. 38(1), 1990; with entropy-coded levels and the sign-symmetric
// quantizers of dependent quantization (H. Schwarz et al., "Hybrid video coding with
// trellis-coded quantization", DCC 2019).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "refuse.hpp"
#include "tables.hpp"

namespace softstair {

constexpr int kMaxStates = 512;
constexpr int kMostLayers = 4;
constexpr int kLargestLevel = 16383;  // of a trellis: twice a level still fits a symbol

// Parity checks h0, h1 of the one-dimensional codes of G. Ungerboeck, "Channel coding with
// multilevel/phase signals", IEEE Trans. Inf. Theory 28(1), 1982. That of 512 states is the best of 5,000 taken at
// random, by squared error on a uniform source (docs/decisions/symbols.md).
struct Code {
  int states, h0, h1;
};
constexpr std::array<Code, 6> kCodes = {
    {{1, 0, 0}, {4, 05, 02}, {8, 013, 04}, {16, 023, 04}, {32, 045, 010}, {512, 01045, 0576}}};

// State of the code with so many states after a level of that parity.
constexpr int next_state(int states, int state, int parity) {
  for (const Code& code : kCodes)
    if (code.states == states)
      return state >> 1 ^ (state & 1 ? code.h0 >> 1 : 0) ^ (parity ? code.h1 >> 1 : 0);
  refuse("a trellis has 1, 4, 8, 16, 32 or 512 states");
}

// The state machine. With one state it is scalar quantization: quantizer 0 for ever.
//
// A level k of quantizer 0 stands for the index 2k of the fine grid, one of quantizer 1 for
// 2k - sgn(k): even members, and odd ones with zero. The fine grid's spacing is half a step.
class Trellis {
 public:
  // states: 1, 4, 8, 16, 32 or 512. Throws std::invalid_argument on anything else.
  static const Trellis& of(int states);

  int states() const { return states_; }
  bool dependent() const { return states_ > 1; }
  // State after a level; the state before it says which quantizer the level belongs to.
  int next(int state, int level) const { return next_[state][level & 1]; }

 private:
  explicit Trellis(int states);
  int states_;
  std::uint16_t next_[kMaxStates][2];
};

inline int quantizer_of(int state) { return state & 1; }

// Index on the fine grid of a level of quantizer 0 or 1.
inline int index_of(int level, int quantizer) {
  return 2 * level - ((level > 0) - (level < 0)) * quantizer;
}

// What decides how latents are quantized. rate_weight: squared steps that a bit is worth.
// grid: where the members 0, 1, .. of the fine grid lie, in steps, rising from 0; beyond its end
// members follow every half step. An empty one is uniform. behind: layers that will split the cells
// (refinement.hpp), whose error counts, too.
struct Staircase {
  float rate_weight = 0;
  std::span<const float> grid = {};
  int behind = 0;

  float value(int index) const {
    const int last = static_cast<int>(grid.size()) - 1;
    if (last < 0) return 0.5f * static_cast<float>(index);
    return index <= last ? grid[index] : grid[last] + 0.5f * static_cast<float>(index - last);
  }
};

// Levels of the latents of one phase, in coding order; latent i belongs to lane i mod lanes, and
// every lane is a trellis of its own that starts in state 0. Minimises
//
//     sum (residual_i - value_i)^2 + rate_weight * bits_i
//
// (A. Viterbi, 1967) over, of each quantizer and parity, the member of the grid next to the residual,
// and zero; costs are rounded to 2^-10 and latents decided a window at a time (viterbi.hpp), in
// integers, so that every machine finds the same. With one state: over the two neighbours of the residual and zero; with a
// rate weight of 0 that is rounding, half to even.
//
// residual: steps. rows: table rows of a single quantizer; with more than one state, tables holds
// row r of quantizer q at 2 r + q.
// simd: use vector kernels where available; they find the same levels.
// levels: receives the level of every latent, within +-kLargestLevel (+-32767 with one state).
void search(const Trellis& trellis, const Tables& tables, const Staircase& staircase,
            std::span<const float> residual, std::span<const std::int16_t> rows,
            int lanes, bool simd, std::int16_t* levels);

}  // namespace softstair
