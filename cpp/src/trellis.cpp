// SPDX-License-Identifier: Apache-2.0
#include "trellis.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "refinement.hpp"
#include "refuse.hpp"
#include "viterbi.hpp"

namespace softstair {
namespace {

// The steps of the search, lane by lane.
class Portable {
 public:
  using Metrics = std::array<std::array<std::int16_t, kLanes>, kBranches>;  // by branch
  template <int kStates>
  using Lay = Layout<kStates>;

  explicit Portable(const Problem& problem) : problem_(problem) {}

  void look_at(std::size_t group, std::size_t groups, Metrics* metrics, std::int16_t* candidates) const {
    for (std::size_t i = 0; i < groups; ++i, candidates += kLanes * kBranches) {
      metrics[i] = {};
      for (std::size_t lane = 0; lane < problem_.here(group + i); ++lane) {
        float cost[kBranches];
        branches(problem_, problem_.first(group + i) + lane, cost, candidates + lane * kBranches);
        const float least = *std::min_element(cost, cost + kBranches);
        for (int branch = 0; branch < kBranches; ++branch) metrics[i][branch][lane] = in_units(cost[branch] - least);
      }
    }
  }

  template <int kStates>
  void advance(const Metrics& metrics, const Costs<kStates>& before, Costs<kStates>& after, std::uint16_t* taken) const {
    using Lay = Layout<kStates>;
    if constexpr (kStates == 4) {
      static constexpr auto kEntries = entries<kStates>();
      for (int s = 0; s < kStates; ++s)
        for (int lane = 0; lane < kLanes; ++lane) {
          const Entry& e = kEntries[s];
          const std::int16_t one = sum(before.values[e.state[0]][lane], metrics[e.branch[0]][lane]);
          const std::int16_t two = sum(before.values[e.state[1]][lane], metrics[e.branch[1]][lane]);
          after.values[s][lane] = std::min(one, two);
          taken[s * kLanes + lane] = two < one;
        }
    } else {
      // Loops of eight, of two states each, which compilers make vectors of.
      const auto& m = metrics;
      std::int16_t near[8], far[8];
      for (int lane = 0; lane < kLanes; ++lane) {
        near[lane] = m[0][lane], near[4 + lane] = m[3][lane];
        far[lane] = m[2][lane], far[4 + lane] = m[1][lane];
      }
      for (int block = 0; block < Lay::kSteps; block += Lay::kBlock, taken += 32) {
        std::uint16_t bits[4][8] = {};  // near and far of k, of k + 1
        for (int step = block; step < block + Lay::kBlock; ++step)
          for (int i = 0; i < 2; ++i) {
            const int k = Lay::first(step) + i;
            const std::int16_t* low = before.values[2 * k];
            const std::int16_t* high = before.values[(2 * k) ^ (2 * Lay::kOdd)];
            std::int16_t to_near[8], to_far[8];
            for (int j = 0; j < 8; ++j) {
              const std::int16_t a = sum(low[j], near[j]), b = sum(high[j], far[j]);
              to_near[j] = std::min(a, b);
              bits[i][j] = static_cast<std::uint16_t>(2 * bits[i][j] + (b < a));
            }
            for (int j = 0; j < 8; ++j) {
              const std::int16_t a = sum(low[j], far[j]), b = sum(high[j], near[j]);
              to_far[j] = std::min(a, b);
              bits[2 + i][j] = static_cast<std::uint16_t>(2 * bits[2 + i][j] + (b < a));
            }
            std::copy_n(to_near, kLanes, after.values[k]);
            std::copy_n(to_near + kLanes, kLanes, after.values[k ^ Lay::kEven]);
            std::copy_n(to_far, kLanes, after.values[k ^ Lay::kOdd]);
            std::copy_n(to_far + kLanes, kLanes, after.values[k ^ Lay::kEven ^ Lay::kOdd]);
          }
        std::copy_n(bits[0], 32, taken);
      }
    }
  }

  template <int kStates>
  void rebase(Costs<kStates>& costs) const {
    for (int lane = 0; lane < kLanes; ++lane) {
      std::int16_t least = costs.values[0][lane];
      for (const auto& values : costs.values) least = std::min(least, values[lane]);
      for (auto& values : costs.values) values[lane] = static_cast<std::int16_t>(values[lane] - (least - kLeast));
    }
  }

 private:
  static std::int16_t sum(int a, int b) { return static_cast<std::int16_t>(a + b); }

  const Problem& problem_;
};

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
          static_cast<std::uint16_t>(next_state(states, state, parity));
}

const Trellis& Trellis::of(int states) {
  static const std::array<Trellis, kCodes.size()> kAll = {Trellis(1), Trellis(4), Trellis(8),
                                                          Trellis(16), Trellis(32), Trellis(512)};
  for (const Trellis& trellis : kAll)
    if (trellis.states_ == states) return trellis;
  refuse("a trellis has 1, 4, 8, 16, 32 or 512 states");
}

void search(const Trellis& trellis, const Tables& tables, const Staircase& staircase,
            std::span<const float> residual, std::span<const std::int16_t> rows,
            int lanes, bool simd, std::int16_t* levels) {
  const Problem problem{tables, staircase, residual, rows, lanes};
  if (!trellis.dependent()) return search_scalar(problem, levels);
  if (simd && staircase.grid.empty() &&
      (search_avx512(trellis.states(), problem, levels) || search_avx2(trellis.states(), problem, levels)))
    return;
  Portable kernel(problem);
  with_states(trellis.states(), [&](auto count) { viterbi<count()>(kernel, problem, levels); });
}

}  // namespace softstair
