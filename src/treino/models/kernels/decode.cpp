// A whole Transformer of Llama's architecture over a few tokens, for generation (AVX-512 BF16).
//
// Each token belongs to a row of the cache and has a place there; it sees the places before it and itself, so tokens of one
// row may come together, and rows may differ in length. Weights, keys, values and the inputs of products are bfloat16; the
// residual stream and all sums are float32. A step reads each weight once, and up to some 16 tokens that is what it costs.
// So a weight takes 12 bits: its sign and fraction, and its exponent below the greatest of its row in 4 bits. Nothing is lost
// but of weights under 2⁻¹⁵ of the row's greatest, which are lifted to that: a 64th of what rounding did to the greatest.
//
// Every sum runs in an order of its own that neither the other tokens nor the threads change: a row's bits do not depend on
// its company.
//
// Matrices lie in panels of 16 outputs, [panel][four pairs of inputs]: 4 × 32 bytes of signs and fractions, [pair][output][of
// two], then 32 words that hold the four exponents of a place. Inputs of a product lie in groups of up to 16 tokens,
// [group][pair][token], so that one pass over a panel serves a group from registers. Widths are filled up with zeros to 32.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "vectors.h"

namespace {

constexpr long GROUP = 16;  // tokens of a group
constexpr long CHUNK = 8;   // panels between two visits of what uses them; a head of 128 numbers
constexpr long FOUR = 192;    // bytes of four pairs of inputs of a panel
constexpr long AHEAD = 4096;  // bytes between a product and what it asks memory for
constexpr float NOTHING = -1e30f;

struct Matrix {
  const uint8_t* weights;
  const float *scale, *bias;  // by output; bias may be null
  long pairs, panels;
};

struct Layer {
  Matrix qkv, output, gate_up, down;  // heads of q, k, v; panels of gate and up in turn
  const float *attention_norm, *feed_forward_norm, *q_norm, *k_norm;  // the last two null where there is none
};

}  // namespace

struct Network {
  long layers, width, heads, kv_heads, size, vocabulary;
  long rows, places;  // of the cache; places a multiple of 16
  float epsilon;
  int threads;
  const Layer* layer;
  Matrix head;
  const float *norm, *table, *cosine, *sine;  // table (vocabulary, width); rotations (places, size / 2)
  pair *keys, *values;  // [layer][row][kv head]: [place / 16][size / 2][16], pairs along the width; [place / 2][size], along places
};

namespace {

// Inputs of a product, for all tokens.
struct Inputs {
  Inputs(long tokens, long pairs) : tokens(tokens), pairs(pairs), memory(tokens * pairs) {}
  long group(long g) const { return tokens - g * GROUP < GROUP ? tokens - g * GROUP : GROUP; }
  pair* of_group(long g) const { return memory.data + g * GROUP * pairs; }

  // Sixteen numbers of a token, from number d on.
  void put(long token, long d, __m512 numbers) const {
    const long g = token / GROUP, step = group(g);
    alignas(32) pair both[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(both), narrow(numbers));
    pair* to = of_group(g) + d / 2 * step + token % GROUP;
    for (int i = 0; i < 8; ++i) to[i * step] = both[i];
  }

  const long tokens, pairs;
  Buffer<pair> memory;
};

// The weights of pair U of four, from signs and fractions, and exponents in the words' four-bit parts.
template <int U>
inline __m512bh weights_of(const uint8_t* bytes, __m512i codes) {
  const __m512i rest = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + 32 * U)));
  const __m512i placed = U < 2 ? _mm512_slli_epi16(codes, U ? 3 : 7) : _mm512_srli_epi16(codes, U == 2 ? 1 : 5);
  // (placed ∧ 4 bits) ∨ 112, so that the greatest is in [1, 2); then those 8 bits from here, the others from the rest.
  const __m512i exponent = _mm512_ternarylogic_epi32(placed, _mm512_set1_epi16(0x0780), _mm512_set1_epi16(0x3800), 0xea);
  return (__m512bh)_mm512_ternarylogic_epi32(_mm512_set1_epi16(0x7f80), exponent, rest, 0xca);
}

