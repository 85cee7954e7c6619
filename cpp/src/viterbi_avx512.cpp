// SPDX-License-Identifier: Apache-2.0
// The trellis search with vectors of eight states, and of all branches of a group: the same additions and
// comparisons in the same order as the portable one, so that it finds the same levels.
#include "layers.hpp"
#include "viterbi.hpp"

#if defined(SOFTSTAIR_SIMD) && defined(__x86_64__) && defined(__GNUC__)
#ifndef __clang__  // the intrinsics of GCC 12 copy undefined vectors, and it warns of that
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include "viterbi_x86.hpp"

#define SOFTSTAIR_WIDE __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))

namespace softstair {
namespace {

constexpr int kWide = 8;  // states of a vector

// The states k below a quarter of all stand for four each: k, k ^ h0 / 2, and these two ^ h1 / 2, which lie in the
// first, the third, the second and the last quarter. The costs of two states with the same ways on, one of the lower
// half and one of the upper, have the same place in their vectors. The ways into 16 states of four k fill 64 bits.
template <int kStates>
struct WideLayout {
  static constexpr int kEven = next_state(kStates, 1, 0), kOdd = next_state(kStates, 0, 1);
  static constexpr int kHalf = kStates / 2, kQuarter = kStates / 4, kTurn = 2 * kOdd % kWide;
  static constexpr int kWords = kStates * kLanes / 16, kWordOfLane = 0, kBitOfLane = 1;
  static_assert((kEven & (kHalf | kQuarter)) == kHalf && (kOdd & (kHalf | kQuarter)) == kQuarter);

  static constexpr int slot(int state) { return state & kHalf ? state ^ kTurn : state; }

  static constexpr std::array<Taken, kStates> places() {
    std::array<Taken, kStates> result{};
    for (int k = 0; k < kQuarter; ++k)
      for (int far = 0; far < 2; ++far)
        for (int odd = 0; odd < 2; ++odd) {
          const int bit = (far * kWide + 2 * (k % 4) + odd) * kLanes;
          result[k ^ (odd ? kEven : 0) ^ (far ? kOdd : 0)] = {k / 4 * 4 + bit / 16, bit % 16};
        }
    return result;
  }
};

// Costs of the branches from states 2k .. 2k + 7 of all lanes: those to k .. k + 3 and these ^ h0 / 2 from the eight,
// and from the other eight that lead there.
struct WideWays {
  __m512i near, far;
};

SOFTSTAIR_WIDE inline __m512i four_times(__m128i values) { return _mm512_broadcast_i32x4(values); }

SOFTSTAIR_WIDE inline __m512 all_four(const float* const (&of)[kLanes]) {
  __m512 result = _mm512_castps128_ps512(_mm_loadu_ps(of[0]));
  result = _mm512_insertf32x4(result, _mm_loadu_ps(of[1]), 1);
  result = _mm512_insertf32x4(result, _mm_loadu_ps(of[2]), 2);
  return _mm512_insertf32x4(result, _mm_loadu_ps(of[3]), 3);
}

// Costs of the branches of a group, latent by latent; levels receives theirs.
SOFTSTAIR_WIDE inline __m512 branches_of(const Latents& four, float rate_weight, std::int16_t* levels) {
  const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  const __m512i branch = four_times(_mm_setr_epi32(0, 1, 2, 3));
  const __m512i quantizer = four_times(_mm_setr_epi32(0, 1, 0, 1));
  const __m512 steps = _mm512_mul_ps(_mm512_set1_ps(0.5f), _mm512_cvtepi32_ps(branch));
  const __m512 magnitude = _mm512_permutexvar_ps(lane, _mm512_castps128_ps512(four.magnitude));
  const __m512i first = _mm512_permutexvar_epi32(lane, _mm512_castsi128_si512(four.first));
  const __mmask16 negative = _mm512_movepi32_mask(
      _mm512_permutexvar_epi32(lane, _mm512_castsi128_si512(_mm_castps_si128(four.negative))));
  const __m512 at = _mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(0.5f), _mm512_cvtepi32_ps(first)), steps);
  const __m512 error = _mm512_sub_ps(magnitude, at);
  const __m512 rate = _mm512_mul_ps(_mm512_set1_ps(rate_weight), all_four(four.bits));
  const __m512 in_order = _mm512_add_ps(_mm512_mul_ps(error, error), rate);
  // Members lie in order of their index, branches are indices modulo 4.
  const __m512i turn = _mm512_sub_epi32(branch, first);
  const __m512 cost = _mm512_permutevar_ps(in_order, turn);
  const __m512 zero = _mm512_add_ps(_mm512_mul_ps(magnitude, magnitude), all_four(four.zero));
  const __m512i index = _mm512_add_epi32(first, _mm512_and_si512(turn, _mm512_set1_epi32(3)));
  const __m512i level = _mm512_srai_epi32(_mm512_add_epi32(index, quantizer), 1);
  const __m512i with_sign = _mm512_mask_sub_epi32(level, negative, _mm512_setzero_si512(), level);
  const __mmask16 is_zero = _mm512_cmp_ps_mask(zero, cost, _CMP_LT_OQ);
  const __m512i chosen = _mm512_mask_mov_epi32(with_sign, is_zero, _mm512_setzero_si512());
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(levels), _mm512_cvtepi32_epi16(chosen));
  return _mm512_min_ps(zero, cost);
}

