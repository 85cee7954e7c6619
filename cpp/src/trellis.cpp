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
// The four subsets of the fine grid, by index modulo 4: their quantizers and parities of levels are
// 0 even, 1 odd, 0 odd, 1 even. Zero is a member of the first and, besides, of the last.
constexpr int kBranches = 4;
constexpr int branch_of(int quantizer, int parity) {
  return quantizer == 0 ? 2 * parity : parity == 0 ? 3 : 1;
}
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
      result[to].branch[found[to]++] = branch_of(state & 1, parity);
    }
  return result;
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

// What is known of a latent before its branches are looked at.
struct Latent {
  float magnitude, weight;
  int sign, row, first;  // first: of the four members of the fine grid around the magnitude
  bool escapes;          // one of their levels may lie outside its table
};

Latent look_at(const Problem& problem, std::size_t i) {
  constexpr float kLargest = kLargestLevel - 4;
  const float residual = finite(problem.residual[i]);
  const float magnitude = std::min(std::abs(residual), kLargest);
  const int row = 2 * problem.rows[i];
  const int first = std::min(std::max(floor_index(problem.staircase, magnitude) - 1, 0),
                             2 * kLargestLevel - 8);
  const int smaller = std::min(problem.tables.largest(row), problem.tables.largest(row + 1));
  return {magnitude, problem.weight_of(i), residual < 0 ? -1 : 1, row, first,
          (first + 4) / 2 > smaller};
}

// Costs and levels of the branches of a latent.
void branches(const Problem& problem, const Latent& latent, float* cost, std::int16_t* levels) {
  const Staircase& staircase = problem.staircase;
  for (int branch = 0; branch < kBranches; ++branch) {
    const int index = latent.first + ((branch - latent.first) & 3), quantizer = branch & 1;
    const int level = latent.sign * ((index + quantizer) >> 1);
    const float error = latent.magnitude - staircase.value(index);
    cost[branch] = latent.weight * error * error +
                   staircase.rate_weight * problem.tables.bits(latent.row + quantizer, level);
    levels[branch] = static_cast<std::int16_t>(level);
  }
  const float to_zero = latent.weight * latent.magnitude * latent.magnitude;
  for (const int branch : {0, 3}) {
    const float zero =
        to_zero + staircase.rate_weight * problem.tables.bits(latent.row + (branch & 1), 0);
    if (zero < cost[branch]) {
      cost[branch] = zero;
      levels[branch] = 0;
    }
  }
}

#if defined(__SSE2__)

using Costs = __m128;  // of four lanes or four branches

// The same, all branches at once, on the uniform grid and without escapes.
__m128 uniform_branches(const Problem& problem, const Latent& latent, std::int16_t* levels) {
  const __m128i subset = _mm_setr_epi32(0, 1, 2, 3), quantizer = _mm_setr_epi32(0, 1, 0, 1);
  const __m128i first = _mm_set1_epi32(latent.first);
  const __m128i index = _mm_add_epi32(
      first, _mm_and_si128(_mm_sub_epi32(subset, first), _mm_set1_epi32(3)));
  const __m128i sign = _mm_set1_epi32(latent.sign >> 1);  // 0 or all ones
  const __m128i magnitude = _mm_srai_epi32(_mm_add_epi32(index, quantizer), 1);
  const __m128i level = _mm_sub_epi32(_mm_xor_si128(magnitude, sign), sign);
  alignas(16) std::int32_t at[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(at), level);
  const float* even = problem.tables.bits_around_zero(latent.row);
  const float* odd = problem.tables.bits_around_zero(latent.row + 1);
  const __m128 rate_weight = _mm_set1_ps(problem.staircase.rate_weight);
  const __m128 weight = _mm_set1_ps(latent.weight), place = _mm_set1_ps(latent.magnitude);
  const __m128 error = _mm_sub_ps(place, _mm_mul_ps(_mm_set1_ps(0.5f), _mm_cvtepi32_ps(index)));
  const __m128 rate = _mm_setr_ps(even[at[0]], odd[at[1]], even[at[2]], odd[at[3]]);
  const __m128 cost = _mm_add_ps(_mm_mul_ps(weight, _mm_mul_ps(error, error)),
                                 _mm_mul_ps(rate_weight, rate));
  const __m128 of_zero = _mm_mul_ps(rate_weight, _mm_setr_ps(even[0], 0, 0, odd[0]));
  const __m128 zero = _mm_add_ps(_mm_add_ps(_mm_mul_ps(weight, _mm_mul_ps(place, place)), of_zero),
                                 _mm_setr_ps(0, kFar, kFar, 0));
  const __m128i cheaper = _mm_castps_si128(_mm_cmplt_ps(zero, cost));
  const __m128i chosen = _mm_andnot_si128(cheaper, level);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(levels), _mm_packs_epi32(chosen, chosen));
  return _mm_min_ps(cost, zero);
}

__m128 branches_of(const Problem& problem, std::size_t i, std::int16_t* levels) {
  const Latent latent = look_at(problem, i);
  if (!latent.escapes && problem.staircase.grid.empty())
    return uniform_branches(problem, latent, levels);
  alignas(16) float cost[kBranches];
  branches(problem, latent, cost, levels);
  return _mm_load_ps(cost);
}

