// Blocks of tokens on AVX-512 as products read them: rows, pairs of rows, turned; and their sums.
#pragma once

#include "work.h"

namespace {
namespace avx512 {

inline __m512 even(__m512i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); }
inline __m512 odd(__m512i x) {
    return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(int(0xffff0000))));
}

// 16 numbers of bfloat16, widened.
inline __m512 wide(const bf16* x) {
    return even(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x))));
}

inline void increase(float* sum, __m512 by) {
    _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), by));
}

inline __m512i load(const bf16* x, __m512i least) {
    return _mm512_max_epi16(_mm512_loadu_si512(x), least);
}

// What bits of bfloat16 are at least, as whole numbers: zero drops what has a sign.
inline __m512i least(bool relu) { return _mm512_set1_epi16(relu ? 0 : -32768); }

template <Index D>
constexpr Index WIDTH = D / 16;  // registers of a row

template <Index D>
constexpr Index ROWS = 16 / WIDTH<D>;  // rows that 16 registers hold

template <Index D>
struct Rows {  // rows of a product, in registers
    __m512 at[ROWS<D>][WIDTH<D>];
};

template <Index D>
inline __attribute__((always_inline)) Rows<D> zero() {
    Rows<D> result;
#pragma GCC unroll 8
    for (auto& row : result.at)
#pragma GCC unroll 8
        for (auto& x : row) x = _mm512_setzero_ps();
    return result;
}

template <Index D>
inline __attribute__((always_inline)) void increase(float* sum, const Rows<D>& by) {
#pragma GCC unroll 8
    for (Index r = 0; r < ROWS<D>; r++)
#pragma GCC unroll 8
        for (Index c = 0; c < WIDTH<D>; c++) increase(sum + r * D + 16 * c, by.at[r][c]);
}

// Ask for `count` tokens, while others are being worked on.
template <Index D>
inline void ahead(const bf16* x, Index count) {
    for (Index j = 0; j < count * D; j += 32) _mm_prefetch(x + j, _MM_HINT_T1);
}

// A block of tokens that may end early: as it lies in memory, or with zeros past its end.
template <Index D>
class Padded {
    alignas(64) bf16 kept[BLOCK * D];

  public:
    const bf16* operator()(const bf16* x, Index count) {
        if (count == BLOCK) return x;
        std::copy(x, x + count * D, kept);
        std::fill(kept + count * D, kept + BLOCK * D, 0);
        return kept;
    }
};

// Where the results of a block go: to their place, or by way of a whole block at the end.
template <Index D>
class Results {
    alignas(64) bf16 kept[BLOCK * D];

  public:
    bf16* begin(bf16* out, Index count) { return count == BLOCK ? out : kept; }
    void end(bf16* out, Index count) const {
        if (count < BLOCK) std::copy(kept, kept + count * D, out);
    }
};

// Round a row; past the cache, as nobody reads results soon.
template <Index D>
inline void put(bf16* out, const __m512* row) {
#pragma GCC unroll 4
    for (Index c = 0; c < D / 16; c += 2) {
        const auto x = (__m512i)_mm512_cvtne2ps_pbh(row[c + 1], row[c]);
        if (reinterpret_cast<uintptr_t>(out) % 64 == 0)
            _mm512_stream_si512(reinterpret_cast<__m512i*>(out + 16 * c), x);
        else
            _mm512_storeu_si512(out + 16 * c, x);
    }
}

// Copy the tokens of a block, positive parts alone if asked.
template <Index D>
void rows(bf16* out, const bf16* x, bool relu) {
    const __m512i floor = least(relu);
    for (Index j = 0; j < BLOCK * D; j += 32) _mm512_store_si512(out + j, load(x + j, floor));
}