// The branches of a group where a level may lie outside its table.
SOFTSTAIR_WIDE __attribute__((noinline)) __m512 far_out(const Problem& problem, std::size_t group,
                                                        std::int16_t* levels) {
  const FarCosts cost(problem, group, levels);
  return _mm512_load_ps(cost.of);
}

// Where two branches of all latents lie in turn.
SOFTSTAIR_WIDE inline __m512i places_of(int one, int other) {
  alignas(64) std::int16_t places[kWide * kLanes];
  for (int i = 0; i < kWide * kLanes; ++i)
    places[i] = static_cast<std::int16_t>(i % kLanes * kBranches + (i / kLanes % 2 ? other : one));
  return _mm512_load_si512(places);
}

// Metrics in units, where they are added.
SOFTSTAIR_WIDE inline WideWays in_units(__m512 cost) {
  const __m512 of_two = _mm512_min_ps(cost, _mm512_permute_ps(cost, _MM_SHUFFLE(2, 3, 0, 1)));
  const __m512 least = _mm512_min_ps(of_two, _mm512_permute_ps(of_two, _MM_SHUFFLE(1, 0, 3, 2)));
  const __m512 scaled = _mm512_add_ps(_mm512_mul_ps(_mm512_sub_ps(cost, least), _mm512_set1_ps(kCostUnit)),
                                      _mm512_set1_ps(0.5f));
  const __m512i units = _mm512_cvttps_epi32(_mm512_min_ps(scaled, _mm512_set1_ps(kMostCost)));
  const __m512i all = _mm512_castsi256_si512(_mm512_cvtepi32_epi16(units));
  return {_mm512_permutexvar_epi16(places_of(0, 3), all), _mm512_permutexvar_epi16(places_of(2, 1), all)};
}

// Every second of the states in two vectors, in the order of their numbers ^ turn.
SOFTSTAIR_WIDE inline __m512i every_second(int from, int turn) {
  alignas(64) std::int64_t places[kWide];
  for (int i = 0; i < kWide; ++i) places[i] = 2 * (i ^ turn % kWide) + from;
  return _mm512_load_si512(places);
}

// The steps of the search with vectors of eight states.
class Avx512 {
 public:
  using Metrics = WideWays;
  template <int kStates>
  using Lay = WideLayout<kStates>;

  explicit Avx512(const Problem& problem)
      : problem_(problem), merged_(problem.tables, problem.staircase.rate_weight) {}

  SOFTSTAIR_WIDE void look_at(std::size_t group, std::size_t groups, WideWays* ways,
                              std::int16_t* candidates) const {
    for (std::size_t i = 0; i < groups; ++i, candidates += kLanes * kBranches) {
      const Latents four = latents_of(problem_, merged_, group + i);
      ways[i] = in_units(four.are_far ? far_out(problem_, group + i, candidates)
                                      : branches_of(four, problem_.staircase.rate_weight, candidates));
    }
  }

