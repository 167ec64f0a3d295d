// What stands between the matrix products of a Transformer, each in one pass over memory (AVX-512 BF16).
//
// Activations are bfloat16, the residual stream and all sums float32. T tokens, rows of `width` numbers, any width.

#include <cmath>
#include <cstring>

#include "vectors.h"

// s = x + delta (delta may be null: s = x), r = 1/√(mean(s²) + ε), y = s · r · weight. `sum` may be null with `delta`.
extern "C" void treino_norm_forward(long tokens, long width, const float* x, const bf16* delta, const float* weight,
                                    float epsilon, float* sum, bf16* y, float* roots, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long t = 0; t < tokens; ++t) {
    const float* in = x + t * width;
    float* out = delta ? sum + t * width : nullptr;
    __m512 squares = _mm512_setzero_ps();
    for (long i = 0; i < width; i += 16) {
      const __mmask16 m = first_of(width - i);
      __m512 s = _mm512_maskz_loadu_ps(m, in + i);
      if (delta) {
        s = _mm512_add_ps(s, widen(delta + t * width + i, m));
        _mm512_mask_storeu_ps(out + i, m, s);
      }
      squares = _mm512_fmadd_ps(s, s, squares);
    }
    const float root = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / width + epsilon);
    roots[t] = root;
    const float* s = delta ? out : in;
    for (long i = 0; i < width; i += 16) {
      const __mmask16 m = first_of(width - i);
      const __m512 unit = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, s + i), _mm512_set1_ps(root));
      store_narrow(y + t * width + i, _mm512_mul_ps(unit, _mm512_maskz_loadu_ps(m, weight + i)), m);
    }
  }
}

// ds = above + r · (dy · w − ŝ · mean(dy · w · ŝ)), ŝ = s · r; dw = Σ dy · ŝ. `above`, the gradient that reaches s by the
// residual path, may be null; `narrowed`, ds once more in bfloat16 for delta, too. `dweight` is (threads, width).
extern "C" void treino_norm_backward(long tokens, long width, const bf16* dy, const float* above, const float* s,
                                     const float* weight, const float* roots, float* ds, bf16* narrowed, float* dweight,
                                     int threads) {
  std::memset(dweight, 0, threads * width * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int part = 0; part < threads; ++part) {
    float* dw = dweight + part * width;
    for (long t = tokens * part / threads; t < tokens * (part + 1) / threads; ++t) {
      const long at = t * width;
      const __m512 root = _mm512_set1_ps(roots[t]);
      __m512 dot = _mm512_setzero_ps();
      for (long i = 0; i < width; i += 16) {
        const __mmask16 m = first_of(width - i);
        const __m512 unit = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, s + at + i), root);
        const __m512 up = _mm512_mul_ps(widen(dy + at + i, m), unit);
        _mm512_mask_storeu_ps(dw + i, m, _mm512_add_ps(_mm512_maskz_loadu_ps(m, dw + i), up));
        dot = _mm512_fmadd_ps(up, _mm512_maskz_loadu_ps(m, weight + i), dot);
      }
      const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(dot) / width);
      for (long i = 0; i < width; i += 16) {
        const __mmask16 m = first_of(width - i);
        const __m512 unit = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, s + at + i), root);
        const __m512 scaled = _mm512_mul_ps(widen(dy + at + i, m), _mm512_maskz_loadu_ps(m, weight + i));
        __m512 d = _mm512_mul_ps(root, _mm512_fnmadd_ps(unit, mean, scaled));
        if (above) d = _mm512_add_ps(d, _mm512_maskz_loadu_ps(m, above + at + i));
        _mm512_mask_storeu_ps(ds + at + i, m, d);
        if (narrowed) store_narrow(narrowed + at + i, d, m);
      }
    }
  }
}

