// SPDX-License-Identifier: Apache-2.0
// What the kernels of the trellis search share: the branches of a latent, and the ways into states.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "rans.hpp"
#include "tables.hpp"
#include "trellis.hpp"

namespace softstair {

constexpr int kLanes = kMaxLanes;  // searched at once, whether or not a stream uses them all
// Groups of latents, one a lane, that are decided at once, and those behind them that are looked at first:
// all paths have met by then.
constexpr std::size_t kWindow = 4096, kLookahead = 256;
// Costs of paths: squared steps in 2^-10, in 16 bits. Beyond the cheapest branch none of a latent costs more
// than kMostCost, and the cheapest path is brought back to kLeast every kRebase groups. Nine steps lead from any
// state to any other, so no path is dearer than the cheapest by more than nine times that: sums stay in range.
constexpr float kCostUnit = 1024;
constexpr std::int16_t kMostCost = 2560, kLeast = -32000, kFar = kLeast + 9 * kMostCost + 1;
constexpr int kRebase = 15;
static_assert(kFar + (kRebase + 1) * kMostCost < 32767);
constexpr int kTogether = 5;  // groups looked at before they are searched: their memory is waited for at once
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

// Where the ways into states are kept: a group of latents has kWords words of 16 bits, and the bit of lane i of a
// state lies i * kWordOfLane words and i * kBitOfLane bits beyond this place.
struct Taken {
  int word, bit;
};

// Where ways and costs are kept. Vectors of four states go through pairs of states k, k + 1 in steps of two, those
// whose bit of the highest in h1 / 2 is 0; a bit is shifted in from below at every step (viterbi_avx2.cpp).
template <int kStates>
struct Layout {
  static constexpr int kEven = next_state(kStates, 1, 0), kOdd = next_state(kStates, 0, 1);
  static constexpr int kTop = std::bit_floor(static_cast<unsigned>(kOdd));
  static constexpr int kSteps = std::max(kStates / 8, 1), kBlock = std::min(kSteps, 16);
  static constexpr int kWords = kSteps / kBlock * 2 * 4 * kLanes, kWordOfLane = 1, kBitOfLane = 0;
  static_assert(kStates == 4 || kTop >= 2);

  // Where the costs of a state are.
  static constexpr int slot(int state) { return state; }

  // The first state of a step.
  static constexpr int first(int step) {
    const int k = 2 * step;
    return (k & ~(kTop - 1)) << 1 | (k & (kTop - 1));
  }

  static constexpr std::array<Taken, kStates> places() {
    std::array<Taken, kStates> result{};
    if (kStates == 4) {
      for (int s = 0; s < kStates; ++s) result[s] = {s * kLanes, 0};
      return result;
    }
    for (int step = 0; step < kSteps; ++step)
      for (int i = 0; i < 2; ++i)
        for (int half = 0; half < 2; ++half)
          for (int odd = 0; odd < 2; ++odd) {
            const int state = (first(step) + i) ^ (odd ? kEven : 0) ^ (half ? kOdd : 0);
            result[state] = {((step / kBlock * 2 + half) * 4 + 2 * i + odd) * kLanes,
                             kBlock - 1 - step % kBlock};
          }
    return result;
  }
};

// Costs of all states, each of all lanes.
template <int kStates>
struct alignas(64) Costs {
  std::int16_t values[kStates][kLanes];
};

// A squared error and bits beyond those of the cheapest branch.
inline std::int16_t in_units(float cost) {
  return static_cast<std::int16_t>(std::min(cost * kCostUnit + 0.5f, static_cast<float>(kMostCost)));
}

// What is searched.
struct Problem {
  const Tables& tables;
  const Staircase& staircase;
  std::span<const float> residual;
  std::span<const std::int16_t> rows;
  int lanes;