template <int U, int R>
inline void multiply_add(__m512 (&sum)[R], const pair* x, const uint8_t* four, __m512i codes) {
  const __m512bh weight = weights_of<U>(four, codes);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
    sum[r] = _mm512_dpbf16_ps(sum[r], (__m512bh)_mm512_set1_epi32(static_cast<int>(x[U * R + r])), weight);
}

// A panel for R tokens: to[token][output] = bias + scale · Σ weight · input. Memory is read in one stream, far ahead: several
// streams, or the processor's own foresight, were slower.
template <int R>
void tile(const pair* x, const Matrix& m, long panel, float* to) {
  __m512 sum[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sum[r] = _mm512_setzero_ps();
  const uint8_t* four = m.weights + panel * (m.pairs / 4 * FOUR);
  for (long k = 0; k < m.pairs; k += 4, four += FOUR, x += 4 * R) {
    for (long line = 0; line < FOUR; line += 64) _mm_prefetch(four + AHEAD + line, _MM_HINT_T0);
    const __m512i codes = _mm512_loadu_si512(four + 128);
    multiply_add<0, R>(sum, x, four, codes);
    multiply_add<1, R>(sum, x, four, codes);
    multiply_add<2, R>(sum, x, four, codes);
    multiply_add<3, R>(sum, x, four, codes);
  }
  const long at = panel * 16;
  const __m512 scale = _mm512_loadu_ps(m.scale + at), bias = m.bias ? _mm512_loadu_ps(m.bias + at) : _mm512_setzero_ps();
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) _mm512_store_ps(to + r * 16, _mm512_fmadd_ps(sum[r], scale, bias));
}

using Tile = void (*)(const pair*, const Matrix&, long, float*);

template <int... R>
constexpr Tile tile_for(long tokens, std::integer_sequence<int, R...>) {
  constexpr Tile all[] = {tile<R + 1>...};
  return all[tokens - 1];
}

// This thread's part of a product: `unit` panels at least stay together; use(first token, tokens, panel, panels, sums) gets
// up to CHUNK of them at a time, sums[panel][token][16].
template <class Use>
void product(const Inputs& x, const Matrix& m, long unit, long chunk, Use use) {
  alignas(64) float sums[CHUNK * GROUP * 16];
  const long units = m.panels / unit, me = omp_get_thread_num(), all = omp_get_num_threads();
  const long end = units * (me + 1) / all * unit;
  for (long panel = units * me / all * unit; panel < end; panel += chunk) {
    const long count = end - panel < chunk ? end - panel : chunk;
    for (long first = 0; first < x.tokens; first += GROUP) {
      const long tokens = x.group(first / GROUP);
      const Tile tile = tile_for(tokens, std::make_integer_sequence<int, GROUP>());
      for (long p = 0; p < count; ++p) tile(x.of_group(first / GROUP), m, panel + p, sums + p * tokens * 16);
      use(first, tokens, panel, count, sums);
    }
  }
}

inline float mean_of_squares(const float* x, long padded, long count) {
  __m512 squares = _mm512_setzero_ps();
  for (long i = 0; i < padded; i += 16) squares = _mm512_fmadd_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(x + i), squares);
  return _mm512_reduce_add_ps(squares) / count;
}

// x / √(mean(x²) + ε) · weight
inline void norm(const float* x, const float* weight, long width, float epsilon, const Inputs& to, long token) {
  const long padded = 2 * to.pairs;
  const __m512 root = _mm512_set1_ps(1.0f / std::sqrt(mean_of_squares(x, padded, width) + epsilon));
  for (long i = 0; i < padded; i += 16)
    to.put(token, i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), root), _mm512_loadu_ps(weight + i)));
}

