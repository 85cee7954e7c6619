// SPDX-License-Identifier: Apache-2.0
// The trellis search with vectors of eight floats: the same additions and comparisons in the same
// order as the portable one, so that it finds the same levels.
#include "viterbi.hpp"

#if defined(SOFTSTAIR_SIMD) && defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#include <memory>
#include <vector>

#define SOFTSTAIR_TARGET __attribute__((target("avx2")))

namespace softstair {
namespace {

constexpr int kBeyond = 16;  // members of the grid beyond a table that merged ones have as well

// What the members of the fine grid cost, side by side although two quantizers share them: bits of
// the indices 0, 1, .. of positive and of negative latents.
class MergedBits {
 public:
  struct Row {
    std::int32_t positive, negative;
    std::int32_t last;      // of the members with three others behind
    float zero[kBranches];  // rate weight times bits of zero, where a branch has it
  };

  MergedBits(const Tables& tables, float rate_weight) {
    for (int row = 0; row < tables.rows() / 2; ++row) {
      const int even = 2 * row, odd = even + 1;
      const int members = 2 * std::min(tables.largest(even), tables.largest(odd)) + kBeyond;
      const auto add = [&](int sign) {
        const auto first = static_cast<std::int32_t>(bits_.size());
        for (int index = 0; index < members; ++index)
          bits_.push_back(tables.bits(even + (index & 1), sign * ((index + 1) >> 1)));
        return first;
      };
      const std::int32_t positive = add(1), negative = add(-1);
      rows_.push_back({positive, negative, members - 4,
                       {rate_weight * tables.bits(even, 0), kFar, kFar,
                        rate_weight * tables.bits(odd, 0)}});
    }
  }

  const Row& row(int index) const { return rows_[index]; }
  const float* at(std::int32_t place) const { return bits_.data() + place; }

 private:
  std::vector<float> bits_;
  std::vector<Row> rows_;
};

// Residuals and rows of a latent a lane, where some lanes may have none.
struct Group {
  float residual[kLanes] = {};
  std::int16_t rows[kLanes] = {};
};

// Costs of branches 0 and 1 and of branches 2 and 3, each of all lanes.
struct Metrics {
  __m256 low, high;
};

// Two latents, one in each half of a vector; every value but `members` is the same four times.
struct Two {
  __m256 magnitude;
  __m256i first, sign;     // of the four members of the grid around the magnitude; 0 or all ones
  __m256 bits, zero_rate;  // of the members, in order; rate weight times bits of zero, by branch
};

SOFTSTAIR_TARGET inline __m256 both(const float* a, const float* b) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(a)), _mm_loadu_ps(b), 1);
}

// Costs of the branches of two latents; levels receives theirs, int32.
SOFTSTAIR_TARGET inline __m256 branches_of(const Two& two, __m256 rate_weight, __m256i& levels) {
  const __m256i branch = _mm256_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3);
  const __m256i quantizer = _mm256_setr_epi32(0, 1, 0, 1, 0, 1, 0, 1);
  const __m256 steps = _mm256_setr_ps(0, 0.5f, 1, 1.5f, 0, 0.5f, 1, 1.5f);
  const __m256 at = _mm256_add_ps(
      _mm256_mul_ps(_mm256_set1_ps(0.5f), _mm256_cvtepi32_ps(two.first)), steps);
  const __m256 error = _mm256_sub_ps(two.magnitude, at);
  const __m256 in_order =
      _mm256_add_ps(_mm256_mul_ps(error, error), _mm256_mul_ps(rate_weight, two.bits));
  // Members lie in order of their index, branches are indices modulo 4.
  const __m256i turn = _mm256_sub_epi32(branch, two.first);
  const __m256 cost = _mm256_permutevar_ps(in_order, turn);
  const __m256 zero = _mm256_add_ps(_mm256_mul_ps(two.magnitude, two.magnitude), two.zero_rate);
  const __m256i index =
      _mm256_add_epi32(two.first, _mm256_and_si256(turn, _mm256_set1_epi32(3)));
  const __m256i level = _mm256_srai_epi32(_mm256_add_epi32(index, quantizer), 1);
  const __m256i is_zero = _mm256_castps_si256(_mm256_cmp_ps(zero, cost, _CMP_LT_OQ));
  levels = _mm256_andnot_si256(
      is_zero, _mm256_sub_epi32(_mm256_xor_si256(level, two.sign), two.sign));
  return _mm256_min_ps(zero, cost);
}

// Lane i of `a` and `b` is branch i of two latents each: latents 0 and 2, latents 1 and 3.
SOFTSTAIR_TARGET inline Metrics by_branch(__m256 a, __m256 b) {
  const __m256d low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
  const __m256d high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
  constexpr int kMiddleSwapped = 0xD8;
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(low, kMiddleSwapped)),
          _mm256_castpd_ps(_mm256_permute4x64_pd(high, kMiddleSwapped))};
}

