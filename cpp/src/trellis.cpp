// SPDX-License-Identifier: Apache-2.0
#include "trellis.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "layers.hpp"
#include "refinement.hpp"
#include "viterbi.hpp"

namespace softstair {
namespace {

using Costs = std::array<float, kLanes>;

// One step of every lane: the cheaper way into every state. metric: a row a lane. `taken` gets, for
// every state, a bit a lane: whether the second way was cheaper.
template <int kStates>
void advance(const float (&metric)[kLanes][kBranches], const Costs* before, Costs* after,
             std::uint8_t* taken) {
  static constexpr auto kEntries = entries<kStates>();
  for (int s = 0; s < kStates; ++s) {
    const Entry& e = kEntries[s];
    int mask = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      const float one = before[e.state[0]][lane] + metric[lane][e.branch[0]];
      const float two = before[e.state[1]][lane] + metric[lane][e.branch[1]];
      after[s][lane] = std::min(one, two);
      mask |= (two < one) << lane;
    }
    taken[s] = static_cast<std::uint8_t>(mask);
  }
}

template <int kStates>
void rebase(Costs* costs) {
  for (int lane = 0; lane < kLanes; ++lane) {
    float least = costs[0][lane];
    for (int s = 1; s < kStates; ++s) least = std::min(least, costs[s][lane]);
    for (int s = 0; s < kStates; ++s) costs[s][lane] -= least;
  }
}

template <int kStates>
void viterbi(const Problem& problem, std::int16_t* levels) {
  static constexpr auto kEntries = entries<kStates>();
  const std::size_t count = problem.residual.size(), lanes = problem.lanes;
  const std::size_t groups = (count + lanes - 1) / lanes;
  std::vector<std::int16_t> candidates(count * kBranches);
  std::vector<std::uint8_t> taken(groups * kStates);
  Costs costs[2][kStates];
  for (Costs& lane_costs : costs[0]) lane_costs.fill(kFar);
  costs[0][0].fill(0);
  float metric[kLanes][kBranches] = {};
  Costs *before = costs[0], *after = costs[1];
  for (std::size_t group = 0; group < groups; ++group) {
    const std::size_t first = group * lanes, here = std::min(lanes, count - first);
    for (std::size_t lane = 0; lane < here; ++lane)
      branches(problem, first + lane, metric[lane], candidates.data() + (first + lane) * kBranches);
    advance<kStates>(metric, before, after, taken.data() + group * kStates);
    if (group % kRebase == kRebase - 1) rebase<kStates>(after);
    std::swap(before, after);
  }
  // A lane that is one latent shorter ended in the group before the last, whose costs are still in
  // the other half. Lanes go back side by side: each waits for its own memory only.
  const std::size_t last = groups > 0 ? count - (groups - 1) * lanes : 0;  // latents of the last
  int state[kLanes] = {};
  for (std::size_t lane = 0; lane < std::min(lanes, count); ++lane) {
    const Costs* end = lane < last ? before : after;
    for (int s = 1; s < kStates; ++s)
      if (end[s][lane] < end[state[lane]][lane]) state[lane] = s;
  }
  for (std::size_t group = groups; group-- > 0;) {
    const std::size_t first = group * lanes, here = std::min(lanes, count - first);
    for (std::size_t lane = 0; lane < here; ++lane) {
      const int way = taken[group * kStates + state[lane]] >> lane & 1;
      const Entry& entry = kEntries[state[lane]];
      levels[first + lane] = candidates[(first + lane) * kBranches + entry.branch[way]];
      state[lane] = entry.state[way];
    }
  }
}

// Round half to even, without a call: next to 1.5 * 2^23 a float has no bits left for a fraction.
int nearest_symbol(float value) {
  constexpr float kShift = 12582912.0f, kLargest = kLargestSymbol;
  const float inside = std::min(std::max(finite(value), -kLargest), kLargest);
  return static_cast<int>(inside + kShift - kShift);
}

// A member of the coarse grid: every second one of the fine grid.
float coarse(const Staircase& staircase, int level) {
  return level < 0 ? -staircase.value(-2 * level) : staircase.value(2 * level);
}

int nearest_level(const Staircase& staircase, float residual) {
  if (staircase.grid.empty()) return nearest_symbol(residual);
  // Layers double a level each.
  const float magnitude = std::min<float>(std::abs(finite(residual)), kLargestLevel >> staircase.behind);
  const int below = floor_index(staircase, magnitude) / 2;
  const bool up = magnitude - staircase.value(2 * below) > staircase.value(2 * below + 2) - magnitude;
  return residual < 0 ? -(below + up) : below + up;
}

// One state: every latent for itself.
void search_scalar(const Problem& problem, std::int16_t* levels) {
  const Staircase& staircase = problem.staircase;
  for (std::size_t i = 0; i < problem.residual.size(); ++i) {
    const float residual = problem.residual[i];
    const int nearest = nearest_level(staircase, residual);
    int best = nearest;
    if (staircase.rate_weight > 0 && nearest != 0) {
      const int below = nearest < 0 ? nearest + 1 : nearest - 1;
      const auto cost = [&](int level) {
        const float error = residual - coarse(staircase, level);
        const float ahead = staircase.behind > 0 ? kAhead * error_ahead(residual, level, staircase.behind) : 0;
        return error * error + ahead + staircase.rate_weight * problem.tables.bits(problem.rows[i], level);
      };
      float least = cost(nearest);
      for (const int level : {below, 0})
        if (const float c = cost(level); c < least) {
          least = c;
          best = level;
        }
    }
    levels[i] = static_cast<std::int16_t>(best);
  }
}

}  // namespace

Trellis::Trellis(int states) : states_(states) {
  for (int state = 0; state < states; ++state)
    for (int parity = 0; parity < 2; ++parity)
      next_[state][parity] =
          static_cast<std::uint8_t>(next_state(states, state, parity));
}

const Trellis& Trellis::of(int states) {
  static const std::array<Trellis, kCodes.size()> kAll = {Trellis(1), Trellis(4), Trellis(8),
                                                          Trellis(16), Trellis(32)};
  for (const Trellis& trellis : kAll)
    if (trellis.states_ == states) return trellis;
  throw std::invalid_argument("a trellis has 1, 4, 8, 16 or 32 states");
}

void search(const Trellis& trellis, const Tables& tables, const Staircase& staircase,
            std::span<const float> residual, std::span<const std::int16_t> rows,
            int lanes, bool simd, std::int16_t* levels) {
  const Problem problem{tables, staircase, residual, rows, lanes};
  if (!trellis.dependent()) return search_scalar(problem, levels);
  if (simd && simd_available() && staircase.grid.empty() &&
      search_avx2(trellis.states(), problem, levels))
    return;
  switch (trellis.states()) {
    case 4: return viterbi<4>(problem, levels);
    case 8: return viterbi<8>(problem, levels);
    case 16: return viterbi<16>(problem, levels);
    default: return viterbi<32>(problem, levels);
  }
}

}  // namespace softstair