// One head's query or key: its norm, where it has one, then its rotation.
inline void turn(float* x, const Network& n, const float* weight, long place) {
  if (weight) {
    const __m512 root = _mm512_set1_ps(1.0f / std::sqrt(mean_of_squares(x, n.size, n.size) + n.epsilon));
    for (long i = 0; i < n.size; i += 16)
      _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), root), _mm512_loadu_ps(weight + i)));
  }
  const long half = n.size / 2;
  for (long i = 0; i < half; i += 16) {
    const __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + half + i);
    const __m512 c = _mm512_loadu_ps(n.cosine + place * half + i), s = _mm512_loadu_ps(n.sine + place * half + i);
    _mm512_storeu_ps(x + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
    _mm512_storeu_ps(x + half + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
  }
}

// Scores of 16·B places: Σ over pairs of the width, in this order. Their values, which come next, are called for meanwhile.
template <int D, int B>
inline __m512 score(const pair* q, const pair* keys, const pair* values, float scale, float* to, __m512 top) {
  __m512 sum[B];
  for (int b = 0; b < B; ++b) sum[b] = _mm512_setzero_ps();
  for (int d = 0; d < D / 2; ++d)
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) {
      const long at = (b * (D / 2) + d) * 16;
      _mm_prefetch(values + at, _MM_HINT_T0);
      sum[b] = _mm512_dpbf16_ps(sum[b], (__m512bh)_mm512_set1_epi32(static_cast<int>(q[d])),
                                (__m512bh)_mm512_loadu_si512(keys + at));
    }
  for (int b = 0; b < B; ++b) {
    sum[b] = _mm512_mul_ps(sum[b], _mm512_set1_ps(scale));
    _mm512_storeu_ps(to + 16 * b, sum[b]);
    top = _mm512_max_ps(top, sum[b]);
  }
  return top;
}

// softmax(scale · q·kᵀ) v over `places` places of one head; `next` are the keys that will be asked for after it.
template <int D>
void attend(const pair* q, const pair* keys, const pair* values, const pair* next, long places, float* scores, pair* weights, const Inputs& to,
            long token, long at) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  const long whole = places / 16, blocks = (places + 15) / 16;
  __m512 top = _mm512_set1_ps(NOTHING);
  long b = 0;
  for (; b + 8 <= whole; b += 8) top = score<D, 8>(q, keys + b * D * 8, values + b * D * 8, scale, scores + 16 * b, top);
  for (; b < whole; ++b) top = score<D, 1>(q, keys + b * D * 8, values + b * D * 8, scale, scores + 16 * b, top);
  if (whole < blocks) {
    score<D, 1>(q, keys + b * D * 8, values + b * D * 8, scale, scores + 16 * b, top);
    const __m512 seen = _mm512_mask_loadu_ps(_mm512_set1_ps(NOTHING), first_of(places - 16 * b), scores + 16 * b);
    _mm512_storeu_ps(scores + 16 * b, seen);
    top = _mm512_max_ps(top, seen);
  }
  const __m512 greatest = _mm512_set1_ps(_mm512_reduce_max_ps(top));
  __m512 total = _mm512_setzero_ps();
  for (b = 0; b < blocks; ++b) {
    const __m512 weight = _mm512_maskz_mov_ps(first_of(places - 16 * b),
                                              exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + 16 * b), greatest)));
    total = _mm512_add_ps(total, weight);
    store_narrow(reinterpret_cast<bf16*>(weights) + 16 * b, weight);
  }
  constexpr int V = D / 16, CHAINS = V <= 4 ? 2 : 1;  // enough sums at a time to hide a product's latency
  __m512 sum[CHAINS][V];
  for (int c = 0; c < CHAINS; ++c)
    for (int v = 0; v < V; ++v) sum[c][v] = _mm512_setzero_ps();
  for (long p = 0; p < 8 * blocks; p += CHAINS)
