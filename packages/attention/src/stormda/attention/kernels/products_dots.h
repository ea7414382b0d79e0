// Products on AVX-512 with vdpbf16ps, which multiplies 16 pairs of bfloat16 and adds each pair up.
//
// One loop does them all: a few rows of the result stay in registers while pairs go by. A pair of
// the left factor is broadcast; the right factor lies interleaved, two rows by two.
#pragma once

#include "packing_avx512.h"

namespace {
namespace avx512 {

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

struct Dots {
    // Rows t and on of a (BLOCK x D) times b (D x D, interleaved).
    template <Index D>
    inline __attribute__((always_inline)) Rows<D> rows(const bf16* a, const bf16* b, Index t) {
        Rows<D> result = zero<D>();
        multiply<D, D / 2, D, 2>(result, a + t * D, b);
        return result;
    }

    // sum (D x D) += a^T b, where both are blocks of tokens, interleaved; may ask for the next
    // ones. A block is summed up before it is added: sums over many tokens lose less.
    template <Index D>
    void accumulate(float* sum, const bf16* a, const bf16* b, const bf16* next_a = nullptr,
                    const bf16* next_b = nullptr) {
        constexpr Index PART = BLOCK * ROWS<D> / D;
        for (Index i = 0; i < D; i += ROWS<D>) {
            for (const bf16* next : {next_a, next_b})
                if (next) ahead<D>(next + i / ROWS<D> * PART * D, PART);
            Rows<D> rows = zero<D>();
            multiply<D, BLOCK / 2, 2, 2 * D>(rows, a + 2 * i, b);
            increase<D>(sum + i * D, rows);
        }
    }
};

}  // namespace avx512
}  // namespace
