// Products of packed blocks, on the matrix units (AMX) or in loops that the compiler vectorises.
#pragma once

#include "packing_blocks.h"

namespace {
namespace blocks {

// c (m x n) = [c +] a (m x k) b (k x n), b interleaved; m, k of 32 and n of 16.
// With a second b the two are added before the product.

#ifdef AMX
struct Units {  // the matrix units of this thread
    Units() {
        struct alignas(64) {
            uint8_t palette, row, none[14];
            uint16_t bytes[16];
            uint8_t rows[16];
        } tiles{};
        tiles.palette = 1;
        for (int i = 0; i < 8; i++) tiles.bytes[i] = 64, tiles.rows[i] = 16;
        _tile_loadconfig(&tiles);
    }
    ~Units() { _tile_release(); }
};

template <Index M, Index K, Index N, bool ADD>
void multiply(float* c, const bf16* a, const bf16* b, const bf16* b2 = nullptr) {
    for (Index j = 0; j < N; j += 32) {
        const bool wide = j + 16 < N;
        for (Index i = 0; i < M; i += 32) {
            float *upper = c + i * N + j, *lower = upper + 16 * N;
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            if (ADD) {
                _tile_loadd(0, upper, 4 * N);
                _tile_loadd(2, lower, 4 * N);
                if (wide) {
                    _tile_loadd(1, upper + 16, 4 * N);
                    _tile_loadd(3, lower + 16, 4 * N);
                }
            }
            for (Index l = 0; l < K; l += 32) {
                _tile_loadd(4, a + i * K + l, 2 * K);
                _tile_loadd(5, a + (i + 16) * K + l, 2 * K);
                for (const bf16* part : {b, b2}) {
                    if (!part) break;
                    _tile_loadd(6, part + l * N + 2 * j, 4 * N);
                    _tile_dpbf16ps(0, 4, 6);
                    _tile_dpbf16ps(2, 5, 6);
                    if (wide) {
                        _tile_loadd(7, part + l * N + 2 * j + 32, 4 * N);
                        _tile_dpbf16ps(1, 4, 7);
                        _tile_dpbf16ps(3, 5, 7);
                    }
                }
            }
            _tile_stored(0, upper, 4 * N);
            _tile_stored(2, lower, 4 * N);
            if (wide) {
                _tile_stored(1, upper + 16, 4 * N);
                _tile_stored(3, lower + 16, 4 * N);
            }
        }
    }
}
#else
struct Units {};

template <Index M, Index K, Index N, bool ADD>
void multiply(float* c, const bf16* a, const bf16* b, const bf16* b2 = nullptr) {
    std::vector<float> straight(K * N);
    for (Index l = 0; l < K; l++)
        for (Index j = 0; j < N; j++) {
            const Index at = l / 2 * 2 * N + 2 * j + l % 2;
            straight[l * N + j] = widen(b[at]) + (b2 ? widen(b2[at]) : 0.0f);
        }
    for (Index i = 0; i < M; i++) {
        float sum[N] = {};
        for (Index l = 0; l < K; l++) {
            const float x = widen(a[i * K + l]);
            for (Index j = 0; j < N; j++) sum[j] += x * straight[l * N + j];
        }
        for (Index j = 0; j < N; j++) c[i * N + j] = (ADD ? c[i * N + j] : 0.0f) + sum[j];
    }
}
#endif

template <Index M, Index K, Index N>
void multiply(float* c, const bf16* a, const Split& b) {
    multiply<M, K, N, false>(c, a, b.high.data(), b.low.data());
}

}  // namespace blocks
}  // namespace
