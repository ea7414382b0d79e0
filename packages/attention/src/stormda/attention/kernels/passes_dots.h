// The four passes on AVX-512: blocks of tokens by rows that stay in registers until they are results.
//
// A state is rounded to bfloat16 as the tokens are. What that takes from the answer to the mean
// token is given back in float32: features that hardly vary leave sums about the mean that are
// small beside their terms, and their rounding would be seen.
#pragma once

#include "packing_dots.h"
#include "products_dots.h"

namespace {
namespace dots {

struct Nothing {};  // that a thread would need

template <Index D>
void sums(const bf16* k, const bf16* v, const float* w, float* out, Size size) {
    constexpr Index STATE = D * D + 2 * D;
    std::vector<float> parts(size.heads * size.shares * STATE);
    spread<Nothing>(size, [&](Part p) {
        alignas(64) float S[STATE] = {}, count[BLOCK];
        alignas(64) bf16 phi[BLOCK * D], value[BLOCK * D], scaled[BLOCK * D];
        float *z = S + D * D, *s = z + D;
        Padded<D> keys, values;
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, left = std::min(BLOCK, p.last - t0);
            const bf16* x = values(v + at * D, left);
            pairs<D>(phi, keys(k + at * D, left), size.relu);
            if (w) {
                std::fill(std::copy(w + at, w + at + left, count), count + BLOCK, 0.0f);
                scale<D>(scaled, x, count, count, s);
                pairs<D>(value, scaled, false);
                add<D>(z, phi, count);
            } else {
                pairs<D>(value, x, false);
                add<D>(z, phi);
                add<D>(s, value);
            }
            accumulate<D>(S, phi, value);
        }
        std::copy(S, S + STATE, &parts[(p.head * size.shares + p.share) * STATE]);
    });
    total(out, parts, size, STATE);
}

// Where features are not zero; everywhere if none is dropped.
inline __mmask16 kept(const bf16* phi, bool relu) {
    const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i*>(phi));
    return relu ? _mm256_test_epi16_mask(x, x) : __mmask16(-1);
}

// x . y of a row in registers and D numbers.
template <Index D>
inline float inner(const __m512* x, const bf16* y) {
    __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 8
    for (Index c = 0; c < D / 16; c++) sum = _mm512_fmadd_ps(x[c], wide(y + 16 * c), sum);
    return _mm512_reduce_add_ps(sum);
}

template <Index D>
void sums_back(const bf16* k, const bf16* v, const float* w, const float* centre, const float* bar,
               bf16* k_bar, bf16* v_bar, float* w_bar, Size size) {
    spread<Nothing>(size, [&](Part p) {
        const float *S = bar + p.head * (D * D + 2 * D), *z = S + D * D, *s = z + D;
        const float *mean_phi = centre + p.head * 2 * D, *mean_value = mean_phi + D;
        const Rounded<D> straight(S, D, 1, mean_phi), turned(S, 1, D, mean_value);
        alignas(64) bf16 phi[BLOCK * D], value[BLOCK * D];
        alignas(64) float of_z[D], of_s[D];
        for (Index j = 0; j < D; j++) of_z[j] = z[j] + turned.lost[j];
        for (Index j = 0; j < D; j++) of_s[j] = s[j] + straight.lost[j];
        Padded<D> keys, values;
        Results<D> of_keys, of_values;
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, left = std::min(BLOCK, p.last - t0);
            rows<D>(phi, keys(k + at * D, left), size.relu);
            rows<D>(value, values(v + at * D, left), false);
            bf16* out = of_keys.begin(k_bar + at * D, left);
            for (Index t = 0; t < BLOCK; t += ROWS<D>) {
                Rows<D> x = product<D>(value + t * D, turned.pairs);
#pragma GCC unroll 8
                for (Index r = 0; r < ROWS<D>; r++) {
                    const bf16* features = phi + (t + r) * D;
                    const bool there = w && t + r < left;
                    const __m512 weight = _mm512_set1_ps(there ? w[at + t + r] : 1.0f);
#pragma GCC unroll 8
                    for (Index c = 0; c < D / 16; c++)
                        x.at[r][c] = _mm512_add_ps(x.at[r][c], _mm512_load_ps(of_z + 16 * c));
                    if (there) w_bar[at + t + r] = inner<D>(x.at[r], features);
#pragma GCC unroll 8
                    for (Index c = 0; c < D / 16; c++)
                        x.at[r][c] = _mm512_maskz_mul_ps(kept(features + 16 * c, size.relu),
                                                         weight, x.at[r][c]);
                    put<D>(out + (t + r) * D, x.at[r]);
                }
            }
            of_keys.end(k_bar + at * D, left);
            out = of_values.begin(v_bar + at * D, left);
            for (Index t = 0; t < BLOCK; t += ROWS<D>) {
                Rows<D> x = product<D>(phi + t * D, straight.pairs);
#pragma GCC unroll 8
                for (Index r = 0; r < ROWS<D>; r++) {
                    const bool there = w && t + r < left;
                    const __m512 weight = _mm512_set1_ps(there ? w[at + t + r] : 1.0f);
                    if (there) {
                        float sum = 0;
                        for (Index j = 0; j < D; j++) sum += widen(value[(t + r) * D + j]) * s[j];
                        w_bar[at + t + r] += sum;
                    }
#pragma GCC unroll 8
                    for (Index c = 0; c < D / 16; c++)
                        x.at[r][c] = _mm512_mul_ps(
                            weight, _mm512_add_ps(x.at[r][c], _mm512_load_ps(of_s + 16 * c)));
                    put<D>(out + (t + r) * D, x.at[r]);
                }
            }
            of_values.end(v_bar + at * D, left);
        }
    });
}

