// SPDX-License-Identifier: Apache-2.0
#include "trellis.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "rans.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace softstair {
namespace {

// Parity checks h0, h1 of the one-dimensional codes of G. Ungerboeck, "Channel coding with
// multilevel/phase signals", IEEE Trans. Inf. Theory 28(1), 1982.
struct Code {
  int states, h0, h1;
};
constexpr std::array<Code, 5> kCodes = {
    {{1, 0, 0}, {4, 05, 02}, {8, 013, 04}, {16, 023, 04}, {32, 045, 010}}};

constexpr int next_state(const Code& code, int state, int parity) {
  return state >> 1 ^ (state & 1 ? code.h0 >> 1 : 0) ^ (parity ? code.h1 >> 1 : 0);
}

constexpr const Code& code_of(int states) {
  for (const Code& code : kCodes)
    if (code.states == states) return code;
  throw std::invalid_argument("a trellis has 1, 4, 8, 16 or 32 states");
}

constexpr int kLanes = kMaxLanes;  // searched at once, whether or not a stream uses them all
constexpr int kBranches = 4;       // quantizer * 2 + parity
constexpr int kRebase = 32;        // costs are brought back to around zero so often
constexpr float kFar = 1e30f;

// The two ways into a state.
struct Entry {
  int state[2], branch[2];
};

template <int kStates>
constexpr std::array<Entry, kStates> entries() {
  std::array<Entry, kStates> result{};
  std::array<int, kStates> found{};
  for (int state = 0; state < kStates; ++state)
    for (int parity = 0; parity < 2; ++parity) {
      const int to = next_state(code_of(kStates), state, parity);
      result[to].state[found[to]] = state;
      result[to].branch[found[to]++] = 2 * (state & 1) + parity;
    }
  return result;
}

// One step of every lane: the cheaper way into every state. `taken` gets, for every state, a bit a
// lane: whether the second way was cheaper.
template <int kStates>
void advance(const float (&metric)[kBranches][kLanes], const float* before, float* after,
             std::uint8_t* taken) {
  static constexpr auto kEntries = entries<kStates>();
#if defined(__SSE2__)
  __m128 m[kBranches];
  for (int b = 0; b < kBranches; ++b) m[b] = _mm_loadu_ps(metric[b]);
#pragma GCC unroll 32
  for (int s = 0; s < kStates; ++s) {
    const Entry& e = kEntries[s];
    const __m128 one = _mm_add_ps(_mm_loadu_ps(before + e.state[0] * kLanes), m[e.branch[0]]);
    const __m128 two = _mm_add_ps(_mm_loadu_ps(before + e.state[1] * kLanes), m[e.branch[1]]);
    _mm_storeu_ps(after + s * kLanes, _mm_min_ps(one, two));
    taken[s] = static_cast<std::uint8_t>(_mm_movemask_ps(_mm_cmplt_ps(two, one)));
  }
#else
  for (int s = 0; s < kStates; ++s) {
    const Entry& e = kEntries[s];
    int mask = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      const float one = before[e.state[0] * kLanes + lane] + metric[e.branch[0]][lane];
      const float two = before[e.state[1] * kLanes + lane] + metric[e.branch[1]][lane];
      after[s * kLanes + lane] = std::min(one, two);
      mask |= (two < one) << lane;
    }
    taken[s] = static_cast<std::uint8_t>(mask);
  }
#endif
}

float finite(float value) { return value == value ? value : 0.0f; }

// The member of the fine grid at or below a magnitude.
int floor_index(const Staircase& staircase, float magnitude) {
  const auto& grid = staircase.grid;
  if (grid.empty()) return static_cast<int>(2 * magnitude);
  if (magnitude >= grid.back())
    return static_cast<int>(grid.size()) - 1 + static_cast<int>(2 * (magnitude - grid.back()));
  return static_cast<int>(std::upper_bound(grid.begin(), grid.end(), magnitude) - grid.begin()) - 1;
}

struct Problem {
  const Tables& tables;
  const Staircase& staircase;
  std::span<const float> residual;
  std::span<const std::int16_t> rows;
  std::span<const float> weight;

  float weight_of(std::size_t i) const { return weight.empty() ? 1.0f : weight[i]; }
};