// The branches of a group, by the plain function: where a level may lie outside its table.
SOFTSTAIR_TARGET Metrics far_out(const Problem& problem, std::size_t first, std::size_t here,
                                 std::int16_t* levels) {
  alignas(32) float cost[kLanes][kBranches] = {};
  for (std::size_t lane = 0; lane < here; ++lane)
    branches(problem, first + lane, cost[lane], levels + lane * kBranches);
  return by_branch(both(cost[0], cost[2]), both(cost[1], cost[3]));
}

// The branches of a group of latents, `here` of them, the first of which is `first`.
SOFTSTAIR_TARGET inline Metrics look_at(const Problem& problem, const MergedBits& merged,
                                        std::size_t first, std::size_t here,
                                        std::int16_t* levels) {
  Group some;
  const float* residual = problem.residual.data() + first;
  const std::int16_t* rows = problem.rows.data() + first;
  if (here < kLanes) {
    std::copy_n(residual, here, some.residual);
    std::copy_n(rows, here, some.rows);
    residual = some.residual, rows = some.rows;
  }

  const __m128 raw = _mm_loadu_ps(residual);
  const __m128 value = _mm_and_ps(raw, _mm_cmpord_ps(raw, raw));
  const __m128 magnitude = _mm_min_ps(_mm_andnot_ps(_mm_set1_ps(-0.0f), value),
                                      _mm_set1_ps(kLargestMagnitude));
  const __m128 below_zero = _mm_cmplt_ps(value, _mm_setzero_ps());
  const __m128i floor = _mm_cvttps_epi32(_mm_add_ps(magnitude, magnitude));
  const __m128i member = _mm_max_epi32(_mm_sub_epi32(floor, _mm_set1_epi32(1)),
                                       _mm_setzero_si128());
  alignas(16) std::int32_t members[kLanes];
  _mm_store_si128(reinterpret_cast<__m128i*>(members), member);
  const int negative = _mm_movemask_ps(below_zero);
  const MergedBits::Row* row[kLanes];
  const float* bits[kLanes];
  bool is_far = false;
  for (int lane = 0; lane < kLanes; ++lane) {
    row[lane] = &merged.row(rows[lane]);
    is_far |= members[lane] > row[lane]->last;
    bits[lane] = merged.at(negative >> lane & 1 ? row[lane]->negative : row[lane]->positive) +
                 members[lane];
  }
  if (is_far) return far_out(problem, first, here, levels);

  const __m256i spread[2] = {_mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2),
                             _mm256_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3)};
  const __m256 rate_weight = _mm256_set1_ps(problem.staircase.rate_weight);
  __m256 costs[2];
  __m256i chosen[2];
  for (int i = 0; i < 2; ++i) {
    const Two two = {_mm256_permutevar8x32_ps(_mm256_castps128_ps256(magnitude), spread[i]),
                     _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(member), spread[i]),
                     _mm256_permutevar8x32_epi32(
                         _mm256_castsi128_si256(_mm_castps_si128(below_zero)), spread[i]),
                     both(bits[i], bits[i + 2]), both(row[i]->zero, row[i + 2]->zero)};
    costs[i] = branches_of(two, rate_weight, chosen[i]);
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(levels), _mm256_packs_epi32(chosen[0], chosen[1]));
  return by_branch(costs[0], costs[1]);
}

// Two states that the same two states lead into, the one's level even where the other's is odd.
struct Butterfly {
  int state[2];    // that are left
  int entered[2];
  int way;         // the first way into entered[0], into entered[1] the other: see `advance`
};

template <int kStates>
constexpr std::array<Butterfly, kStates / 2> butterflies() {
  std::array<Butterfly, kStates / 2> result{};
  constexpr auto kEntries = entries<kStates>();
  int count = 0;
  for (int s = 0; s < kStates; ++s)
    for (int t = s + 1; t < kStates; ++t)
      if (kEntries[s].state[0] == kEntries[t].state[0])
        result[count++] = {{kEntries[s].state[0], kEntries[s].state[1]}, {s, t},
                           kEntries[s].branch[0]};
  return result;
}

// Where a state's costs lie: the two states of a butterfly side by side.
template <int kStates>
constexpr std::array<int, kStates> places() {
  std::array<int, kStates> result{};
  int place = 0;
  for (const Butterfly& one : butterflies<kStates>())
    for (const int state : one.entered) result[state] = place++;
  return result;
}

// Costs of all states, in order of their places, four lanes each.
template <int kStates>
struct alignas(32) Costs {
  float values[kStates][kLanes];
};