// One step of every lane: the cheaper way into every state. metric: a row a lane. `taken` gets, for
// every state, a bit a lane: whether the second way was cheaper.
template <int kStates>
void advance(Costs (&metric)[kLanes], const Costs* before, Costs* after, std::uint8_t* taken) {
  static constexpr auto kEntries = entries<kStates>();
  __m128 m0 = metric[0], m1 = metric[1], m2 = metric[2], m3 = metric[3];
  _MM_TRANSPOSE4_PS(m0, m1, m2, m3);
  const __m128 m[kBranches] = {m0, m1, m2, m3};
#pragma GCC unroll 32
  for (int s = 0; s < kStates; ++s) {
    const Entry& e = kEntries[s];
    const __m128 one = _mm_add_ps(before[e.state[0]], m[e.branch[0]]);
    const __m128 two = _mm_add_ps(before[e.state[1]], m[e.branch[1]]);
    after[s] = _mm_min_ps(one, two);
    taken[s] = static_cast<std::uint8_t>(_mm_movemask_ps(_mm_cmplt_ps(two, one)));
  }
}

template <int kStates>
void rebase(Costs* costs) {
  __m128 least = costs[0];
  for (int s = 1; s < kStates; ++s) least = _mm_min_ps(least, costs[s]);
  for (int s = 0; s < kStates; ++s) costs[s] = _mm_sub_ps(costs[s], least);
}

Costs all(float value) { return _mm_set1_ps(value); }

float in_lane(const Costs& costs, int lane) {
  alignas(16) float values[kLanes];
  _mm_store_ps(values, costs);
  return values[lane];
}

#else

struct Costs {
  float values[4];
};

Costs branches_of(const Problem& problem, std::size_t i, std::int16_t* levels) {
  Costs costs;
  branches(problem, look_at(problem, i), costs.values, levels);
  return costs;
}

template <int kStates>
void advance(Costs (&metric)[kLanes], const Costs* before, Costs* after, std::uint8_t* taken) {
  static constexpr auto kEntries = entries<kStates>();
  for (int s = 0; s < kStates; ++s) {
    const Entry& e = kEntries[s];
    int mask = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      const float one = before[e.state[0]].values[lane] + metric[lane].values[e.branch[0]];
      const float two = before[e.state[1]].values[lane] + metric[lane].values[e.branch[1]];
      after[s].values[lane] = std::min(one, two);
      mask |= (two < one) << lane;
    }
    taken[s] = static_cast<std::uint8_t>(mask);
  }
}

template <int kStates>
void rebase(Costs* costs) {
  for (int lane = 0; lane < kLanes; ++lane) {
    float least = costs[0].values[lane];
    for (int s = 1; s < kStates; ++s) least = std::min(least, costs[s].values[lane]);
    for (int s = 0; s < kStates; ++s) costs[s].values[lane] -= least;
  }
}

Costs all(float value) { return {{value, value, value, value}}; }

float in_lane(const Costs& costs, int lane) { return costs.values[lane]; }

#endif

template <int kStates>
void viterbi(const Problem& problem, int lanes, std::int16_t* levels) {
  static constexpr auto kEntries = entries<kStates>();
  const std::size_t count = problem.residual.size();
  const std::size_t groups = (count + lanes - 1) / lanes;
  std::vector<std::int16_t> candidates(count * kBranches);
  std::vector<std::uint8_t> taken(groups * kStates);
  Costs costs[2][kStates];
  std::fill_n(costs[0], kStates, all(kFar));
  costs[0][0] = all(0);
  Costs metric[kLanes] = {all(0), all(0), all(0), all(0)};
  Costs *before = costs[0], *after = costs[1];
  for (std::size_t group = 0; group < groups; ++group) {
    const std::size_t first = group * lanes, here = std::min<std::size_t>(lanes, count - first);
    for (std::size_t lane = 0; lane < here; ++lane)
      metric[lane] =
          branches_of(problem, first + lane, candidates.data() + (first + lane) * kBranches);
    advance<kStates>(metric, before, after, taken.data() + group * kStates);
    if (group % kRebase == kRebase - 1) rebase<kStates>(after);
    std::swap(before, after);
  }
  // A lane that is one latent shorter ended in the group before the last, whose costs are still in
  // the other half. Lanes go back side by side: each waits for its own memory only.
  const std::size_t last = groups > 0 ? count - (groups - 1) * lanes : 0;  // latents of the last
  int state[kLanes] = {};
  for (std::size_t lane = 0; lane < std::min<std::size_t>(lanes, count); ++lane) {
    const Costs* end = lane < last ? before : after;
    for (int s = 1; s < kStates; ++s)
      if (in_lane(end[s], lane) < in_lane(end[state[lane]], lane)) state[lane] = s;
  }
  for (std::size_t group = groups; group-- > 0;) {
    const std::size_t first = group * lanes, here = std::min<std::size_t>(lanes, count - first);
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
