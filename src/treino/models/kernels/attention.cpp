// Causal attention over packed documents in bfloat16, with rotary positions, forward and backward (AVX-512 BF16).
//
// O = softmax(scale · R(Q) R(K)ᵀ + mask) V, where R rotates each pair (x_i, x_{i+d/2}) by its place's angle (or is the
// identity), and place i sees places first[i] … i. Sums are float32, products bfloat16. Scores are never stored: the
// backward pass computes them again from Q, K and the logarithm of each softmax's sum (Dao et al. 2022, arXiv 2205.14135).
//
// Everything is padded to blocks of 64 places in buffers of one thread, so any length will do. A product A · B reads A row
// by row and B as 32-bit pairs of neighbours along the summed dimension, which is what VDPBF16PS multiplies and adds.

#include <cmath>
#include <cstring>

#include "vectors.h"

namespace {

constexpr long BLOCK = 64;   // places of a block of queries or keys
constexpr long PANEL = 512;  // keys whose scores exist at a time in the forward pass
constexpr float NOTHING = -1e30f;

// C[R × 16V] = or += A[R × 2·pairs] · B; the whole of C stays in registers.
template <int R, int V, bool ADD>
inline void tile(const bf16* a, long lda, const pair* b, long ldb, float* c, long ldc, long pairs) {
  __m512 sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = ADD ? _mm512_loadu_ps(c + r * ldc + 16 * v) : _mm512_setzero_ps();
  for (long k = 0; k < pairs; ++k) {
    __m512bh right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = (__m512bh)_mm512_loadu_si512(b + k * ldb + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      int both;
      std::memcpy(&both, a + r * lda + 2 * k, sizeof both);
      const __m512bh left = (__m512bh)_mm512_set1_epi32(both);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + r * ldc + 16 * v, sum[r][v]);
}

template <int V, bool ADD>
inline void strip(const bf16* a, long lda, const pair* b, long ldb, float* c, long ldc, long rows, long pairs) {
  long r = 0;
  for (; r + 6 <= rows; r += 6) tile<6, V, ADD>(a + r * lda, lda, b, ldb, c + r * ldc, ldc, pairs);
  for (; r + 2 <= rows; r += 2) tile<2, V, ADD>(a + r * lda, lda, b, ldb, c + r * ldc, ldc, pairs);
}

// C[rows × columns] = or += A[rows × 2·pairs] · B; rows even, columns a multiple of 32.
template <bool ADD>
inline void product(const bf16* a, long lda, const pair* b, long ldb, float* c, long ldc, long rows, long columns,
                    long pairs) {
  long j = 0;
  for (; j + 64 <= columns; j += 64) strip<4, ADD>(a, lda, b + j, ldb, c + j, ldc, rows, pairs);
  if (j < columns) strip<2, ADD>(a, lda, b + j, ldb, c + j, ldc, rows, pairs);
}

// (places, D) → pairs (D/2, places): neighbours along D side by side, for sums over D.
template <int D>
void pairs_along_width(pair* to, const bf16* from, long places) {
  for (long t = 0; t < places; t += 16)
    for (long d = 0; d < D / 2; d += 16) {
      __m512i r[16];
      for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(from + (t + i) * D + 2 * d);
      transpose16(r);
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + (d + i) * places + t, r[i]);
    }
}

// (places, D) → pairs (places/2, D): neighbouring places side by side, for sums over places.
template <int D>
void pairs_along_places(pair* to, const bf16* from, long places) {
  for (long t = 0; t < places; t += 2)
    for (int d = 0; d < D; d += 16) {
      const auto even = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + t * D + d));
      const auto odd = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + (t + 1) * D + d));
      _mm512_storeu_si512(to + t / 2 * D + d, _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                                                              _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16)));
    }
}

// Pairs (D/2, places) → (D, places): the transposed matrix, row by row.
template <int D>
void transposed(bf16* to, const pair* from, long places) {
  for (int d = 0; d < D / 2; ++d)
    for (long t = 0; t < places; t += 16) {
      const __m512i both = _mm512_loadu_si512(from + d * places + t);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2 * d * places + t), _mm512_cvtepi32_epi16(both));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (2 * d + 1) * places + t),
                          _mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16)));
    }
}