#pragma GCC unroll 2
    for (int c = 0; c < CHAINS; ++c)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const long at = (p + c) * D + 16 * v;
        _mm_prefetch(next + at, _MM_HINT_T0);
        sum[c][v] = _mm512_dpbf16_ps(sum[c][v], (__m512bh)_mm512_set1_epi32(static_cast<int>(weights[p + c])),
                                     (__m512bh)_mm512_loadu_si512(values + at));
      }
  const __m512 share = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(total));
  for (int v = 0; v < V; ++v) {
    const __m512 all = CHAINS == 2 ? _mm512_add_ps(sum[0][v], sum[CHAINS - 1][v]) : sum[0][v];
    to.put(token, at + 16 * v, _mm512_mul_ps(all, share));
  }
}

// Tokens of a step: ids, rows of the cache, and places there.
struct Tokens {
  long count;
  const int64_t *ids, *rows, *places;
};

// One layer's part of the cache, for a row and a head.
inline long cache_at(const Network& n, long layer, long row, long kv_head) {
  return ((layer * n.rows + row) * n.kv_heads + kv_head) * n.places * n.size / 2;
}

// Queries, keys and values; queries stay in `q` [token][head][pair], the others go into the cache.
void project(const Network& n, long layer, const Tokens& t, const Inputs& x, pair* q) {
  const Layer& l = n.layer[layer];
  const long unit = n.size / 16;
  product(x, l.qkv, unit, unit, [&](long first, long tokens, long panel, long, const float* sums) {
    const long head = panel / unit;
    for (long r = 0; r < tokens; ++r) {
      alignas(64) float numbers[CHUNK * 16];
      alignas(64) bf16 rounded[CHUNK * 16];
      const long token = first + r, place = t.places[token];
      for (long v = 0; v < unit; ++v)
        _mm512_store_ps(numbers + 16 * v, _mm512_load_ps(sums + (v * tokens + r) * 16));
      if (head < n.heads + n.kv_heads) turn(numbers, n, head < n.heads ? l.q_norm : l.k_norm, place);
      for (long d = 0; d < n.size; d += 16) store_narrow(rounded + d, _mm512_load_ps(numbers + d));
      if (head < n.heads) {
        std::memcpy(q + (token * n.heads + head) * (n.size / 2), rounded, n.size * sizeof(bf16));
      } else if (head < n.heads + n.kv_heads) {
        pair* to = n.keys + cache_at(n, layer, t.rows[token], head - n.heads) + place / 16 * n.size * 8 + place % 16;
        for (long d = 0; d < n.size / 2; ++d) std::memcpy(to + d * 16, rounded + 2 * d, sizeof(pair));
      } else {
        pair* pairs = n.values + cache_at(n, layer, t.rows[token], head - n.heads - n.kv_heads) + place / 2 * n.size;
        bf16* to = reinterpret_cast<bf16*>(pairs) + place % 2;
        for (long d = 0; d < n.size; ++d) to[2 * d] = rounded[d];
      }
    }
  });
}

template <int D>
void attention(const Network& n, long layer, const Tokens& t, const pair* q, float* scores, pair* weights, const Inputs& to) {
  const long me = omp_get_thread_num(), all = omp_get_num_threads();
  const auto cache = [&](long job) {
    return cache_at(n, layer, t.rows[job % t.count], job / t.count * n.kv_heads / n.heads);
  };
  const auto mine = [&](long job) { return (job / t.count + job % t.count) % all == me; };  // some heads of each token
  const long jobs = n.heads * t.count;
  long job = 0;
  while (job < jobs && !mine(job)) ++job;
  while (job < jobs) {
    long next = job + 1;
    while (next < jobs && !mine(next)) ++next;
    const long token = job % t.count, head = job / t.count, at = cache(job);
    attend<D>(q + (token * n.heads + head) * (D / 2), n.keys + at, n.values + at, n.keys + cache(next < jobs ? next : job),
              t.places[token] + 1, scores, weights, to, token, head * D);
    job = next;
  }
}

