// Products on the matrix units (AMX): 16 x 16 numbers are summed in a tile, 32 factors at a time.
//
// The left factor of a tile is 16 rows of 32 numbers, the right one 16 interleaved pairs of rows.
// Results leave the tiles by way of memory: 32 rows at a time, which stay in the nearest cache.
#pragma once

#include "packing_avx512.h"

namespace {
namespace avx512 {

class Units {
    static constexpr Index STRIP = 32;  // rows of a product
    static constexpr Index LARGEST = 128;
    alignas(64) float strip[STRIP * LARGEST];
    alignas(64) bf16 turned[BLOCK * LARGEST];

    // c = a b: 32 x 32 numbers of K factors each. Rows of c have D numbers, rows of b D pairs. Of
    // the left factor, rows lie ROW apart, the lower tile BELOW the upper one, the next NEXT to it.
    template <Index D, Index K, Index ROW, Index BELOW, Index NEXT>
    static inline __attribute__((always_inline)) void square(float* c, const bf16* a,
                                                             const bf16* b) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
#pragma GCC unroll 4
        for (Index l = 0; l < K / 32; l++) {
            _tile_loadd(4, a + l * NEXT, 2 * ROW);
            _tile_loadd(6, b + l * 32 * D, 4 * D);
            _tile_loadd(7, b + l * 32 * D + 32, 4 * D);
            _tile_loadd(5, a + l * NEXT + BELOW, 2 * ROW);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, c, 4 * D);
        _tile_stored(1, c + 16, 4 * D);
        _tile_stored(2, c + 16 * D, 4 * D);
        _tile_stored(3, c + 16 * D + 16, 4 * D);
    }

  public:
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

    // Rows t and on of a (BLOCK x D) times b (D x D, interleaved); called for each t in turn.
    template <Index D>
    inline __attribute__((always_inline)) Rows<D> rows(const bf16* a, const bf16* b, Index t) {
        if (t % STRIP == 0)
            for (Index j = 0; j < D; j += 32)
                square<D, D, D, 16 * D, 32>(strip + j, a + t * D, b + 2 * j);
        Rows<D> result;
#pragma GCC unroll 8
        for (Index r = 0; r < ROWS<D>; r++)
#pragma GCC unroll 8
            for (Index c = 0; c < WIDTH<D>; c++)
                result.at[r][c] = _mm512_load_ps(strip + (t % STRIP + r) * D + 16 * c);
        return result;
    }

    // sum (D x D) += a^T b, where both are blocks of tokens, interleaved. A block is summed up
    // before it is added: sums over many tokens lose less. The next ones are not asked for: this
    // takes so little time that asking for a whole block of them would hold it up.
    template <Index D>
    void accumulate(float* sum, const bf16* a, const bf16* b, const bf16* = nullptr,
                    const bf16* = nullptr) {
        turn<D>(turned, a);
        for (Index i = 0; i < D; i += STRIP) {
            for (Index j = 0; j < D; j += 32)
                square<D, BLOCK, 32, 16 * BLOCK, 512>(strip + j, turned + i * BLOCK, b + 2 * j);
            for (Index j = 0; j < STRIP * D; j += 16)
                increase(sum + i * D + j, _mm512_load_ps(strip + j));
        }
    }
};

}  // namespace avx512
}  // namespace