  // First latent of a group, and how many it has: the last one may have fewer.
  std::size_t first(std::size_t group) const { return group * lanes; }
  std::size_t here(std::size_t group) const { return std::min<std::size_t>(lanes, residual.size() - first(group)); }
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

// A. Viterbi's search, window after window. Kernel: Lay<kStates> says where it keeps things; look_at(group, groups,
// metrics, candidates) gives the metrics of so many groups and levels of their branches;
// advance<kStates>(metrics, before, after, taken) takes every lane a step on; rebase(costs) brings the cheapest of
// every lane to kLeast.
template <int kStates, typename Kernel>
void viterbi(Kernel& kernel, const Problem& problem, std::int16_t* levels) {
  using Lay = typename Kernel::template Lay<kStates>;
  static constexpr auto kEntries = entries<kStates>();
  static constexpr auto kPlaces = Lay::places();
  const std::size_t count = problem.residual.size(), lanes = problem.lanes;
  const std::size_t groups = (count + lanes - 1) / lanes;
  const std::size_t most = std::min(groups, kWindow + kLookahead);
  std::vector<std::int16_t> candidates(most * kLanes * kBranches);
  const std::unique_ptr<std::uint16_t[]> taken(new std::uint16_t[most * Lay::kWords]);
  Costs<kStates> costs[2];
  typename Kernel::Metrics metrics[kTogether];
  int state[kLanes] = {};
  for (std::size_t begin = 0, end = 0; begin < groups; begin = end) {
    for (auto& values : costs[0].values) std::fill_n(values, kLanes, kFar);
    for (int lane = 0; lane < kLanes; ++lane) costs[0].values[Lay::slot(state[lane])][lane] = kLeast;
    costs[1] = costs[0];
    Costs<kStates>*before = &costs[0], *after = &costs[1];
    const std::size_t seen = std::min(groups, begin + kWindow + kLookahead);
    end = seen < groups ? begin + kWindow : groups;
    for (std::size_t group = begin; group < seen; ++group) {
      const std::size_t at = group - begin;
      if (at % kTogether == 0)
        kernel.look_at(group, std::min<std::size_t>(kTogether, seen - group), metrics,
                       candidates.data() + at * kLanes * kBranches);
      kernel.template advance<kStates>(metrics[at % kTogether], *before, *after, taken.get() + at * Lay::kWords);
      if (at % kRebase == kRebase - 1) kernel.rebase(*after);
      std::swap(before, after);
    }
    // A lane that is one latent shorter ended in the group before the last, whose costs are still in the other
    // half. Lanes go back side by side: each waits for its own memory only.
    const std::size_t last = problem.here(seen - 1);
    for (std::size_t lane = 0; lane < std::min(lanes, count); ++lane) {
      const Costs<kStates>& ended = lane < last ? *before : *after;
      state[lane] = 0;
      for (int s = 1; s < kStates; ++s)
        if (ended.values[Lay::slot(s)][lane] < ended.values[Lay::slot(state[lane])][lane]) state[lane] = s;
    }
    int left[kLanes] = {};
    for (std::size_t group = seen; group-- > begin;) {
      if (group == end - 1) std::copy_n(state, kLanes, left);
      const std::size_t first = problem.first(group), here = problem.here(group), at = group - begin;
      for (std::size_t lane = 0; lane < here; ++lane) {
        const Taken& place = kPlaces[state[lane]];
        const int way = taken[at * Lay::kWords + place.word + lane * Lay::kWordOfLane] >>
                        (place.bit + lane * Lay::kBitOfLane) & 1;
        const Entry& entry = kEntries[state[lane]];
        if (group < end) levels[first + lane] = candidates[(at * kLanes + lane) * kBranches + entry.branch[way]];
        state[lane] = entry.state[way];
      }
    }
    std::copy_n(left, kLanes, state);
  }
}

// action(states) with their number as a constant.
template <typename Action>
void with_states(int states, const Action& action) {
  switch (states) {
    case 4: return action(std::integral_constant<int, 4>{});
    case 8: return action(std::integral_constant<int, 8>{});
    case 16: return action(std::integral_constant<int, 16>{});
    case 32: return action(std::integral_constant<int, 32>{});
    default: return action(std::integral_constant<int, 512>{});
  }
}

// As `search` for more than one state and the uniform grid; false if this machine has no such vectors, or if others
// are as fast with so many states.
bool search_avx2(int states, const Problem& problem, std::int16_t* levels);
bool search_avx512(int states, const Problem& problem, std::int16_t* levels);

}  // namespace softstair