// x += the product, for the outputs of this thread.
void add_product(const Inputs& inputs, const Matrix& m, float* x) {
  product(inputs, m, 1, 4, [&](long first, long tokens, long panel, long count, const float* sums) {
    for (long v = 0; v < count; ++v)
      for (long r = 0; r < tokens; ++r) {
        float* to = x + (first + r) * m.panels * 16 + (panel + v) * 16;
        _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), _mm512_load_ps(sums + (v * tokens + r) * 16)));
      }
  });
}

// silu(gate) · up
void gate(const Inputs& inputs, const Matrix& m, const Inputs& to) {
  product(inputs, m, 2, 4, [&](long first, long tokens, long panel, long count, const float* sums) {
    for (long v = 0; v < count; v += 2)
      for (long r = 0; r < tokens; ++r) {
        const __m512 g = _mm512_load_ps(sums + (v * tokens + r) * 16), up = _mm512_load_ps(sums + ((v + 1) * tokens + r) * 16);
        to.put(first + r, (panel + v) / 2 * 16, _mm512_mul_ps(_mm512_mul_ps(g, logistic(g)), up));
      }
  });
}

template <int D>
void step(const Network& n, const Tokens& t, long wanted, const int64_t* chosen, float* logits) {
  const long pairs = n.head.pairs, padded = 2 * pairs, hidden = n.layer->down.pairs;
  Buffer<float> x(t.count * padded);
  Buffer<pair> q(t.count * n.heads * (D / 2));
  Inputs mixed(t.count, n.heads * (D / 2)), activated(t.count, hidden);
#pragma omp parallel num_threads(n.threads)
  {
    Inputs normed(t.count, pairs), last(wanted, pairs);
    Buffer<float> scores(n.places);
    Buffer<pair> weights(n.places / 2);
#pragma omp for
    for (long token = 0; token < t.count; ++token) {
      float* to = x.data + token * padded;
      std::memcpy(to, n.table + t.ids[token] * n.width, n.width * sizeof(float));
      std::memset(to + n.width, 0, (padded - n.width) * sizeof(float));
    }
    for (long layer = 0; layer < n.layers; ++layer) {
      const Layer& l = n.layer[layer];
      for (long i = 0; i < t.count; ++i) norm(x.data + i * padded, l.attention_norm, n.width, n.epsilon, normed, i);
      project(n, layer, t, normed, q.data);
#pragma omp barrier
      attention<D>(n, layer, t, q.data, scores.data, weights.data, mixed);
#pragma omp barrier
      add_product(mixed, l.output, x.data);
#pragma omp barrier
      for (long i = 0; i < t.count; ++i) norm(x.data + i * padded, l.feed_forward_norm, n.width, n.epsilon, normed, i);
      gate(normed, l.gate_up, activated);
#pragma omp barrier
      add_product(activated, l.down, x.data);
#pragma omp barrier
    }
    for (long i = 0; i < wanted; ++i) norm(x.data + chosen[i] * padded, n.norm, n.width, n.epsilon, last, i);
    product(last, n.head, 1, 4, [&](long first, long tokens, long panel, long count, const float* sums) {
      for (long r = 0; r < tokens; ++r)
        for (long v = 0; v < count; ++v)
          _mm512_storeu_ps(logits + ((first + r) * n.head.panels + panel + v) * 16,
                           _mm512_load_ps(sums + (v * tokens + r) * 16));
    });
  }
}

}  // namespace