// y = silu(gate) · up with rows [gate | up] of 2 · width numbers; silu(x) = x · σ(x).
extern "C" void treino_swiglu_forward(long tokens, long width, const bf16* gate_up, bf16* y, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long t = 0; t < tokens; ++t) {
    const bf16 *gate = gate_up + 2 * t * width, *up = gate + width;
    for (long i = 0; i < width; i += 16) {
      const __mmask16 m = first_of(width - i);
      const __m512 g = widen(gate + i, m);
      store_narrow(y + t * width + i, _mm512_mul_ps(_mm512_mul_ps(g, logistic(g)), widen(up + i, m)), m);
    }
  }
}

// dgate = dy · up · σ(g) · (1 + g · (1 − σ(g))), dup = dy · silu(g).
extern "C" void treino_swiglu_backward(long tokens, long width, const bf16* gate_up, const bf16* dy, bf16* gradient,
                                       int threads) {
  const __m512 one = _mm512_set1_ps(1.0f);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long t = 0; t < tokens; ++t) {
    const bf16 *gate = gate_up + 2 * t * width, *up = gate + width;
    bf16 *dgate = gradient + 2 * t * width, *dup = dgate + width;
    for (long i = 0; i < width; i += 16) {
      const __mmask16 m = first_of(width - i);
      const __m512 g = widen(gate + i, m), d = widen(dy + t * width + i, m), s = logistic(g);
      const __m512 slope = _mm512_mul_ps(s, _mm512_fmadd_ps(g, _mm512_sub_ps(one, s), one));
      store_narrow(dgate + i, _mm512_mul_ps(_mm512_mul_ps(d, widen(up + i, m)), slope), m);
      store_narrow(dup + i, _mm512_mul_ps(d, _mm512_mul_ps(g, s)), m);
    }
  }
}

// loss = log Σ exp(z) − z[target] for each row of logits; with `gradients` the row becomes softmax(z) − onehot(target).
// A target outside the vocabulary does not count: loss 0, gradient 0.
extern "C" void treino_cross_entropy(long tokens, long vocabulary, bf16* logits, const int64_t* targets, float* losses,
                                     int gradients, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long t = 0; t < tokens; ++t) {
    bf16* z = logits + t * vocabulary;
    const int64_t target = targets[t];
    if (target < 0 || target >= vocabulary) {
      losses[t] = 0.0f;
      if (gradients) std::memset(z, 0, vocabulary * sizeof(bf16));
      continue;
    }
    const __m512 least = _mm512_set1_ps(-3e38f);
    __m512 top = least;
    for (long i = 0; i < vocabulary; i += 16) {
      const __mmask16 m = first_of(vocabulary - i);
      top = _mm512_max_ps(top, _mm512_mask_mov_ps(least, m, widen(z + i, m)));
    }
    const float greatest = _mm512_reduce_max_ps(top);
    const __m512 less = _mm512_set1_ps(greatest);
    __m512 all = _mm512_setzero_ps();
    for (long i = 0; i < vocabulary; i += 16) {
      const __mmask16 m = first_of(vocabulary - i);
      all = _mm512_mask_add_ps(all, m, all, exponential(_mm512_sub_ps(widen(z + i, m), less)));
    }
    const float logarithm = greatest + std::log(_mm512_reduce_add_ps(all));
    float chosen;
    const uint32_t bits = static_cast<uint32_t>(z[target]) << 16;
    std::memcpy(&chosen, &bits, sizeof chosen);
    losses[t] = logarithm - chosen;
    if (!gradients) continue;
    const __m512 shift = _mm512_set1_ps(logarithm);
    const float share = std::exp(chosen - logarithm);
    for (long i = 0; i < vocabulary; i += 16) {
      const __mmask16 m = first_of(vocabulary - i);
      store_narrow(z + i, exponential(_mm512_sub_ps(widen(z + i, m), shift)), m);
    }
    const float rest = share - 1.0f;
    uint32_t word;
    std::memcpy(&word, &rest, sizeof word);
    z[target] = static_cast<bf16>((word + 0x7fff + ((word >> 16) & 1)) >> 16);
  }
}
