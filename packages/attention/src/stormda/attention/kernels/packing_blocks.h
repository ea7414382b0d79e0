// Blocks of tokens as the matrix units read them; without such units the loops are plain.
#pragma once

#include "work.h"

namespace {
namespace blocks {

// Round D numbers; past the cache if they are results, which nobody reads soon.
template <Index D, bool RESULT>
inline void put(bf16* out, const float* x) {
#ifdef DOTS
    for (Index j = 0; j < D; j += 32) {
        auto y = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + j + 16), _mm512_loadu_ps(x + j));
        if (RESULT && reinterpret_cast<uintptr_t>(out) % 64 == 0)
            _mm512_stream_si512(reinterpret_cast<__m512i*>(out + j), y);
        else
            _mm512_storeu_si512(out + j, y);
    }
#else
    for (Index j = 0; j < D; j++) out[j] = narrow(x[j]);
#endif
}

// Ask for the tokens of the next block, while this one is being worked on.
template <Index D>
inline void ahead(const bf16* x) {
    for (Index j = 0; j < D; j += 32) __builtin_prefetch(x + BLOCK * D + j);
}

// Copy the tokens of a block, positive parts alone if asked, zero past its end.
template <Index D>
void rows(bf16* out, const bf16* x, Index count, bool relu) {
    const Index size = count * D;
    if (relu)
        for (Index j = 0; j < size; j++) out[j] = bf16(std::max<int16_t>(int16_t(x[j]), 0));
    else
        std::memcpy(out, x, size * sizeof(bf16));
    std::memset(out + size, 0, (BLOCK * D - size) * sizeof(bf16));
}

// Interleave rows two by two: out[t / 2][j][t % 2] = x[t][j], as the matrix units read them.
template <Index D>
void pairs(bf16* out, const bf16* x) {
    for (Index t = 0; t < BLOCK; t += 2)
        for (Index j = 0; j < D; j += 16) {
            const bf16 *first = x + t * D + j, *second = first + D;
            bf16* to = out + t * D + 2 * j;
#ifdef DOTS
            const auto low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)first));
            const auto high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)second));
            _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
#else
            for (Index l = 0; l < 16; l++) to[2 * l] = first[l], to[2 * l + 1] = second[l];
#endif
        }
}

#ifdef DOTS
inline void transpose(__m512i* r) {  // 16 x 16 numbers of 32 bits
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++) {
            r[4 * i + 2 * j] = _mm512_unpacklo_epi64(t[4 * i + j], t[4 * i + j + 2]);
            r[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(t[4 * i + j], t[4 * i + j + 2]);
        }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++) {
            t[8 * i + j] = _mm512_shuffle_i32x4(r[8 * i + j], r[8 * i + j + 4], 0x88);
            t[8 * i + j + 4] = _mm512_shuffle_i32x4(r[8 * i + j], r[8 * i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
        r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
    }
}
#endif

// Turn a block: out[j][t] = x[t][j].
template <Index D>
void across(bf16* out, const bf16* x) {
#ifdef DOTS
    alignas(64) uint16_t even[32], odd[32];
    for (int i = 0; i < 32; i++) even[i] = 2 * i, odd[i] = 2 * i + 1;
    const __m512i pick_even = _mm512_load_si512(even), pick_odd = _mm512_load_si512(odd);
    for (Index t = 0; t < BLOCK; t += 32)
        for (Index j = 0; j < D; j += 32) {
            __m512i first[16], second[16];
            for (int i = 0; i < 16; i++) {
                first[i] = _mm512_loadu_si512(x + (t + i) * D + j);
                second[i] = _mm512_loadu_si512(x + (t + 16 + i) * D + j);
            }
            transpose(first);
            transpose(second);
            for (int i = 0; i < 16; i++) {
                bf16* to = out + (j + 2 * i) * BLOCK + t;
                _mm512_storeu_si512(to, _mm512_permutex2var_epi16(first[i], pick_even, second[i]));
                _mm512_storeu_si512(
                    to + BLOCK, _mm512_permutex2var_epi16(first[i], pick_odd, second[i]));
            }
        }
#else
    for (Index t = 0; t < BLOCK; t++)
        for (Index j = 0; j < D; j++) out[j * BLOCK + t] = x[t * D + j];
#endif
}

// A float32 matrix (k x n) in two parts whose sum it is to 16 bits, rows interleaved.
struct Split {
    std::vector<bf16> high, low;
    Split(const std::vector<float>& x, Index k, Index n) : high(k * n), low(k * n) {
        for (Index i = 0; i < k; i++)
            for (Index j = 0; j < n; j++) {
                const Index at = (i / 2) * 2 * n + 2 * j + i % 2;
                high[at] = narrow(x[i * n + j]);
                low[at] = narrow(x[i * n + j] - widen(high[at]));
            }
    }
};

}  // namespace blocks
}  // namespace
