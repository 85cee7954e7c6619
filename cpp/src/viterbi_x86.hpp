// SPDX-License-Identifier: Apache-2.0
// What the kernels of the trellis search for x86 share: where a group of latents finds its bits.
#pragma once

#include <immintrin.h>

#include <vector>

#include "viterbi.hpp"

#define SOFTSTAIR_TARGET __attribute__((target("avx2")))

namespace softstair {

constexpr float kNever = 1e30f;
constexpr int kBeyond = 16;  // members of the grid beyond a table that merged ones have as well

// What the members of the fine grid cost, side by side although two quantizers share them: bits of
// the indices 0, 1, .. of positive and of negative latents.
class MergedBits {
 public:
  struct alignas(16) Row {
    float zero[kBranches];  // rate weight times bits of zero, where a branch has it
    std::int32_t start[2];  // of the members of positive and of negative latents
    std::int32_t last;      // of the members with three others behind
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
      const float zero_even = rate_weight * tables.bits(even, 0), zero_odd = rate_weight * tables.bits(odd, 0);
      rows_.push_back({{zero_even, kNever, kNever, zero_odd}, {positive, negative}, members - 4});
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
  float residual[kLanes];
  std::int16_t rows[kLanes];
};

// The latents of a group, one a lane.
struct Latents {
  __m128 magnitude, negative;  // the latter all ones or 0
  __m128i first;               // of the four members of the grid around the magnitude
  const float* bits[kLanes];   // of the members, in order
  const float* zero[kLanes];   // rate weight times bits of zero, by branch
  bool are_far;                // a level may lie outside its table
};

SOFTSTAIR_TARGET inline Latents latents_of(const Problem& problem, const MergedBits& merged, std::size_t group) {
  const float* residual = problem.residual.data() + problem.first(group);
  const std::int16_t* rows = problem.rows.data() + problem.first(group);
  Group some;
  if (const std::size_t here = problem.here(group); here < kLanes) {
    some = {};
    std::copy_n(residual, here, some.residual);
    std::copy_n(rows, here, some.rows);
    residual = some.residual, rows = some.rows;
  }

  Latents four;
  const __m128 raw = _mm_loadu_ps(residual);
  const __m128 value = _mm_and_ps(raw, _mm_cmpord_ps(raw, raw));
  four.magnitude = _mm_min_ps(_mm_andnot_ps(_mm_set1_ps(-0.0f), value), _mm_set1_ps(kLargestMagnitude));
  four.negative = _mm_cmplt_ps(value, _mm_setzero_ps());
  const __m128i floor = _mm_cvttps_epi32(_mm_add_ps(four.magnitude, four.magnitude));
  four.first = _mm_max_epi32(_mm_sub_epi32(floor, _mm_set1_epi32(1)), _mm_setzero_si128());
  alignas(16) std::int32_t first[kLanes];
  _mm_store_si128(reinterpret_cast<__m128i*>(first), four.first);
  const int negative = _mm_movemask_ps(four.negative);
  four.are_far = false;
  for (int lane = 0; lane < kLanes; ++lane) {
    const MergedBits::Row& row = merged.row(rows[lane]);
    four.are_far |= first[lane] > row.last;
    four.bits[lane] = merged.at(row.start[negative >> lane & 1] + first[lane]);
    four.zero[lane] = row.zero;
  }
  return four;
}

// Costs of the branches of a group by the plain function, for latents that are far.
struct alignas(64) FarCosts {
  float of[kLanes][kBranches] = {};

  FarCosts(const Problem& problem, std::size_t group, std::int16_t* levels) {
    for (std::size_t lane = 0; lane < problem.here(group); ++lane)
      branches(problem, problem.first(group) + lane, of[lane], levels + lane * kBranches);
  }
};

}  // namespace softstair