// Interleave rows two by two: out[t / 2][j][t % 2] = x[t][j], positive parts alone if asked.
template <Index D>
void pairs(bf16* out, const bf16* x, bool relu) {
    alignas(64) uint16_t low[32], high[32];
    for (int i = 0; i < 32; i++) low[i] = i / 2 + i % 2 * 32, high[i] = low[i] + 16;
    const __m512i lower = _mm512_load_si512(low), upper = _mm512_load_si512(high);
    const __m512i floor = least(relu);
    for (Index t = 0; t < BLOCK; t += 2)
        for (Index j = 0; j < D; j += 32) {
            const __m512i a = load(x + t * D + j, floor), b = load(x + (t + 1) * D + j, floor);
            bf16* to = out + t * D + 2 * j;
            _mm512_store_si512(to, _mm512_permutex2var_epi16(a, lower, b));
            _mm512_store_si512(to + 32, _mm512_permutex2var_epi16(a, upper, b));
        }
}

// Turn a block of interleaved tokens into tiles of 16 features and 16 pairs of tokens each, one
// feature after the other: out[j / 16][t / 32][j % 16] = the pairs of 32 tokens.
template <Index D>
void turn(bf16* out, const bf16* pairs) {
    for (Index j = 0; j < D; j += 16)
        for (Index t = 0; t < BLOCK; t += 32) {
            __m512i r[16], s[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) r[i] = _mm512_load_si512(pairs + (t + 2 * i) * D + 2 * j);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                s[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
                s[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
            }
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                const int at = i / 2 * 4 + i % 2;
                r[2 * i] = _mm512_unpacklo_epi64(s[at], s[at + 2]);
                r[2 * i + 1] = _mm512_unpackhi_epi64(s[at], s[at + 2]);
            }
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                const int at = i / 4 * 8 + i % 4;
                s[at] = _mm512_shuffle_i32x4(r[at], r[at + 4], 0x88);
                s[at + 4] = _mm512_shuffle_i32x4(r[at], r[at + 4], 0xdd);
            }
            bf16* to = out + j * BLOCK + t * 16;
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                _mm512_store_si512(to + 32 * i, _mm512_shuffle_i32x4(s[i], s[i + 8], 0x88));
                _mm512_store_si512(to + 32 * (i + 8), _mm512_shuffle_i32x4(s[i], s[i + 8], 0xdd));
            }
        }
}

// out[t] = factor[t] x[t], rounded, and sum += count[t] x[t].
template <Index D>
void scale(bf16* out, const bf16* x, const float* factor, const float* count, float* sum) {
    __m512 sums[D / 16];
    for (Index c = 0; c < D / 16; c++) sums[c] = _mm512_setzero_ps();
    for (Index t = 0; t < BLOCK; t++) {
        const __m512 by = _mm512_set1_ps(factor[t]), counted = _mm512_set1_ps(count[t]);
        __m512 row[D / 16];
#pragma GCC unroll 8
        for (Index c = 0; c < D / 16; c++) {
            const __m512 y = wide(x + t * D + 16 * c);
            sums[c] = _mm512_fmadd_ps(counted, y, sums[c]);
            row[c] = _mm512_mul_ps(by, y);
        }
#pragma GCC unroll 4
        for (Index c = 0; c < D / 16; c += 2)
            _mm512_store_si512(out + t * D + 16 * c,
                               (__m512i)_mm512_cvtne2ps_pbh(row[c + 1], row[c]));
    }
    for (Index c = 0; c < D / 16; c++) increase(sum + 16 * c, sums[c]);
}

// sum[j] += sum over tokens of x[t][j], where x lies interleaved.
template <Index D>
void add(float* sum, const bf16* x) {
    const auto ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    __m512 sums[D / 16];
    for (Index c = 0; c < D / 16; c++) sums[c] = _mm512_setzero_ps();
    for (Index t = 0; t < BLOCK; t += 2)
#pragma GCC unroll 8
        for (Index c = 0; c < D / 16; c++)
            sums[c] = _mm512_dpbf16_ps(
                sums[c], ones, (__m512bh)_mm512_load_si512(x + t * D + 32 * c));
    for (Index c = 0; c < D / 16; c++) increase(sum + 16 * c, sums[c]);
}