template <Index D>
void answers(const bf16* q, const float* state, bf16* y, Size size) {
    spread<Nothing>(size, [&](Part p) {
        const float *K = state + p.head * (D * D + 2 * D + 1), *z = K + D * D, *mean = z + D;
        const float floor = mean[D];
        float length = 0;
        alignas(64) float common[D], match[BLOCK];
        for (Index j = 0; j < D; j++) length += z[j] * z[j];
        for (Index j = 0; j < D; j++) common[j] = length > 0 ? z[j] / length : 0.0f;
        const Rounded<D> rounded(K, D, 1, common);
        alignas(64) bf16 phi[BLOCK * D];
        Padded<D> queries;
        Results<D> results;
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, left = std::min(BLOCK, p.last - t0);
            rows<D>(phi, queries(q + at * D, left), size.relu);
            matches<D>(match, phi, z);
            bf16* out = results.begin(y + at * D, left);
            for (Index t = 0; t < BLOCK; t += ROWS<D>) {
                Rows<D> u = product<D>(phi + t * D, rounded.pairs);
#pragma GCC unroll 8
                for (Index r = 0; r < ROWS<D>; r++) {
                    const float share = 1 / (match[t + r] + floor);
                    const __m512 of = _mm512_set1_ps(share);
                    const __m512 back = _mm512_set1_ps(share * match[t + r]);
#pragma GCC unroll 8
                    for (Index c = 0; c < D / 16; c++) {
                        const __m512 at_least = _mm512_fmadd_ps(
                            back, _mm512_load_ps(rounded.lost + 16 * c),
                            _mm512_loadu_ps(mean + 16 * c));
                        u.at[r][c] = _mm512_fmadd_ps(of, u.at[r][c], at_least);
                    }
                    put<D>(out + (t + r) * D, u.at[r]);
                }
            }
            results.end(y + at * D, left);
        }
    });
}

template <Index D>
void answers_back(const bf16* q, const float* state, const bf16* y_bar, bf16* q_bar,
                  float* state_bar, Size size) {
    constexpr Index STATE = D * D + 2 * D + 1;
    std::vector<float> parts(size.heads * size.shares * STATE);
    spread<Nothing>(size, [&](Part p) {
        const float *K = state + p.head * STATE, *z = K + D * D, floor = z[2 * D];
        const float nothing[D] = {};
        const Rounded<D> turned(K, 1, D, nothing);
        alignas(64) float bars[STATE] = {}, ones[BLOCK], match[BLOCK], share[BLOCK];
        float *z_bar = bars + D * D, *mean_bar = z_bar + D, *floor_bar = mean_bar + D;
        alignas(64) bf16 phi[BLOCK * D], g[BLOCK * D], paired[BLOCK * D], across[BLOCK * D];
        Padded<D> queries, gradients;
        Results<D> results;
        std::fill(ones, ones + BLOCK, 1.0f);
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, left = std::min(BLOCK, p.last - t0);
            rows<D>(phi, queries(q + at * D, left), size.relu);
            matches<D>(match, phi, z);
            for (Index t = 0; t < BLOCK; t++) share[t] = 1 / (match[t] + floor);
            scale<D>(g, gradients(y_bar + at * D, left), share, ones, mean_bar);
            bf16* out = results.begin(q_bar + at * D, left);
            for (Index t = 0; t < BLOCK; t += ROWS<D>) {
                Rows<D> a = product<D>(g + t * D, turned.pairs);
#pragma GCC unroll 8
                for (Index r = 0; r < ROWS<D>; r++) {
                    const bf16* features = phi + (t + r) * D;
                    const float of_match = -share[t + r] * inner<D>(a.at[r], features);
                    match[t + r] = of_match;
#pragma GCC unroll 8
                    for (Index c = 0; c < D / 16; c++)
                        a.at[r][c] = _mm512_maskz_mov_ps(
                            kept(features + 16 * c, size.relu),
                            _mm512_fmadd_ps(_mm512_set1_ps(of_match), _mm512_loadu_ps(z + 16 * c),
                                            a.at[r][c]));
                    put<D>(out + (t + r) * D, a.at[r]);
                }
            }
            results.end(q_bar + at * D, left);
            for (Index t = 0; t < BLOCK; t++) *floor_bar += match[t];
            pairs<D>(across, phi, false);
            pairs<D>(paired, g, false);
            add<D>(z_bar, across, match);
            accumulate<D>(bars, across, paired);
        }
        std::copy(bars, bars + STATE, &parts[(p.head * size.shares + p.share) * STATE]);
    });
    total(state_bar, parts, size, STATE);
}

}  // namespace dots
}  // namespace