// One step of every lane: the cheaper way into every state. taken gets a byte a butterfly: for the
// lanes of one state and then of the other, whether the second way was cheaper.
template <int kStates>
SOFTSTAIR_TARGET inline void advance(const Metrics& metrics, const Costs<kStates>& before,
                                     Costs<kStates>& after, std::uint8_t* taken) {
  static constexpr auto kButterflies = butterflies<kStates>();
  static constexpr auto kPlaces = places<kStates>();
  // Ways into two states at once, by the branch into the first of them.
  const __m256 m[kBranches] = {_mm256_permute2f128_ps(metrics.low, metrics.high, 0x20),
                               _mm256_permute2f128_ps(metrics.low, metrics.high, 0x31),
                               _mm256_permute2f128_ps(metrics.low, metrics.high, 0x02),
                               _mm256_permute2f128_ps(metrics.low, metrics.high, 0x13)};
#pragma GCC unroll 16
  for (int i = 0; i < kStates / 2; ++i) {
    const Butterfly& b = kButterflies[i];
    const __m256 one = _mm256_add_ps(
        _mm256_broadcast_ps(reinterpret_cast<const __m128*>(before.values[kPlaces[b.state[0]]])),
        m[b.way]);
    const __m256 two = _mm256_add_ps(
        _mm256_broadcast_ps(reinterpret_cast<const __m128*>(before.values[kPlaces[b.state[1]]])),
        m[b.way ^ 2]);
    _mm256_store_ps(after.values[2 * i], _mm256_min_ps(one, two));
    taken[i] = static_cast<std::uint8_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(two, one, _CMP_LT_OQ)));
  }
}

template <int kStates>
SOFTSTAIR_TARGET void rebase(Costs<kStates>& costs) {
  __m128 least = _mm_load_ps(costs.values[0]);
  for (const auto& values : costs.values) least = _mm_min_ps(least, _mm_load_ps(values));
  for (auto& values : costs.values) _mm_store_ps(values, _mm_sub_ps(_mm_load_ps(values), least));
}

template <int kStates>
int cheapest(const Costs<kStates>& costs, int lane) {
  static constexpr auto kPlaces = places<kStates>();
  int best = 0;
  for (int s = 1; s < kStates; ++s)
    if (costs.values[kPlaces[s]][lane] < costs.values[kPlaces[best]][lane]) best = s;
  return best;
}

template <int kStates>
SOFTSTAIR_TARGET void viterbi(const Problem& problem, std::int16_t* levels) {
  static constexpr auto kEntries = entries<kStates>();
  static constexpr auto kPlaces = places<kStates>();
  constexpr int kBytes = kStates / 2;
  const std::size_t count = problem.residual.size(), lanes = problem.lanes;
  const std::size_t groups = (count + lanes - 1) / lanes;
  const MergedBits merged(problem.tables, problem.staircase.rate_weight);
  const auto candidates = std::make_unique_for_overwrite<std::int16_t[]>(groups * kLanes * kBranches);
  const auto taken = std::make_unique_for_overwrite<std::uint8_t[]>(groups * kBytes);
  Costs<kStates> costs[2];
  for (auto& values : costs[0].values) std::fill_n(values, kLanes, kFar);
  std::fill_n(costs[0].values[kPlaces[0]], kLanes, 0.0f);
  costs[1] = costs[0];
  Costs<kStates>*before = &costs[0], *after = &costs[1];
  for (std::size_t group = 0; group < groups; ++group) {
    const std::size_t first = group * lanes, here = std::min(lanes, count - first);
    const Metrics metrics = look_at(problem, merged, first, here,
                                    candidates.get() + group * kLanes * kBranches);
    advance<kStates>(metrics, *before, *after, taken.get() + group * kBytes);
    if (group % kRebase == kRebase - 1) rebase<kStates>(*after);
    std::swap(before, after);
  }
  const std::size_t last = groups > 0 ? count - (groups - 1) * lanes : 0;
  int state[kLanes] = {};
  for (std::size_t lane = 0; lane < std::min(lanes, count); ++lane)
    state[lane] = cheapest<kStates>(lane < last ? *before : *after, static_cast<int>(lane));
  for (std::size_t group = groups; group-- > 0;) {
    const std::size_t first = group * lanes, here = std::min(lanes, count - first);
    for (std::size_t lane = 0; lane < here; ++lane) {
      const int place = kPlaces[state[lane]];
      const int way = taken[group * kBytes + place / 2] >> (place % 2 * kLanes + lane) & 1;
      const Entry& entry = kEntries[state[lane]];
      levels[first + lane] = candidates[(group * kLanes + lane) * kBranches + entry.branch[way]];
      state[lane] = entry.state[way];
    }
  }
}

}  // namespace

bool search_avx2(int states, const Problem& problem, std::int16_t* levels) {
  switch (states) {
    case 4: viterbi<4>(problem, levels); break;
    case 8: viterbi<8>(problem, levels); break;
    case 16: viterbi<16>(problem, levels); break;
    default: viterbi<32>(problem, levels);
  }
  return true;
}

}  // namespace softstair

#else

namespace softstair {

bool search_avx2(int, const Problem&, std::int16_t*) { return false; }

}  // namespace softstair

#endif