// Reads `tokens` tokens into the cache and gives the logits of the `wanted` ones among them that `chosen` numbers, each of
// 16 · head.panels numbers. Returns 0, or 1 for a head size that it was not made for.
extern "C" int treino_decode(const Network* n, long tokens, const int64_t* ids, const int64_t* rows, const int64_t* places,
                             long wanted, const int64_t* chosen, float* logits) {
  const Tokens t{tokens, ids, rows, places};
  switch (n->size) {
    case 32: step<32>(*n, t, wanted, chosen, logits); return 0;
    case 64: step<64>(*n, t, wanted, chosen, logits); return 0;
    case 96: step<96>(*n, t, wanted, chosen, logits); return 0;
    case 128: step<128>(*n, t, wanted, chosen, logits); return 0;
  }
  return 1;
}

// A row in bfloat16, filled up with zeros to `padded` numbers; returns its greatest exponent.
static int rounded(bf16* to, const float* from, long count, long padded) {
  __m512i greatest = _mm512_setzero_si512();
  for (long i = 0; i < padded; i += 32) {
    const __m512 low = _mm512_maskz_loadu_ps(i < count ? first_of(count - i) : 0, from + i);
    const __m512 high = _mm512_maskz_loadu_ps(i + 16 < count ? first_of(count - i - 16) : 0, from + i + 16);
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    _mm512_storeu_si512(to + i, both);
    greatest = _mm512_max_epu16(greatest, _mm512_and_si512(both, _mm512_set1_epi16(0x7f80)));
  }
  alignas(64) bf16 each[32];
  _mm512_store_si512(each, greatest);
  return *std::max_element(each, each + 32) >> 7;
}

// Words of 4 bits of exponent above 8 of sign and fraction; exponents below `least` become that, with no fraction.
static __m512i coded(const bf16* row, int least) {
  const __m512i x = _mm512_loadu_si512(row);
  const __m512i exponent = _mm512_and_si512(_mm512_srli_epi16(x, 7), _mm512_set1_epi16(0xff));
  const __m512i code = _mm512_sub_epi16(exponent, _mm512_set1_epi16(static_cast<short>(least)));
  const __mmask32 kept = _mm512_cmpge_epi16_mask(code, _mm512_setzero_si512());
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi16(x, 8), _mm512_set1_epi16(0x80));
  const __m512i fraction = _mm512_and_si512(x, _mm512_set1_epi16(0x7f));
  return _mm512_or_si512(sign, _mm512_maskz_mov_epi16(kept, _mm512_or_si512(fraction, _mm512_slli_epi16(code, 8))));
}

// A float matrix (outputs, inputs) as `panels` panels, each `stride` panels behind the one before, with the scales of its
// outputs; what is beyond the matrix becomes nothing.
extern "C" void treino_decode_pack(const float* from, long outputs, long inputs, long panels, uint8_t* to, float* scale,
                                   long pairs, long stride, int threads) {
#pragma omp parallel num_threads(threads)
  {
    Buffer<bf16> rows(16 * 2 * pairs);
#pragma omp for
    for (long panel = 0; panel < panels; ++panel) {
      int least[16];
      for (long i = 0; i < 16; ++i) {
        const long row = panel * 16 + i, count = row < outputs ? inputs : 0;
        least[i] = std::max(rounded(rows.data + i * 2 * pairs, from + row * inputs, count, 2 * pairs) - 15, 0);
        scale[panel * stride * 16 + i] = std::ldexp(1.0f, least[i] - 112);
      }
      uint8_t* four = to + panel * stride * (pairs / 4 * FOUR);
      for (long k = 0; k < pairs; k += 16) {
        __m512i r[16];
        for (long i = 0; i < 16; ++i) r[i] = coded(rows.data + (i * pairs + k) * 2, least[i]);
        transpose16(r);
        for (long i = 0; i < 16; i += 4, four += FOUR) {
          __m512i codes = _mm512_setzero_si512();
          for (int u = 0; u < 4; ++u) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(four + 32 * u), _mm512_cvtepi16_epi8(r[i + u]));
            codes = _mm512_or_si512(codes, _mm512_slli_epi16(_mm512_srli_epi16(r[i + u], 8), 4 * u));
          }
          _mm512_storeu_si512(four + 128, codes);
        }
      }
    }
  }
}