struct Problem {
  long rows, length, heads, kv_heads, size;
  long q[3], k[3], v[3];  // strides of row, place, head
  long rotation;          // stride of a row in the tables of cosines and sines, (rows or 1, length, size/2)
  float scale;
  const int32_t* first;  // (rows, length)
  const float* cosine;   // null: no rotation
  const float* sine;
  int threads;

  long padded() const { return (length + BLOCK - 1) / BLOCK * BLOCK; }
  long group() const { return heads / kv_heads; }
};

// Copy the rows of one head, rotated by `sign` · angle, and fill up with zeros.
template <int D>
void load_rows(bf16* to, const bf16* from, long stride, long count, long padded, const float* cosine, const float* sine) {
  for (long t = 0; t < count; ++t, from += stride, to += D) {
    if (!cosine) {
      std::memcpy(to, from, D * sizeof(bf16));
      continue;
    }
    for (int d = 0; d < D / 2; d += 16) {
      const __m512 a = widen(from + d), b = widen(from + D / 2 + d);
      const __m512 c = _mm512_loadu_ps(cosine + t * (D / 2) + d), s = _mm512_loadu_ps(sine + t * (D / 2) + d);
      store_narrow(to + d, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
      store_narrow(to + D / 2 + d, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
  }
  std::memset(to, 0, (padded - count) * D * sizeof(bf16));
}

// Write float rows as bfloat16, rotated back.
template <int D>
void store_rows(bf16* to, long stride, const float* from, long count, const float* cosine, const float* sine) {
  for (long t = 0; t < count; ++t, from += D, to += stride) {
    for (int d = 0; d < D / 2; d += 16) {
      const __m512 a = _mm512_loadu_ps(from + d), b = _mm512_loadu_ps(from + D / 2 + d);
      if (!cosine) {
        store_narrow(to + d, a);
        store_narrow(to + D / 2 + d, b);
        continue;
      }
      const __m512 c = _mm512_loadu_ps(cosine + t * (D / 2) + d), s = _mm512_loadu_ps(sine + t * (D / 2) + d);
      store_narrow(to + d, _mm512_fmadd_ps(a, c, _mm512_mul_ps(b, s)));
      store_narrow(to + D / 2 + d, _mm512_fmsub_ps(b, c, _mm512_mul_ps(a, s)));
    }
  }
}

const __m512i COUNT = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

// One row of scores becomes bfloat16 weights; returns the row's greatest score and the sum of its weights.
inline void soften(float* scores, bf16* weights, long keys, long key, long low, long high, float scale, float& greatest,
                   float& sum) {
  __m512 top = _mm512_set1_ps(NOTHING);
  for (long j = 0; j < keys; j += 16) {
    __m512 x = _mm512_loadu_ps(scores + j);
    if (key + j < low || key + j + 15 > high) {
      const __m512i place = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(key + j)), COUNT);
      const __mmask16 seen = _mm512_cmpge_epi32_mask(place, _mm512_set1_epi32(static_cast<int>(low))) &
                             _mm512_cmple_epi32_mask(place, _mm512_set1_epi32(static_cast<int>(high)));
      x = _mm512_mask_mov_ps(_mm512_set1_ps(NOTHING), seen, x);
      _mm512_storeu_ps(scores + j, x);
    }
    top = _mm512_max_ps(top, x);
  }
  const float now = _mm512_reduce_max_ps(top) * scale;
  if (now > greatest) greatest = now;
  const __m512 less = _mm512_set1_ps(-greatest), by = _mm512_set1_ps(scale);
  __m512 all = _mm512_setzero_ps();
  for (long j = 0; j < keys; j += 16) {
    const __m512 x = _mm512_loadu_ps(scores + j);
    const __mmask16 seen = _mm512_cmp_ps_mask(x, _mm512_set1_ps(NOTHING), _CMP_GT_OQ);
    const __m512 weight = _mm512_maskz_mov_ps(seen, exponential(_mm512_fmadd_ps(x, by, less)));
    all = _mm512_add_ps(all, weight);
    store_narrow(weights + j, weight);
  }
  sum = _mm512_reduce_add_ps(all);
}

template <int D>
void forward(const Problem& p, const bf16* q, const bf16* k, const bf16* v, bf16* out, float* sums) {
  const long padded = p.padded(), panel = padded < PANEL ? padded : PANEL;
#pragma omp parallel num_threads(p.threads)
  {
    Buffer<bf16> block(BLOCK * D), plain(padded * D), weights(BLOCK * panel);
    Buffer<pair> keys(D / 2 * padded), values(padded / 2 * D);
    Buffer<float> scores(BLOCK * panel), mixed(BLOCK * D);
#pragma omp for schedule(dynamic, 1)
    for (long job = 0; job < p.rows * p.kv_heads; ++job) {
      const long row = job / p.kv_heads, kv = job % p.kv_heads;
      const float* cosine = p.cosine ? p.cosine + row * p.rotation : nullptr;
      const float* sine = p.cosine ? p.sine + row * p.rotation : nullptr;
      const int32_t* first = p.first + row * p.length;
      load_rows<D>(plain.data, k + row * p.k[0] + kv * p.k[2], p.k[1], p.length, padded, cosine, sine);
      pairs_along_width<D>(keys.data, plain.data, padded);
      load_rows<D>(plain.data, v + row * p.v[0] + kv * p.v[2], p.v[1], p.length, padded, nullptr, nullptr);
      pairs_along_places<D>(values.data, plain.data, padded);
      for (long head = kv * p.group(); head < (kv + 1) * p.group(); ++head)
        for (long i = 0; i < p.length; i += BLOCK) {
          const long here = p.length - i < BLOCK ? p.length - i : BLOCK;
          load_rows<D>(block.data, q + row * p.q[0] + i * p.q[1] + head * p.q[2], p.q[1], here, BLOCK,
                       cosine ? cosine + i * (D / 2) : nullptr, cosine ? sine + i * (D / 2) : nullptr);
          float greatest[BLOCK], total[BLOCK];
          for (long r = 0; r < BLOCK; ++r) greatest[r] = NOTHING, total[r] = 0;
          const long begin = first[i] / BLOCK * BLOCK, end = i + BLOCK;
          for (long j = begin; j < end; j += panel) {
            const long count = end - j < panel ? end - j : panel;
            for (long c = 0; c < count; c += BLOCK)
              product<false>(block.data, D, keys.data + j + c, padded, scores.data + c, panel, BLOCK, BLOCK, D / 2);
            for (long r = 0; r < here; ++r) {
              const float before = greatest[r];
              float sum;
              soften(scores.data + r * panel, weights.data + r * panel, count, j, first[i + r], i + r, p.scale,
                     greatest[r], sum);
              const float shrink = j > begin ? std::exp(before - greatest[r]) : 0.0f;
              total[r] = total[r] * shrink + sum;
              if (j > begin && shrink != 1.0f)
                for (int d = 0; d < D; d += 16)
                  _mm512_storeu_ps(mixed.data + r * D + d,
                                   _mm512_mul_ps(_mm512_loadu_ps(mixed.data + r * D + d), _mm512_set1_ps(shrink)));
            }
            if (here < BLOCK) std::memset(weights.data + here * panel, 0, (BLOCK - here) * panel * sizeof(bf16));
            const pair* right = values.data + j / 2 * D;
            if (j > begin)
              product<true>(weights.data, panel, right, D, mixed.data, D, BLOCK, D, count / 2);
            else
              product<false>(weights.data, panel, right, D, mixed.data, D, BLOCK, D, count / 2);
          }
          for (long r = 0; r < here; ++r) {
            const __m512 share = _mm512_set1_ps(1.0f / total[r]);
            bf16* to = out + ((row * p.length + i + r) * p.heads + head) * D;
            for (int d = 0; d < D; d += 16)
              store_narrow(to + d, _mm512_mul_ps(_mm512_loadu_ps(mixed.data + r * D + d), share));
            sums[(row * p.heads + head) * p.length + i + r] = greatest[r] + std::log(total[r]);
          }
        }
    }
  }
}

// What the backward pass needs of one pair of blocks: weights and score gradients, transposed (keys in rows).
struct Blocks {
  Buffer<float> scores{BLOCK * BLOCK}, products{BLOCK * BLOCK};
  Buffer<bf16> weights{BLOCK * BLOCK}, gradients{BLOCK * BLOCK};
  Buffer<pair> paired{BLOCK / 2 * BLOCK};  // gradients, neighbouring keys side by side
};

// P = exp(scale · S − L), dS = scale · P ⊙ (dP − Δ), for keys j … j+63 (rows) and queries i … i+63 (columns).
inline void differentiate(Blocks& b, const float* sums, const float* deltas, const int32_t* first, long i, long j, long length,
                          float scale) {
  const bool whole = i > j && i + BLOCK <= length && first[i + BLOCK - 1] <= j;
  const __m512 by = _mm512_set1_ps(scale);
  for (long c = 0; c < BLOCK; c += 16) {
    const __m512 less = _mm512_sub_ps(_mm512_setzero_ps(), _mm512_loadu_ps(sums + i + c));
    const __m512 delta = _mm512_loadu_ps(deltas + i + c);
    const __m512i query = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(i + c)), COUNT);
    const long left = length - i - c;
    const __mmask16 real = left >= 16 ? 0xffff : left <= 0 ? 0 : static_cast<__mmask16>((1u << left) - 1);
    const __m512i low = _mm512_maskz_loadu_epi32(real, first + i + c);
    for (long r = 0; r < BLOCK; r += 2) {
      __m512i pairs[2];
      for (int u = 0; u < 2; ++u) {
        const long at = (r + u) * BLOCK + c;
        __m512 weight = exponential(_mm512_fmadd_ps(_mm512_loadu_ps(b.scores.data + at), by, less));
        if (!whole) {
          const __m512i key = _mm512_set1_epi32(static_cast<int>(j + r + u));
          const __mmask16 seen = real & _mm512_cmpge_epi32_mask(query, key) & _mm512_cmple_epi32_mask(low, key);
          weight = _mm512_maskz_mov_ps(seen, weight);
        }
        store_narrow(b.weights.data + at, weight);
        const __m512 gradient = _mm512_mul_ps(_mm512_mul_ps(weight, by),
                                              _mm512_sub_ps(_mm512_loadu_ps(b.products.data + at), delta));
        const __m256i rounded = narrow(gradient);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(b.gradients.data + at), rounded);
        pairs[u] = _mm512_cvtepu16_epi32(rounded);
      }
      _mm512_storeu_si512(b.paired.data + r / 2 * BLOCK + c,
                          _mm512_or_si512(pairs[0], _mm512_slli_epi32(pairs[1], 16)));
    }
  }
}

