// SPDX-License-Identifier: Apache-2.0
// What the kernels of the trellis search share: the branches of a latent, and the ways into states.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>

#include "rans.hpp"
#include "tables.hpp"
#include "trellis.hpp"

namespace softstair {

constexpr int kLanes = kMaxLanes;  // searched at once, whether or not a stream uses them all
constexpr int kRebase = 32;        // costs are brought back to around zero so often
constexpr float kFar = 1e30f;
// The four subsets of the fine grid, by index modulo 4: their quantizers and parities of levels are
// 0 even, 1 odd, 0 odd, 1 even. Zero is a member of the first and, besides, of the last.
constexpr int kBranches = 4;
constexpr int branch_of(int quantizer, int parity) {
  return quantizer == 0 ? 2 * parity : parity == 0 ? 3 : 1;
}

// The two ways into a state, the lower state first.
struct Entry {
  int state[2], branch[2];
};

template <int kStates>
constexpr std::array<Entry, kStates> entries() {
  std::array<Entry, kStates> result{};
  std::array<int, kStates> found{};
  for (int state = 0; state < kStates; ++state)
    for (int parity = 0; parity < 2; ++parity) {
      const int to = next_state(kStates, state, parity);
      result[to].state[found[to]] = state;
      result[to].branch[found[to]++] = branch_of(state & 1, parity);
    }
  return result;
}

// What is searched.
struct Problem {
  const Tables& tables;
  const Staircase& staircase;
  std::span<const float> residual;
  std::span<const std::int16_t> rows;
  int lanes;
};

inline float finite(float value) { return value == value ? value : 0.0f; }

// The member of the fine grid at or below a magnitude.
inline int floor_index(const Staircase& staircase, float magnitude) {
  const auto& grid = staircase.grid;
  if (grid.empty()) return static_cast<int>(2 * magnitude);
  if (magnitude >= grid.back())
    return static_cast<int>(grid.size()) - 1 + static_cast<int>(2 * (magnitude - grid.back()));
  return static_cast<int>(std::upper_bound(grid.begin(), grid.end(), magnitude) - grid.begin()) - 1;
}

constexpr float kLargestMagnitude = kLargestLevel - 4;

// Costs and levels of the branches of a latent: the next member of the grid in each, and zero.
inline void branches(const Problem& problem, std::size_t i, float* cost, std::int16_t* levels) {
  const Staircase& staircase = problem.staircase;
  const float residual = finite(problem.residual[i]);
  const float magnitude = std::min(std::abs(residual), kLargestMagnitude);
  const int row = 2 * problem.rows[i], sign = residual < 0 ? -1 : 1;
  const int first =
      std::min(std::max(floor_index(staircase, magnitude) - 1, 0), 2 * kLargestLevel - 8);
  const float to_zero = magnitude * magnitude;
  for (int branch = 0; branch < kBranches; ++branch) {
    const int index = first + ((branch - first) & 3), quantizer = branch & 1;
    const int level = sign * ((index + quantizer) >> 1);
    const float error = magnitude - staircase.value(index);
    cost[branch] =
        error * error + staircase.rate_weight * problem.tables.bits(row + quantizer, level);
    levels[branch] = static_cast<std::int16_t>(level);
    if (branch != 0 && branch != 3) continue;
    const float zero = to_zero + staircase.rate_weight * problem.tables.bits(row + quantizer, 0);
    if (zero < cost[branch]) {
      cost[branch] = zero;
      levels[branch] = 0;
    }
  }
}

// As `search` for 4, 8, 16 or 32 states and the uniform grid; false if not built for this machine.
bool search_avx2(int states, const Problem& problem, std::int16_t* levels);

}  // namespace softstair
