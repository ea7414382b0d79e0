// Linear attention of bfloat16 tokens, block by block; the formulas are those of blocked.py.
//
// A block of tokens is packed once and multiplied on the matrix units (AMX) where the processor
// has them, else in loops that the compiler vectorises. Sums are float32. Matrices that all tokens
// meet are split in two bfloat16 parts, so that only the tokens themselves are rounded.
// Keys and values have 32, 64 or 128 features; tensors are contiguous, heads first.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define AMX 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

using bf16 = uint16_t;
using Index = int64_t;

namespace {

constexpr Index BLOCK = 128;  // tokens of a block
constexpr Index TAIL = 16;    // columns of a tile of the matrix units

inline float widen(bf16 x) {
    uint32_t bits = uint32_t(x) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}

inline bf16 narrow(float x) {  // to the nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bf16((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Round D numbers; past the cache if they are results, which nobody reads soon.
template <Index D, bool RESULT>
inline void narrow(bf16* out, const float* x) {
#ifdef AMX
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

// ---- Packing

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
#ifdef AMX
            const auto low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)first));
            const auto high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)second));
            _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
#else
            for (Index l = 0; l < 16; l++) to[2 * l] = first[l], to[2 * l + 1] = second[l];
#endif
        }
}

#ifdef AMX
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
#ifdef AMX
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

// ---- Products: c (m x n) = [c +] a (m x k) b (k x n), b interleaved; m, k of 32 and n of 16.
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

// ---- Work: heads times shares of the tokens, over threads

struct Part {
    Index head, first, last, share;
};

template <class Work>
void spread(Index heads, Index n, Index threads, Index shares, const Work& work) {
    const Index blocks = (n + BLOCK - 1) / BLOCK;
    std::atomic<Index> next{0};
    auto run = [&] {
        Units units;
        for (Index i; (i = next++) < heads * shares;) {
            const Index share = i % shares;
            work(Part{i / shares, blocks * share / shares * BLOCK,
                      std::min(n, blocks * (share + 1) / shares * BLOCK), share});
        }
    };
    std::vector<std::thread> others;
    for (Index i = 1; i < std::min(threads, heads * shares); i++) others.emplace_back(run);
    run();
    for (auto& other : others) other.join();
}

// Add the shares of each head up: from (heads, shares, size) to (heads, size).
void total(float* out, const std::vector<float>& parts, Index heads, Index shares, Index size) {
    for (Index h = 0; h < heads; h++)
        for (Index j = 0; j < size; j++) {
            double sum = 0;
            for (Index i = 0; i < shares; i++) sum += parts[(h * shares + i) * size + j];
            out[h * size + j] = float(sum);
        }
}

// ---- The four passes

struct Size {
    Index heads, n;
    bool relu;
    Index threads, shares;
};

template <Index D>
void sums(const bf16* k, const bf16* v, const float* w, float* out, Size size) {
    constexpr Index STATE = D * D + 2 * D;
    std::vector<float> parts(size.heads * size.shares * STATE);
    spread(size.heads, size.n, size.threads, size.shares, [&](Part p) {
        float *S = &parts[(p.head * size.shares + p.share) * STATE], *z = S + D * D, *s = z + D;
        std::vector<bf16> phi(BLOCK * D), turned(BLOCK * D), value(BLOCK * D), paired(BLOCK * D);
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, count = std::min(BLOCK, p.last - t0);
            rows<D>(phi.data(), k + at * D, count, size.relu);
            rows<D>(value.data(), v + at * D, count, false);
            float of_z[D] = {}, of_s[D] = {};
            for (Index t = 0; t < count; t++) {
                ahead<D>(k + (at + t) * D);
                ahead<D>(v + (at + t) * D);
                const bf16* x = &phi[t * D];
                bf16* y = &value[t * D];
                if (!w) {
                    for (Index j = 0; j < D; j++) of_z[j] += widen(x[j]);
                    for (Index j = 0; j < D; j++) of_s[j] += widen(y[j]);
                    continue;
                }
                const float weight = w[at + t];
                float weighted[D];
                for (Index j = 0; j < D; j++) of_z[j] += weight * widen(x[j]);
                for (Index j = 0; j < D; j++) weighted[j] = weight * widen(y[j]);
                for (Index j = 0; j < D; j++) of_s[j] += weighted[j];
                narrow<D, false>(y, weighted);
            }
            for (Index j = 0; j < D; j++) z[j] += of_z[j];
            for (Index j = 0; j < D; j++) s[j] += of_s[j];
            across<D>(turned.data(), phi.data());
            pairs<D>(paired.data(), value.data());
            multiply<D, BLOCK, D, true>(S, turned.data(), paired.data());
        }
    });
    total(out, parts, size.heads, size.shares, STATE);
}

