// 4-bit NormalFloat weights back to bfloat16 (Dettmers et al. 2023): sixteen values looked up in a register.

// Products and sums are rounded one after the other, as elsewhere, never fused.
#pragma GCC optimize("fp-contract=off")
#pragma STDC FP_CONTRACT OFF

#include "vectors.h"

// Two values a byte, the earlier one in its upper half; blocks of 64 values share a scale, and a scale is a byte that stands
// for table[byte] · coarse[block / 256] + offset. values[i] = code[nibble i] · scale. `blocks` whole blocks.
extern "C" void treino_nf4_widen(long blocks, const uint8_t* nibbles, const uint8_t* scales, const float* coarse,
                                 float offset, const float* code, const float* table, bf16* values, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long block = 0; block < blocks; ++block) {
    const __m512 numbers = _mm512_loadu_ps(code);
    const __m512 scale = _mm512_set1_ps(table[scales[block]] * coarse[block / 256] + offset);
    const __m128i low_half = _mm_set1_epi8(15);
    for (long i = 0; i < 64; i += 32) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(nibbles + block * 32 + i / 2));
      const __m128i upper = _mm_and_si128(_mm_srli_epi16(bytes, 4), low_half), lower = _mm_and_si128(bytes, low_half);
      const __m128i in_order[] = {_mm_unpacklo_epi8(upper, lower), _mm_unpackhi_epi8(upper, lower)};
      for (long half = 0; half < 2; ++half) {
        const __m512 found = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(in_order[half]), numbers);
        store_narrow(values + block * 64 + i + 16 * half, _mm512_mul_ps(found, scale));
      }
    }
  }
}
