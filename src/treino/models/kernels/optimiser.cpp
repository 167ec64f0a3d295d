// AdamW with moments in 8 bits, blocks of 256 (Dettmers et al. 2022): read, updated, applied and rounded again in one pass.

// Products and sums are rounded one after the other, never fused.
#pragma GCC optimize("fp-contract=off")
#pragma STDC FP_CONTRACT OFF

#include "vectors.h"

namespace {

constexpr long BLOCK = 256;

// Index of the nearest of 256 rising codes: how many of the 255 middles between them lie below.
inline __m512i nearest(__m512 x, const float* middles) {
  __m512i found = _mm512_setzero_si512();
  for (int half = 128; half; half /= 2) {
    const __m512 middle = _mm512_i32gather_ps(_mm512_add_epi32(found, _mm512_set1_epi32(half - 1)), middles, 4);
    const __mmask16 above = _mm512_cmp_ps_mask(x, middle, _CMP_GT_OQ);
    found = _mm512_mask_add_epi32(found, above, found, _mm512_set1_epi32(half));
  }
  return found;
}

inline __m512 look_up(const uint8_t* bytes, const float* codes, __mmask16 these) {
  return _mm512_i32gather_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(these, bytes)), codes, 4);
}

// Numbers of a block to bytes of a format; returns the scale. No byte is below `lowest`.
inline float round_block(const float* numbers, long count, const float* middles, int lowest, uint8_t* bytes) {
  __m512 top = _mm512_setzero_ps();
  for (long i = 0; i < count; i += 16) {
    top = _mm512_max_ps(top, _mm512_abs_ps(_mm512_maskz_loadu_ps(first_of(count - i), numbers + i)));
  }
  const float scale = _mm512_reduce_max_ps(top);
  const __m512 factor = _mm512_set1_ps(1.0f / (scale > 1e-38f ? scale : 1e-38f));
  for (long i = 0; i < count; i += 16) {
    const __mmask16 these = first_of(count - i);
    const __m512i code = nearest(_mm512_mul_ps(_mm512_maskz_loadu_ps(these, numbers + i), factor), middles);
    _mm_mask_storeu_epi8(bytes + i, these, _mm512_cvtepi32_epi8(_mm512_max_epi32(code, _mm512_set1_epi32(lowest))));
  }
  return scale;
}

}  // namespace

struct Moment {
  uint8_t* bytes;
  float* scales;
  const float* codes;
  const float* middles;
  float beta, rest;  // β and 1 − β
};

// parameter ← (1 − shrink) · parameter − rate · m / (√v / root + ε), after m and v took the gradient in.
extern "C" void treino_adamw8_step(long count, float* parameter, const float* gradient, const Moment* first,
                                   const Moment* second, float rate, float root, float epsilon, float shrink, int threads) {
  const long blocks = (count + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long block = 0; block < blocks; ++block) {
    alignas(64) float m[BLOCK], v[BLOCK];
    const long begin = block * BLOCK, here = count - begin < BLOCK ? count - begin : BLOCK;
    const __m512 m_scale = _mm512_set1_ps(first->scales[block]), v_scale = _mm512_set1_ps(second->scales[block]);
    for (long i = 0; i < here; i += 16) {
      const __mmask16 these = first_of(here - i);
      const __m512 g = _mm512_maskz_loadu_ps(these, gradient + begin + i);
      const __m512 old_m = _mm512_mul_ps(look_up(first->bytes + begin + i, first->codes, these), m_scale);
      const __m512 old_v = _mm512_mul_ps(look_up(second->bytes + begin + i, second->codes, these), v_scale);
      const __m512 new_m = _mm512_add_ps(_mm512_mul_ps(old_m, _mm512_set1_ps(first->beta)),
                                         _mm512_mul_ps(g, _mm512_set1_ps(first->rest)));
      const __m512 new_v = _mm512_add_ps(_mm512_mul_ps(old_v, _mm512_set1_ps(second->beta)),
                                         _mm512_mul_ps(_mm512_mul_ps(g, g), _mm512_set1_ps(second->rest)));
      _mm512_store_ps(m + i, _mm512_maskz_mov_ps(these, new_m));
      _mm512_store_ps(v + i, _mm512_maskz_mov_ps(these, new_v));
      const __m512 size = _mm512_add_ps(_mm512_div_ps(_mm512_sqrt_ps(new_v), _mm512_set1_ps(root)), _mm512_set1_ps(epsilon));
      const __m512 p = _mm512_maskz_loadu_ps(these, parameter + begin + i);
      const __m512 step = _mm512_add_ps(_mm512_mul_ps(_mm512_div_ps(new_m, size), _mm512_set1_ps(rate)),
                                        _mm512_mul_ps(p, _mm512_set1_ps(shrink)));
      _mm512_mask_storeu_ps(parameter + begin + i, these, _mm512_sub_ps(p, step));
    }
    first->scales[block] = round_block(m, here, first->middles, 0, first->bytes + begin);
    second->scales[block] = round_block(v, here, second->middles, 1, second->bytes + begin);
  }
}
