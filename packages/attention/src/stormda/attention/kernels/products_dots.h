// Products on AVX-512 with vdpbf16ps, which multiplies 16 pairs of bfloat16 and adds each pair up.
//
// One loop does them all: a few rows of the result stay in registers while pairs go by. A pair of
// the left factor is broadcast; the right factor lies interleaved, two rows by two.
#pragma once

#include "packing_dots.h"

namespace {
namespace dots {

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

// result[r] += sum over p of left(r, p) right(p); left(r, p) is the pair at r * ROW + p * PAIR.
template <Index D, Index PAIRS, Index ROW, Index PAIR>
inline __attribute__((always_inline)) void multiply(Rows<D>& result, const bf16* left,
                                                    const bf16* right) {
    for (Index p = 0; p < PAIRS; p++) {
        __m512i to[WIDTH<D>];
#pragma GCC unroll 8
        for (Index c = 0; c < WIDTH<D>; c++) to[c] = _mm512_load_si512(right + p * 2 * D + 32 * c);
#pragma GCC unroll 8
        for (Index r = 0; r < ROWS<D>; r++) {
            int pair;
            std::memcpy(&pair, left + r * ROW + p * PAIR, 4);
            const __m512i of = _mm512_set1_epi32(pair);
#pragma GCC unroll 8
            for (Index c = 0; c < WIDTH<D>; c++)
                result.at[r][c] =
                    _mm512_dpbf16_ps(result.at[r][c], (__m512bh)of, (__m512bh)to[c]);
        }
    }
}

// The rows of a (tokens x D) times b (D x D, interleaved), from the row that `a` points at.
template <Index D>
inline __attribute__((always_inline)) Rows<D> product(const bf16* a, const bf16* b) {
    Rows<D> result = zero<D>();
    multiply<D, D / 2, D, 2>(result, a, b);
    return result;
}

// Ask for `count` tokens, while others are being worked on.
template <Index D>
inline void ahead(const bf16* x, Index count) {
    for (Index j = 0; j < count * D; j += 32) _mm_prefetch(x + j, _MM_HINT_T1);
}

// sum (D x D) += a^T b, where both are blocks of tokens, interleaved; asks for the next of both.
// A block is summed up before it is added: sums over many tokens lose less.
template <Index D>
void accumulate(float* sum, const bf16* a, const bf16* b, const bf16* next_a, const bf16* next_b) {
    constexpr Index PART = BLOCK * ROWS<D> / D;
    for (Index i = 0; i < D; i += ROWS<D>) {
        ahead<D>(next_a + i / ROWS<D> * PART * D, PART);
        ahead<D>(next_b + i / ROWS<D> * PART * D, PART);
        Rows<D> rows = zero<D>();
        multiply<D, BLOCK / 2, 2, 2 * D>(rows, a + 2 * i, b);
#pragma GCC unroll 8
        for (Index r = 0; r < ROWS<D>; r++)
#pragma GCC unroll 8
            for (Index c = 0; c < WIDTH<D>; c++) increase(sum + (i + r) * D + 16 * c, rows.at[r][c]);
    }
}

}  // namespace dots
}  // namespace
