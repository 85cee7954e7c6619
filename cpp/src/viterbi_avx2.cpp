// SPDX-License-Identifier: Apache-2.0
// The trellis search with vectors of sixteen 16-bit costs: the same additions and comparisons in the same
// order as the portable one, so that it finds the same levels.
#include "viterbi.hpp"

#if defined(SOFTSTAIR_SIMD) && defined(__x86_64__) && defined(__GNUC__)
#include "layers.hpp"
#include "viterbi_x86.hpp"

namespace softstair {
namespace {

// Costs of branches 0 and 1 and of branches 2 and 3, each of all lanes.
struct BranchCosts {
  __m256 low, high;
};

// Costs of the branches from states 2k and 2k + 1, twice, of all lanes: those to k and k ^ h0 / 2 from the
// two, and from the other two that lead there.
struct Ways {
  __m256i near, far;
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
SOFTSTAIR_TARGET inline BranchCosts by_branch(__m256 a, __m256 b) {
  const __m256d low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
  const __m256d high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
  constexpr int kMiddleSwapped = 0xD8;
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(low, kMiddleSwapped)),
          _mm256_castpd_ps(_mm256_permute4x64_pd(high, kMiddleSwapped))};
}

// The branches of a group where a level may lie outside its table.
SOFTSTAIR_TARGET __attribute__((noinline)) BranchCosts far_out(const Problem& problem, std::size_t group,
                                                               std::int16_t* levels) {
  const FarCosts cost(problem, group, levels);
  return by_branch(both(cost.of[0], cost.of[2]), both(cost.of[1], cost.of[3]));
}

// The branches of a group of latents.
SOFTSTAIR_TARGET inline BranchCosts look_at(const Problem& problem, const MergedBits& merged, std::size_t group,
                                            std::int16_t* levels) {
  const Latents four = latents_of(problem, merged, group);
  if (four.are_far) return far_out(problem, group, levels);
  const __m256i spread[2] = {_mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2),
                             _mm256_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3)};
  const __m256 rate_weight = _mm256_set1_ps(problem.staircase.rate_weight);
  __m256 costs[2];
  __m256i chosen[2];
  for (int i = 0; i < 2; ++i) {
    const Two two = {_mm256_permutevar8x32_ps(_mm256_castps128_ps256(four.magnitude), spread[i]),
                     _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(four.first), spread[i]),
                     _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(_mm_castps_si128(four.negative)), spread[i]),
                     both(four.bits[i], four.bits[i + 2]), both(four.zero[i], four.zero[i + 2])};
    costs[i] = branches_of(two, rate_weight, chosen[i]);
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(levels), _mm256_packs_epi32(chosen[0], chosen[1]));
  return by_branch(costs[0], costs[1]);
}

SOFTSTAIR_TARGET inline __m256i in_units(__m256 cost, __m256 least) {
  const __m256 scaled = _mm256_add_ps(_mm256_mul_ps(_mm256_sub_ps(cost, least), _mm256_set1_ps(kCostUnit)),
                                      _mm256_set1_ps(0.5f));
  return _mm256_cvttps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(kMostCost)));
}

// Metrics in units, where they are added.
SOFTSTAIR_TARGET inline Ways in_units(const BranchCosts& costs) {
  const __m256 least_of_two = _mm256_min_ps(costs.low, costs.high);
  const __m256 least = _mm256_min_ps(least_of_two, _mm256_permute2f128_ps(least_of_two, least_of_two, 1));
  const __m256i all = _mm256_packs_epi32(in_units(costs.low, least), in_units(costs.high, least));  // 0, 2, 1, 3
  return {_mm256_permute4x64_epi64(all, _MM_SHUFFLE(3, 0, 3, 0)),   // 0, 3, 0, 3
          _mm256_permute4x64_epi64(all, _MM_SHUFFLE(2, 1, 2, 1))};  // 2, 1, 2, 1
}

inline __m128i* at(std::int16_t (*values)[kLanes], int state) {
  return reinterpret_cast<__m128i*>(values[state]);
}

// The steps of the search with vectors of four states.
class Avx2 {
 public:
  using Metrics = Ways;
  template <int kStates>
  using Lay = Layout<kStates>;

  explicit Avx2(const Problem& problem)
      : problem_(problem), merged_(problem.tables, problem.staircase.rate_weight) {}

  SOFTSTAIR_TARGET void look_at(std::size_t group, std::size_t groups, Ways* ways, std::int16_t* candidates) const {
    for (std::size_t i = 0; i < groups; ++i, candidates += kLanes * kBranches)
      ways[i] = in_units(softstair::look_at(problem_, merged_, group + i, candidates));
  }