// Costs and levels of the four branches of latent i.
template <bool kUniform>
void branches(const Problem& problem, std::size_t i, float (&cost)[kBranches],
              std::int16_t* levels) {
  constexpr float kLargest = kLargestLevel - 4;
  constexpr int kBranchOf[4] = {0, 3, 1, 2};  // of a member of the fine grid, modulo 4
  const Staircase& staircase = problem.staircase;
  const float residual = finite(problem.residual[i]), weight = problem.weight_of(i);
  const float magnitude = std::min(std::abs(residual), kLargest);
  const int sign = residual < 0 ? -1 : 1;
  const int row = 2 * problem.rows[i];
  const int below = kUniform ? static_cast<int>(2 * magnitude) : floor_index(staircase, magnitude);
  const int first = std::min(std::max(below - 1, 0), 2 * kLargestLevel - 8);
  // Escapes are rare: their costs are worked out only where one of the four levels may be one.
  const bool inside = (first + 4) / 2 <= std::min(problem.tables.largest(row),
                                                  problem.tables.largest(row + 1));
  const float* bits[2] = {problem.tables.bits_around_zero(row),
                          problem.tables.bits_around_zero(row + 1)};
  for (int next = 0; next < 4; ++next) {
    const int index = first + next;
    const int quantizer = index & 1, branch = kBranchOf[index & 3];
    const int level = sign * ((index + quantizer) / 2);
    const float error =
        magnitude - (kUniform ? 0.5f * static_cast<float>(index) : staircase.value(index));
    const float rate =
        inside ? bits[quantizer][level] : problem.tables.bits(row + quantizer, level);
    cost[branch] = weight * error * error + staircase.rate_weight * rate;
    levels[branch] = static_cast<std::int16_t>(level);
  }
  const float to_zero = weight * magnitude * magnitude;
  for (int quantizer = 0; quantizer < 2; ++quantizer) {
    const float zero = to_zero + staircase.rate_weight * bits[quantizer][0];
    const bool cheaper = zero < cost[2 * quantizer];
    cost[2 * quantizer] = cheaper ? zero : cost[2 * quantizer];
    levels[2 * quantizer] = cheaper ? std::int16_t{0} : levels[2 * quantizer];
  }
}

template <int kStates>
void viterbi(const Problem& problem, int lanes, std::int16_t* levels) {
  const std::size_t count = problem.residual.size();
  const std::size_t groups = (count + lanes - 1) / lanes;
  std::vector<std::int16_t> candidates(count * kBranches);
  std::vector<std::uint8_t> taken(groups * kStates);
  alignas(16) float costs[2][kStates * kLanes];
  std::fill_n(costs[0], kStates * kLanes, kFar);
  std::fill_n(costs[0], kLanes, 0.0f);
  alignas(16) float metric[kBranches][kLanes] = {};
  float* before = costs[0];
  float* after = costs[1];
  std::array<const float*, kLanes> end;  // costs after a lane's last latent
  end.fill(before);
  for (std::size_t group = 0; group < groups; ++group) {
    for (int lane = 0; lane < lanes; ++lane) {
      const std::size_t i = group * lanes + lane;
      if (i >= count) break;
      float cost[kBranches];
      if (problem.staircase.grid.empty())
        branches<true>(problem, i, cost, candidates.data() + i * kBranches);
      else
        branches<false>(problem, i, cost, candidates.data() + i * kBranches);
      for (int b = 0; b < kBranches; ++b) metric[b][lane] = cost[b];
      end[lane] = after;
    }
    advance<kStates>(metric, before, after, taken.data() + group * kStates);
    if (group % kRebase == kRebase - 1 && group + 1 < groups)
      for (int lane = 0; lane < kLanes; ++lane) {
        float least = after[lane];
        for (int s = 1; s < kStates; ++s) least = std::min(least, after[s * kLanes + lane]);
        for (int s = 0; s < kStates; ++s) after[s * kLanes + lane] -= least;
      }
    std::swap(before, after);
  }
  // A lane that is one latent shorter ended in the group before the last, whose costs are still
  // in the other half.
  static constexpr auto kEntries = entries<kStates>();
  for (int lane = 0; lane < lanes; ++lane) {
    if (static_cast<std::size_t>(lane) >= count) break;
    int state = 0;
    for (int s = 1; s < kStates; ++s)
      if (end[lane][s * kLanes + lane] < end[lane][state * kLanes + lane]) state = s;
    for (std::size_t group = (count - 1 - lane) / lanes + 1; group-- > 0;) {
      const std::size_t i = group * lanes + lane;
      const int way = taken[group * kStates + state] >> lane & 1;
      levels[i] = candidates[i * kBranches + kEntries[state].branch[way]];
      state = kEntries[state].state[way];
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
  const float magnitude = std::min<float>(std::abs(finite(residual)), kLargestLevel);
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
        return problem.weight_of(i) * error * error +
               staircase.rate_weight * problem.tables.bits(problem.rows[i], level);
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
          static_cast<std::uint8_t>(next_state(code_of(states), state, parity));
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
            std::span<const float> weight, int lanes, std::int16_t* levels) {
  const Problem problem{tables, staircase, residual, rows, weight};
  switch (trellis.states()) {
    case 1: return search_scalar(problem, levels);
    case 4: return viterbi<4>(problem, lanes, levels);
    case 8: return viterbi<8>(problem, lanes, levels);
    case 16: return viterbi<16>(problem, lanes, levels);
    default: return viterbi<32>(problem, lanes, levels);
  }
}

}  // namespace softstair