  template <int kStates>
  SOFTSTAIR_WIDE void advance(const WideWays& ways, const Costs<kStates>& before, Costs<kStates>& after,
                              std::uint16_t* taken) const {
    using L = Lay<kStates>;
    const __m512i near = ways.near, far = ways.far;
    const __m512i even = every_second(0, 0), even_far = every_second(0, L::kOdd);
    const __m512i odd = every_second(1, L::kEven ^ L::kTurn);
    const __m512i odd_far = every_second(1, L::kEven ^ L::kOdd ^ L::kTurn);
#pragma GCC unroll 16
    for (int k = 0; k < L::kQuarter; k += kWide) {
      __m512i to_near[2], to_far[2];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i, taken += 4) {
        const int state = 2 * k + i * kWide;
        const __m512i low = _mm512_load_si512(before.values[state]);
        const __m512i high = _mm512_load_si512(before.values[(state ^ 2 * L::kOdd) & -kWide]);
        const __m512i near_low = _mm512_add_epi16(low, near), near_high = _mm512_add_epi16(high, far);
        const __m512i far_low = _mm512_add_epi16(low, far), far_high = _mm512_add_epi16(high, near);
        const __mmask32 near_taken = _mm512_cmpgt_epi16_mask(near_low, near_high);
        const __mmask32 far_taken = _mm512_cmpgt_epi16_mask(far_low, far_high);
        _store_mask64(reinterpret_cast<__mmask64*>(taken), _mm512_kunpackd(far_taken, near_taken));
        to_near[i] = _mm512_min_epi16(near_low, near_high);
        to_far[i] = _mm512_min_epi16(far_low, far_high);
      }
      put(after, k, to_near, even);
      put(after, k ^ L::kEven, to_near, odd);
      put(after, k ^ L::kOdd, to_far, even_far);
      put(after, k ^ L::kEven ^ L::kOdd, to_far, odd_far);
    }
  }

  template <int kStates>
  SOFTSTAIR_WIDE void rebase(Costs<kStates>& costs) const {
    auto* all = reinterpret_cast<__m512i*>(costs.values);
    __m512i least = all[0], other = all[1];  // two chains of minima
    for (int i = 2; i < kStates / kWide; i += 2) {
      least = _mm512_min_epi16(least, all[i]);
      other = _mm512_min_epi16(other, all[i + 1]);
    }
    least = _mm512_min_epi16(least, other);
    least = _mm512_min_epi16(least, _mm512_shuffle_i64x2(least, least, _MM_SHUFFLE(1, 0, 3, 2)));
    least = _mm512_min_epi16(least, _mm512_permutex_epi64(least, _MM_SHUFFLE(1, 0, 3, 2)));
    least = _mm512_min_epi16(least, _mm512_permutex_epi64(least, _MM_SHUFFLE(2, 3, 0, 1)));
    const __m512i change = _mm512_sub_epi16(least, _mm512_set1_epi16(kLeast));
    for (int i = 0; i < kStates / kWide; ++i) all[i] = _mm512_sub_epi16(all[i], change);
  }

 private:
  // Costs of every second state of two vectors to the eight states around one.
  template <int kStates>
  SOFTSTAIR_WIDE static void put(Costs<kStates>& after, int state, const __m512i (&sums)[2], __m512i order) {
    _mm512_store_si512(after.values[state & -kWide], _mm512_permutex2var_epi64(sums[0], order, sums[1]));
  }

  const Problem& problem_;
  MergedBits merged_;
};

}  // namespace

bool search_avx512(int states, const Problem& problem, std::int16_t* levels) {
  constexpr int kMany = 512;  // with fewer, steps are too short to fill such vectors
  if (states != kMany || !wide_simd_available()) return false;
  Avx512 kernel(problem);
  viterbi<kMany>(kernel, problem, levels);
  return true;
}

}  // namespace softstair

#else

namespace softstair {

bool search_avx512(int, const Problem&, std::int16_t*) { return false; }

}  // namespace softstair

#endif