  template <int kStates>
  SOFTSTAIR_TARGET void advance(const Ways& ways, const Costs<kStates>& before, Costs<kStates>& after,
                                std::uint16_t* taken) const {
    if constexpr (kStates == 4) return advance_of_four(ways, before, after, taken);
    using Lay = Layout<std::max(kStates, 8)>;
    // States k, k ^ even, k + 1, (k + 1) ^ even to their places: two neighbours, and two neighbours.
    constexpr int kSame = _MM_SHUFFLE(3, 1, 2, 0), kLaterSwapped = _MM_SHUFFLE(1, 3, 2, 0);
    constexpr int kEarlierSwapped = _MM_SHUFFLE(3, 1, 0, 2), kBothSwapped = _MM_SHUFFLE(1, 3, 0, 2);
    constexpr bool kEvenSwaps = Lay::kEven & 1, kOddSwaps = Lay::kOdd & 1;
    constexpr int kOfNear = kEvenSwaps ? kLaterSwapped : kSame;
    constexpr int kOfFar = kOddSwaps ? (kEvenSwaps ? kEarlierSwapped : kBothSwapped)
                                     : (kEvenSwaps ? kLaterSwapped : kSame);
    for (int block = 0; block < Lay::kSteps; block += Lay::kBlock) {
      __m256i near_taken = _mm256_setzero_si256(), far_taken = _mm256_setzero_si256();
#pragma GCC unroll 16
      for (int step = block; step < block + Lay::kBlock; ++step) {
        const int k = Lay::first(step);
        const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(before.values[2 * k]));
        __m256i high = _mm256_load_si256(
            reinterpret_cast<const __m256i*>(before.values[(2 * k) ^ (2 * Lay::kOdd & ~3)]));
        if (kOddSwaps) high = _mm256_permute4x64_epi64(high, _MM_SHUFFLE(1, 0, 3, 2));
        const __m256i to_near = _mm256_add_epi16(low, ways.near), or_near = _mm256_add_epi16(high, ways.far);
        const __m256i to_far = _mm256_add_epi16(low, ways.far), or_far = _mm256_add_epi16(high, ways.near);
        // Twice the bits so far, and one more: a comparison that holds is -1.
        near_taken = _mm256_sub_epi16(_mm256_add_epi16(near_taken, near_taken), _mm256_cmpgt_epi16(to_near, or_near));
        far_taken = _mm256_sub_epi16(_mm256_add_epi16(far_taken, far_taken), _mm256_cmpgt_epi16(to_far, or_far));
        const __m256i near = _mm256_permute4x64_epi64(_mm256_min_epi16(to_near, or_near), kOfNear);
        const __m256i far = _mm256_permute4x64_epi64(_mm256_min_epi16(to_far, or_far), kOfFar);
        _mm_store_si128(at(after.values, k), _mm256_castsi256_si128(near));
        _mm_store_si128(at(after.values, (k ^ Lay::kEven) & ~1), _mm256_extracti128_si256(near, 1));
        _mm_store_si128(at(after.values, (k ^ Lay::kOdd) & ~1), _mm256_castsi256_si128(far));
        _mm_store_si128(at(after.values, (k ^ Lay::kEven ^ Lay::kOdd) & ~1), _mm256_extracti128_si256(far, 1));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(taken), near_taken);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(taken + 16), far_taken);
      taken += 32;
    }
  }

  template <int kStates>
  SOFTSTAIR_TARGET void rebase(Costs<kStates>& costs) const {
    auto* all = reinterpret_cast<__m256i*>(costs.values);
    __m256i least = all[0];
    for (int i = 1; i < kStates / 4; ++i) least = _mm256_min_epi16(least, all[i]);
    least = _mm256_min_epi16(least, _mm256_permute4x64_epi64(least, _MM_SHUFFLE(2, 3, 0, 1)));
    least = _mm256_min_epi16(least, _mm256_permute4x64_epi64(least, _MM_SHUFFLE(1, 0, 3, 2)));
    const __m256i change = _mm256_sub_epi16(least, _mm256_set1_epi16(kLeast));
    for (int i = 0; i < kStates / 4; ++i) all[i] = _mm256_sub_epi16(all[i], change);
  }

 private:
  // Half a vector is all there is.
  SOFTSTAIR_TARGET static void advance_of_four(const Ways& ways, const Costs<4>& before, Costs<4>& after,
                                               std::uint16_t* taken) {
    const __m128i near = _mm256_castsi256_si128(ways.near), far = _mm256_castsi256_si128(ways.far);
    const __m128i low = _mm_load_si128(reinterpret_cast<const __m128i*>(before.values[0]));
    const __m128i high = _mm_load_si128(reinterpret_cast<const __m128i*>(before.values[2]));
    const __m128i to_even = _mm_add_epi16(low, near), or_even = _mm_add_epi16(high, far);  // states 0 and 2
    const __m128i to_odd = _mm_add_epi16(low, far), or_odd = _mm_add_epi16(high, near);    // states 1 and 3
    const __m128i even = _mm_min_epi16(to_even, or_even), odd = _mm_min_epi16(to_odd, or_odd);
    const __m128i even_taken = _mm_srli_epi16(_mm_cmpgt_epi16(to_even, or_even), 15);
    const __m128i odd_taken = _mm_srli_epi16(_mm_cmpgt_epi16(to_odd, or_odd), 15);
    _mm_store_si128(at(after.values, 0), _mm_unpacklo_epi64(even, odd));
    _mm_store_si128(at(after.values, 2), _mm_unpackhi_epi64(even, odd));
    auto* bits = reinterpret_cast<__m128i*>(taken);
    _mm_storeu_si128(bits, _mm_unpacklo_epi64(even_taken, odd_taken));
    _mm_storeu_si128(bits + 1, _mm_unpackhi_epi64(even_taken, odd_taken));
  }

  const Problem& problem_;
  MergedBits merged_;
};

}  // namespace

bool search_avx2(int states, const Problem& problem, std::int16_t* levels) {
  if (!simd_available()) return false;
  Avx2 kernel(problem);
  with_states(states, [&](auto count) { viterbi<count()>(kernel, problem, levels); });
  return true;
}

}  // namespace softstair

#else

namespace softstair {

bool search_avx2(int, const Problem&, std::int16_t*) { return false; }

}  // namespace softstair

#endif
