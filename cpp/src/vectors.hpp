// SPDX-License-Identifier: Apache-2.0
// Vectors of 128 bits, which x86-64, arm64 and WebAssembly all have: kernels for the three are one source.
// Elsewhere, and with compilers that have no vector types, SOFTSTAIR_VECTORS is not defined.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(SOFTSTAIR_SIMD) && defined(__GNUC__)
#if defined(__SSE2__)
#define SOFTSTAIR_VECTORS 1
#include <emmintrin.h>
#elif defined(__wasm_simd128__)
#define SOFTSTAIR_VECTORS 1
#include <wasm_simd128.h>
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#define SOFTSTAIR_VECTORS 1
#include <arm_neon.h>
#endif
#endif

#ifdef SOFTSTAIR_VECTORS
namespace softstair {

typedef std::int32_t Four __attribute__((vector_size(16)));
typedef std::int16_t Eight __attribute__((vector_size(16)));

template <typename Vector, typename Value>
inline Vector load(const Value* from) {
  Vector values;
  std::memcpy(&values, from, sizeof values);
  return values;
}
template <typename Vector, typename Value>
inline void store(Value* to, Vector values) {
  std::memcpy(to, &values, sizeof values);
}

inline Four four(std::int32_t value) { return Four{} + value; }
inline Eight eight(std::int32_t value) { return Eight{} + static_cast<std::int16_t>(value); }

// Two int16 that lie side by side, four times.
inline Eight pairs(const std::int16_t* from) {
  std::int32_t pair;
  std::memcpy(&pair, from, sizeof pair);
  return reinterpret_cast<Eight>(four(pair));
}

inline Eight smaller(Eight a, Eight b) { return a < b ? a : b; }
inline Eight larger(Eight a, Eight b) { return a > b ? a : b; }

// multiply_add: a0 b0 + a1 b1, a2 b2 + a3 b3, ..; narrow: both one after the other, saturating; low_pairs: a0 b0 a1 b1 a2
// b2 a3 b3; high_pairs: the same of the other halves; widen: eight bytes.
#if defined(__SSE2__)
inline Four multiply_add(Eight a, Eight b) {
  return reinterpret_cast<Four>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
}
inline Eight narrow(Four a, Four b) {
  return reinterpret_cast<Eight>(_mm_packs_epi32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
}
inline Eight low_pairs(Eight a, Eight b) {
  return reinterpret_cast<Eight>(_mm_unpacklo_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
}
inline Eight high_pairs(Eight a, Eight b) {
  return reinterpret_cast<Eight>(_mm_unpackhi_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
}
inline Eight widen(const std::uint8_t* from) {
  return reinterpret_cast<Eight>(_mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)), _mm_setzero_si128()));
}
#elif defined(__wasm_simd128__)
inline Four multiply_add(Eight a, Eight b) {
  return reinterpret_cast<Four>(wasm_i32x4_dot_i16x8(reinterpret_cast<v128_t>(a), reinterpret_cast<v128_t>(b)));
}
inline Eight narrow(Four a, Four b) {
  return reinterpret_cast<Eight>(wasm_i16x8_narrow_i32x4(reinterpret_cast<v128_t>(a), reinterpret_cast<v128_t>(b)));
}
inline Eight low_pairs(Eight a, Eight b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Eight high_pairs(Eight a, Eight b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
inline Eight widen(const std::uint8_t* from) { return reinterpret_cast<Eight>(wasm_u16x8_load8x8(from)); }
#else
inline Four multiply_add(Eight a, Eight b) {
  const int16x8_t first = reinterpret_cast<int16x8_t>(a), second = reinterpret_cast<int16x8_t>(b);
  return reinterpret_cast<Four>(vpaddq_s32(vmull_s16(vget_low_s16(first), vget_low_s16(second)), vmull_high_s16(first, second)));
}
inline Eight narrow(Four a, Four b) {
  return reinterpret_cast<Eight>(vcombine_s16(vqmovn_s32(reinterpret_cast<int32x4_t>(a)), vqmovn_s32(reinterpret_cast<int32x4_t>(b))));
}
inline Eight low_pairs(Eight a, Eight b) {
  return reinterpret_cast<Eight>(vzip1q_s16(reinterpret_cast<int16x8_t>(a), reinterpret_cast<int16x8_t>(b)));
}
inline Eight high_pairs(Eight a, Eight b) {
  return reinterpret_cast<Eight>(vzip2q_s16(reinterpret_cast<int16x8_t>(a), reinterpret_cast<int16x8_t>(b)));
}
inline Eight widen(const std::uint8_t* from) { return reinterpret_cast<Eight>(vreinterpretq_s16_u16(vmovl_u8(vld1_u8(from)))); }
#endif

}  // namespace softstair
#endif
