// Sixteen floats at a time, and bfloat16 to and from them.

#pragma once

#include <immintrin.h>

#include <cstdint>
#include <new>

using bf16 = uint16_t;
using pair = uint32_t;  // two bfloat16 that a product sums

// Memory of one thread, aligned for whole registers.
template <class T>
struct Buffer {
  explicit Buffer(long count) : data(static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64)))) {}
  ~Buffer() { ::operator delete(data, std::align_val_t(64)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* const data;
};

inline __m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }

inline __m512 widen(const bf16* from) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }

inline __m256i narrow(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

inline void store_narrow(bf16* to, __m512 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow(x)); }

// Loads and stores of the last n < 16 numbers of a row.
inline __mmask16 first_of(long n) { return n >= 16 ? 0xffff : static_cast<__mmask16>((1u << n) - 1); }

inline __m512 widen(const bf16* from, __mmask16 these) { return widen(_mm256_maskz_loadu_epi16(these, from)); }

inline void store_narrow(bf16* to, __m512 x, __mmask16 these) { _mm256_mask_storeu_epi16(to, these, narrow(x)); }

// eˣ = 2ⁿ · 2ᶠ with |f| ≤ 1/2 and a polynomial of degree 4 for 2ᶠ: relative error below 3e-6, far under bfloat16's 4e-3.
inline __m512 exponential(__m512 x) {
  const __m512 t = _mm512_mul_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(1.44269504f));
  const __m512 n = _mm512_roundscale_ps(t, 0);
  const __m512 f = _mm512_sub_ps(t, n);
  __m512 p = _mm512_set1_ps(9.5701e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.591786e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4024745e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9312181e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.9999926e-1f));
  return _mm512_scalef_ps(p, n);
}

// 1 / x by the processor's estimate (14 bits) and a Newton step: relative error below 1e-7.
inline __m512 reciprocal(__m512 x) {
  const __m512 guess = _mm512_rcp14_ps(x);
  return _mm512_mul_ps(guess, _mm512_fnmadd_ps(x, guess, _mm512_set1_ps(2.0f)));
}

// 1 / (1 + e⁻ˣ), of x ≥ −87: below, e⁻ˣ would become ∞ and its reciprocal 0 · ∞.
inline __m512 logistic(__m512 x) {
  const __m512 less = _mm512_min_ps(_mm512_set1_ps(87.0f), _mm512_sub_ps(_mm512_setzero_ps(), x));
  return reciprocal(_mm512_add_ps(_mm512_set1_ps(1.0f), exponential(less)));
}

// Sixteen registers of sixteen 32-bit values: rows become columns.
inline void transpose16(__m512i r[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}