// (D, places) of floats → (places, D).
template <int D>
void upright(float* to, const float* from, long places) {
  for (long t = 0; t < places; t += 16)
    for (int d = 0; d < D; d += 16) {
      __m512i r[16];
      for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(from + (d + i) * places + t);
      transpose16(r);
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + (t + i) * D + d, r[i]);
    }
}

template <int D>
void backward(const Problem& p, const bf16* gradient, const bf16* q, const bf16* k, const bf16* v, const bf16* out,
              const float* sums, bf16* dq, bf16* dk, bf16* dv) {
  const long padded = p.padded(), step = p.heads * D;
  static_assert(D % 32 == 0);
#pragma omp parallel num_threads(p.threads)
  {
    Buffer<bf16> keys(padded * D), values(padded * D), plain(padded * D), keys_across(D * padded);
    Buffer<pair> query_width(D / 2 * padded), query_places(padded / 2 * D);
    Buffer<pair> gradient_width(D / 2 * padded), gradient_places(padded / 2 * D);
    Buffer<float> for_keys(padded * D), for_values(padded * D), for_queries(D * padded), turned(padded * D);
    Buffer<float> delta(padded), sum(padded);
    Blocks blocks;
#pragma omp for schedule(dynamic, 1)
    for (long job = 0; job < p.rows * p.kv_heads; ++job) {
      const long row = job / p.kv_heads, kv = job % p.kv_heads;
      const float* cosine = p.cosine ? p.cosine + row * p.rotation : nullptr;
      const float* sine = p.cosine ? p.sine + row * p.rotation : nullptr;
      const int32_t* first = p.first + row * p.length;
      const long k_at = row * p.k[0] + kv * p.k[2], v_at = row * p.v[0] + kv * p.v[2];
      load_rows<D>(keys.data, k + k_at, p.k[1], p.length, padded, cosine, sine);
      load_rows<D>(values.data, v + v_at, p.v[1], p.length, padded, nullptr, nullptr);
      pairs_along_width<D>(query_width.data, keys.data, padded);
      transposed<D>(keys_across.data, query_width.data, padded);
      std::memset(for_keys.data, 0, padded * D * sizeof(float));
      std::memset(for_values.data, 0, padded * D * sizeof(float));
      for (long head = kv * p.group(); head < (kv + 1) * p.group(); ++head) {
        const long q_at = row * p.q[0] + head * p.q[2];
        const bf16* upper = gradient + (row * p.length * p.heads + head) * D;
        const bf16* outcome = out + (row * p.length * p.heads + head) * D;
        load_rows<D>(plain.data, q + q_at, p.q[1], p.length, padded, cosine, sine);
        pairs_along_width<D>(query_width.data, plain.data, padded);
        pairs_along_places<D>(query_places.data, plain.data, padded);
        load_rows<D>(plain.data, upper, step, p.length, padded, nullptr, nullptr);
        pairs_along_width<D>(gradient_width.data, plain.data, padded);
        pairs_along_places<D>(gradient_places.data, plain.data, padded);
        for (long t = 0; t < padded; ++t) {
          __m512 all = _mm512_setzero_ps();
          if (t < p.length)
            for (int d = 0; d < D; d += 16)
              all = _mm512_fmadd_ps(widen(upper + t * step + d), widen(outcome + t * step + d), all);
          delta.data[t] = _mm512_reduce_add_ps(all);
          sum.data[t] = t < p.length ? sums[(row * p.heads + head) * p.length + t] : 0.0f;
        }
        std::memset(for_queries.data, 0, D * padded * sizeof(float));
        for (long j = 0; j < p.length; j += BLOCK)
          for (long i = j; i < p.length && first[i] < j + BLOCK; i += BLOCK) {
            product<false>(keys.data + j * D, D, query_width.data + i, padded, blocks.scores.data, BLOCK, BLOCK, BLOCK,
                           D / 2);
            product<false>(values.data + j * D, D, gradient_width.data + i, padded, blocks.products.data, BLOCK, BLOCK,
                           BLOCK, D / 2);
            differentiate(blocks, sum.data, delta.data, first, i, j, p.length, p.scale);
            product<true>(blocks.weights.data, BLOCK, gradient_places.data + i / 2 * D, D, for_values.data + j * D, D,
                          BLOCK, D, BLOCK / 2);
            product<true>(blocks.gradients.data, BLOCK, query_places.data + i / 2 * D, D, for_keys.data + j * D, D, BLOCK,
                          D, BLOCK / 2);
            product<true>(keys_across.data + j, padded, blocks.paired.data, BLOCK, for_queries.data + i, padded, D, BLOCK,
                          BLOCK / 2);
          }
        upright<D>(turned.data, for_queries.data, padded);
        store_rows<D>(dq + q_at, p.q[1], turned.data, p.length, cosine, sine);
      }
      store_rows<D>(dk + k_at, p.k[1], for_keys.data, p.length, cosine, sine);
      store_rows<D>(dv + v_at, p.v[1], for_values.data, p.length, nullptr, nullptr);
    }
  }
}

}  // namespace

// Each returns 0, or 1 for a head size that it was not made for.

extern "C" int treino_attention_forward(const Problem* p, const bf16* q, const bf16* k, const bf16* v, bf16* out,
                                        float* sums) {
  switch (p->size) {
    case 32: forward<32>(*p, q, k, v, out, sums); return 0;
    case 64: forward<64>(*p, q, k, v, out, sums); return 0;
    case 96: forward<96>(*p, q, k, v, out, sums); return 0;
    case 128: forward<128>(*p, q, k, v, out, sums); return 0;
  }
  return 1;
}

extern "C" int treino_attention_backward(const Problem* p, const bf16* gradient, const bf16* q, const bf16* k, const bf16* v,
                                         const bf16* out, const float* sums, bf16* dq, bf16* dk, bf16* dv) {
  switch (p->size) {
    case 32: backward<32>(*p, gradient, q, k, v, out, sums, dq, dk, dv); return 0;
    case 64: backward<64>(*p, gradient, q, k, v, out, sums, dq, dk, dv); return 0;
    case 96: backward<96>(*p, gradient, q, k, v, out, sums, dq, dk, dv); return 0;
    case 128: backward<128>(*p, gradient, q, k, v, out, sums, dq, dk, dv); return 0;
  }
  return 1;
}