template <Index D>
void sums_back(const bf16* k, const bf16* v, const float* w, const float* bar, bf16* k_bar,
               bf16* v_bar, float* w_bar, Size size) {
    spread(size.heads, size.n, size.threads, size.shares, [&](Part p) {
        const float *S = bar + p.head * (D * D + 2 * D), *z = S + D * D, *s = z + D;
        std::vector<float> straight(S, S + D * D), turned(D * D);
        for (Index i = 0; i < D; i++)
            for (Index j = 0; j < D; j++) turned[j * D + i] = S[i * D + j];
        const Split S_split(straight, D, D), S_turned(turned, D, D);
        std::vector<bf16> phi(BLOCK * D), value(BLOCK * D);
        std::vector<float> of_phi(BLOCK * D), of_value(BLOCK * D);
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, count = std::min(BLOCK, p.last - t0);
            rows<D>(phi.data(), k + at * D, count, size.relu);
            rows<D>(value.data(), v + at * D, count, false);
            multiply<BLOCK, D, D>(of_phi.data(), value.data(), S_turned);
            multiply<BLOCK, D, D>(of_value.data(), phi.data(), S_split);
            for (Index t = 0; t < count; t++) {
                ahead<D>(k + (at + t) * D);
                ahead<D>(v + (at + t) * D);
                const float weight = w ? w[at + t] : 1.0f;
                float *a = &of_phi[t * D], *b = &of_value[t * D];
                const bf16 *x = &phi[t * D], *y = &value[t * D];
                for (Index j = 0; j < D; j++) a[j] += z[j];
                for (Index j = 0; j < D; j++) b[j] = (b[j] + s[j]) * weight;
                if (w) {
                    float sum = 0;
                    for (Index j = 0; j < D; j++) sum += widen(x[j]) * a[j] + widen(y[j]) * s[j];
                    w_bar[at + t] = sum;
                }
                for (Index j = 0; j < D; j++) a[j] = size.relu && !x[j] ? 0.0f : a[j] * weight;
                narrow<D, true>(k_bar + (at + t) * D, a);
                narrow<D, true>(v_bar + (at + t) * D, b);
            }
        }
    });
}

template <Index D>
void answers(const bf16* q, const float* state, bf16* y, Size size) {
    constexpr Index WIDE = D + TAIL;  // K, and z beside it
    spread(size.heads, size.n, size.threads, size.shares, [&](Part p) {
        const float *K = state + p.head * (D * D + 2 * D + 1), *z = K + D * D, *mean = z + D;
        std::vector<float> matrix(D * WIDE);
        for (Index i = 0; i < D; i++) {
            std::copy(K + i * D, K + (i + 1) * D, &matrix[i * WIDE]);
            matrix[i * WIDE + D] = z[i];
        }
        const Split split(matrix, D, WIDE);
        const float floor = mean[D];
        std::vector<bf16> phi(BLOCK * D);
        std::vector<float> matches(BLOCK * WIDE);
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, count = std::min(BLOCK, p.last - t0);
            rows<D>(phi.data(), q + at * D, count, size.relu);
            multiply<BLOCK, D, WIDE>(matches.data(), phi.data(), split);
            for (Index t = 0; t < count; t++) {
                ahead<D>(q + (at + t) * D);
                const float* u = &matches[t * WIDE];
                const float share = 1 / (u[D] + floor);
                float answer[D];
                for (Index j = 0; j < D; j++) answer[j] = mean[j] + share * u[j];
                narrow<D, true>(y + (at + t) * D, answer);
            }
        }
    });
}