// The same with tokens that count: sum[j] += sum over tokens of count[t] x[t][j].
template <Index D>
void add(float* sum, const bf16* x, const float* count) {
    __m512 sums[D / 16];
    for (Index c = 0; c < D / 16; c++) sums[c] = _mm512_setzero_ps();
    for (Index t = 0; t < BLOCK; t += 2) {
        const __m512 first = _mm512_set1_ps(count[t]), second = _mm512_set1_ps(count[t + 1]);
#pragma GCC unroll 8
        for (Index c = 0; c < D / 16; c++) {
            const __m512i y = _mm512_load_si512(x + t * D + 32 * c);
            sums[c] = _mm512_fmadd_ps(first, even(y), sums[c]);
            sums[c] = _mm512_fmadd_ps(second, odd(y), sums[c]);
        }
    }
    for (Index c = 0; c < D / 16; c++) increase(sum + 16 * c, sums[c]);
}

// The sum of each of four registers.
inline __m128 totals(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44),
                                     _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// out[t] = x[t] . z for the tokens of a block.
template <Index D>
void matches(float* out, const bf16* x, const float* z) {
    __m512bh high[D / 32], low[D / 32];
    for (Index c = 0; c < D / 32; c++) {
        const __m512 a = _mm512_loadu_ps(z + 32 * c), b = _mm512_loadu_ps(z + 32 * c + 16);
        high[c] = _mm512_cvtne2ps_pbh(b, a);
        const __m512i bits = (__m512i)high[c];
        const __m512i lower = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(bits));
        const __m512i upper = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(bits, 1));
        low[c] = _mm512_cvtne2ps_pbh(_mm512_sub_ps(b, even(upper)), _mm512_sub_ps(a, even(lower)));
    }
    for (Index t = 0; t < BLOCK; t += 4) {
        __m512 sums[4];
#pragma GCC unroll 4
        for (Index r = 0; r < 4; r++) {
            sums[r] = _mm512_setzero_ps();
#pragma GCC unroll 4
            for (Index c = 0; c < D / 32; c++) {
                const auto y = (__m512bh)_mm512_load_si512(x + (t + r) * D + 32 * c);
                sums[r] = _mm512_dpbf16_ps(sums[r], y, high[c]);
                sums[r] = _mm512_dpbf16_ps(sums[r], y, low[c]);
            }
        }
        _mm_store_ps(out + t, totals(sums[0], sums[1], sums[2], sums[3]));
    }
}

// A float32 matrix (D x D) in bfloat16, rows interleaved, and what rounding took from the answer
// to one vector, which stands for what all tokens have in common.
template <Index D>
struct Rounded {
    alignas(64) bf16 pairs[D * D];
    alignas(64) float lost[D] = {};

    // Element (i, j) is x[i * row + j * column].
    Rounded(const float* x, Index row, Index column, const float* common) {
        for (Index i = 0; i < D; i++)
            for (Index j = 0; j < D; j++) {
                const float exact = x[i * row + j * column];
                const bf16 y = narrow(exact);
                pairs[i / 2 * 2 * D + 2 * j + i % 2] = y;
                lost[j] += common[i] * (exact - widen(y));
            }
    }
};

// A matrix x (D x D) without its part along z: x = z along^T + rest, with z^T rest = 0.
template <Index D>
struct Parts {
    alignas(64) float rest[D * D], along[D] = {}, unit[D];  // unit^T z = 1

    Parts(const float* x, const float* z) {
        float length = 0;
        for (Index i = 0; i < D; i++) length += z[i] * z[i];
        for (Index i = 0; i < D; i++) unit[i] = length > 0 ? z[i] / length : 0.0f;
        for (Index i = 0; i < D; i++)
            for (Index j = 0; j < D; j++) along[j] += unit[i] * x[i * D + j];
        for (Index i = 0; i < D; i++)
            for (Index j = 0; j < D; j++) rest[i * D + j] = x[i * D + j] - z[i] * along[j];
    }
};

}  // namespace avx512
}  // namespace