template <Index D>
void answers_back(const bf16* q, const float* state, const bf16* y_bar, bf16* q_bar,
                  float* state_bar, Size size) {
    constexpr Index STATE = D * D + 2 * D + 1;
    std::vector<float> parts(size.heads * size.shares * STATE);
    spread(size.heads, size.n, size.threads, size.shares, [&](Part p) {
        const float *K = state + p.head * STATE, *z = K + D * D, floor = z[2 * D];
        float *K_bar = &parts[(p.head * size.shares + p.share) * STATE], *z_bar = K_bar + D * D;
        float *mean_bar = z_bar + D, *floor_bar = mean_bar + D;
        std::vector<float> turned(D * D), column(D * TAIL);
        for (Index i = 0; i < D; i++) {
            for (Index j = 0; j < D; j++) turned[j * D + i] = K[i * D + j];
            column[i * TAIL] = z[i];
        }
        const Split K_turned(turned, D, D), z_split(column, D, TAIL);
        std::vector<bf16> phi(BLOCK * D), across_phi(BLOCK * D), g(BLOCK * D), paired(BLOCK * D);
        std::vector<float> matches(BLOCK * TAIL), of_phi(BLOCK * D);
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, count = std::min(BLOCK, p.last - t0);
            rows<D>(phi.data(), q + at * D, count, size.relu);
            multiply<BLOCK, D, TAIL>(matches.data(), phi.data(), z_split);
            float of_z[D] = {}, of_mean[D] = {}, of_floor = 0;
            for (Index t = 0; t < count; t++) {
                ahead<D>(q + (at + t) * D);
                ahead<D>(y_bar + (at + t) * D);
                const float share = 1 / (matches[t * TAIL] + floor);
                const bf16* bar = y_bar + (at + t) * D;
                float scaled[D];
                for (Index j = 0; j < D; j++) of_mean[j] += widen(bar[j]);
                for (Index j = 0; j < D; j++) scaled[j] = widen(bar[j]) * share;
                narrow<D, false>(&g[t * D], scaled);
            }
            std::fill(g.begin() + count * D, g.end(), 0);
            multiply<BLOCK, D, D>(of_phi.data(), g.data(), K_turned);
            for (Index t = 0; t < count; t++) {
                float *a = &of_phi[t * D], sum = 0;
                const bf16* x = &phi[t * D];
                for (Index j = 0; j < D; j++) sum += widen(x[j]) * a[j];
                const float of_matches = -sum / (matches[t * TAIL] + floor);
                of_floor += of_matches;
                for (Index j = 0; j < D; j++) of_z[j] += of_matches * widen(x[j]);
                for (Index j = 0; j < D; j++)
                    a[j] = size.relu && !x[j] ? 0.0f : a[j] + of_matches * z[j];
                narrow<D, true>(q_bar + (at + t) * D, a);
            }
            for (Index j = 0; j < D; j++) z_bar[j] += of_z[j];
            for (Index j = 0; j < D; j++) mean_bar[j] += of_mean[j];
            *floor_bar += of_floor;
            across<D>(across_phi.data(), phi.data());
            pairs<D>(paired.data(), g.data());
            multiply<D, BLOCK, D, true>(K_bar, across_phi.data(), paired.data());
        }
    });
    total(state_bar, parts, size.heads, size.shares, STATE);
}

}  // namespace

#define FOR_SIZES(call)      \
    switch (d) {             \
        case 32: {           \
            constexpr Index D = 32;  \
            call;            \
            break;           \
        }                    \
        case 64: {           \
            constexpr Index D = 64;  \
            call;            \
            break;           \
        }                    \
        case 128: {          \
            constexpr Index D = 128; \
            call;            \
            break;           \
        }                    \
    }

extern "C" {

// Whether this process may use the matrix units; 0 where there are none.
int stormda_units() {
#ifdef AMX
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;  // ARCH_REQ_XCOMP_PERM, tile data
#else
    return 0;
#endif
}

// out (heads, d d + d + d): S, z and s of k, v (heads, n, d); w (heads, n) or null.
void stormda_sums(const bf16* k, const bf16* v, const float* w, float* out, Index heads, Index n,
                  Index d, bool relu, Index threads, Index shares) {
    FOR_SIZES(sums<D>(k, v, w, out, Size{heads, n, relu, threads, shares}))
}

// Gradients of k, v and, where there are weights, w; `bar` is that of `out` above.
void stormda_sums_back(const bf16* k, const bf16* v, const float* w, const float* bar, bf16* k_bar,
                       bf16* v_bar, float* w_bar, Index heads, Index n, Index d, bool relu,
                       Index threads, Index shares) {
    FOR_SIZES(sums_back<D>(k, v, w, bar, k_bar, v_bar, w_bar,
                           Size{heads, n, relu, threads, shares}))
}

// y (heads, n, d); `state` (heads, d d + d + d + 1) holds K, z, mean and floor.
void stormda_answers(const bf16* q, const float* state, bf16* y, Index heads, Index n, Index d,
                     bool relu, Index threads, Index shares) {
    FOR_SIZES(answers<D>(q, state, y, Size{heads, n, relu, threads, shares}))
}

// The gradient of q, and of `state` in `state_bar`.
void stormda_answers_back(const bf16* q, const float* state, const bf16* y_bar, bf16* q_bar,
                          float* state_bar, Index heads, Index n, Index d, bool relu,
                          Index threads, Index shares) {
    FOR_SIZES(answers_back<D>(q, state, y_bar, q_bar, state_bar,
                              Size{heads, n, relu, threads, shares}))
}

}  // extern "C"
