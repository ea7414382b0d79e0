// The four passes on AVX-512: rows of products stay in registers until they are results.
//
// A state is rounded to bfloat16 as the tokens are. Where features or values vary little about a
// mean, answers and gradients are small differences, and rounding would be seen. So what it takes
// from the answer to the mean token is given back in float32, and queries meet K without its part
// along z, K = z along^T + rest: with m_i = phi(q_i)^T z, as in blocked.py,
//
//     u_i = m_i along + rest^T phi(q_i)
//     deltabar_i = -(phi(q_i)^T rest g_i + m_i along^T g_i) / delta_i
//     phibar(q_i) = rest g_i + z (floor along^T g_i - phi(q_i)^T rest g_i) / delta_i
#pragma once

#include "packing_avx512.h"

namespace {
namespace avx512 {

template <Index D, class Products>
void sums(const bf16* k, const bf16* v, const float* w, float* out, Size size) {
    constexpr Index STATE = D * D + 2 * D;
    std::vector<float> shares(size.heads * size.shares * STATE);
    spread<Products>(size, [&](Products& products, Part p) {
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
            products.template accumulate<D>(S, phi, value, k + (at + BLOCK) * D,
                                            v + (at + BLOCK) * D);
        }
        std::copy(S, S + STATE, &shares[(p.head * size.shares + p.share) * STATE]);
    });
    total(out, shares, size, STATE);
}

// out[r] = x[r] . y[r] for rows in registers and tokens in memory.
template <Index D>
inline __attribute__((always_inline)) void inner(float* out, const Rows<D>& x, const bf16* y) {
    constexpr Index FOURS = std::max<Index>(ROWS<D>, 4);
    __m512 sums[FOURS];
#pragma GCC unroll 8
    for (Index r = 0; r < FOURS; r++) {
        sums[r] = _mm512_setzero_ps();
        if (r >= ROWS<D>) continue;
#pragma GCC unroll 8
        for (Index c = 0; c < D / 16; c++)
            sums[r] = _mm512_fmadd_ps(x.at[r][c], wide(y + r * D + 16 * c), sums[r]);
    }
    alignas(16) float found[FOURS];
#pragma GCC unroll 2
    for (Index r = 0; r < FOURS; r += 4)
        _mm_store_ps(found + r, totals(sums[r], sums[r + 1], sums[r + 2], sums[r + 3]));
    std::copy(found, found + ROWS<D>, out);
}

// row = times row + shift + by x.
template <Index D>
inline __attribute__((always_inline)) void combine(__m512* row, float times, const float* shift,
                                                   float by, const float* x) {
    const __m512 of_row = _mm512_set1_ps(times), of_x = _mm512_set1_ps(by);
#pragma GCC unroll 8
    for (Index c = 0; c < D / 16; c++) {
        const __m512 rest = _mm512_fmadd_ps(of_x, _mm512_loadu_ps(x + 16 * c),
                                            _mm512_loadu_ps(shift + 16 * c));
        row[c] = _mm512_fmadd_ps(of_row, row[c], rest);
    }
}

// Round a row times w; where features are zero, and that matters, it is zero.
template <Index D>
inline __attribute__((always_inline)) void put(bf16* out, __m512* row, float w, const bf16* phi,
                                               bool relu) {
    const __m512 times = _mm512_set1_ps(w);
#pragma GCC unroll 8
    for (Index c = 0; c < D / 16; c++) {
        const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i*>(phi + 16 * c));
        const __mmask16 kept = relu ? _mm256_test_epi16_mask(x, x) : __mmask16(-1);
        row[c] = _mm512_maskz_mul_ps(kept, times, row[c]);
    }
    put<D>(out, row);
}

template <Index D, class Products>
void sums_back(const bf16* k, const bf16* v, const float* w, const float* centre, const float* bar,
               bf16* k_bar, bf16* v_bar, float* w_bar, Size size) {
    spread<Products>(size, [&](Products& products, Part p) {
        const float *S = bar + p.head * (D * D + 2 * D), *z = S + D * D, *s = z + D;
        const float *mean_phi = centre + p.head * 2 * D, *mean_value = mean_phi + D;
        const Parts<D> parts(S, mean_phi);
        const Rounded<D> straight(parts.rest, D, 1, mean_phi), turned(parts.rest, 1, D, mean_value);
        alignas(64) bf16 phi[BLOCK * D], value[BLOCK * D];
        alignas(64) float of_z[D], of_s[D], weights[BLOCK];
        alignas(64) float along[BLOCK], match[BLOCK], by_phi[BLOCK], by_value[BLOCK];
        for (Index j = 0; j < D; j++) of_z[j] = z[j] + turned.lost[j];
        for (Index j = 0; j < D; j++) of_s[j] = s[j] + straight.lost[j];
        std::fill(weights, weights + BLOCK, 1.0f);
        Padded<D> keys, values;
        Results<D> of_keys, of_values;
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, left = std::min(BLOCK, p.last - t0);
            rows<D>(phi, keys(k + at * D, left), size.relu);
            rows<D>(value, values(v + at * D, left), false);
            matches<D>(along, value, parts.along);
            matches<D>(match, phi, mean_phi);
            if (w) std::copy(w + at, w + at + left, weights);
            bf16* out = of_keys.begin(k_bar + at * D, left);
            for (Index t = 0; t < BLOCK; t += ROWS<D>) {
                ahead<D>(v + (at + BLOCK + t) * D, ROWS<D>);
                Rows<D> x = products.template rows<D>(value, turned.pairs, t);
#pragma GCC unroll 8
                for (Index r = 0; r < ROWS<D>; r++)
                    combine<D>(x.at[r], 1, of_z, along[t + r], mean_phi);
                if (w) inner<D>(by_phi + t, x, phi + t * D);
#pragma GCC unroll 8
                for (Index r = 0; r < ROWS<D>; r++) {
                    const bf16* features = phi + (t + r) * D;
                    put<D>(out + (t + r) * D, x.at[r], weights[t + r], features, size.relu);
                }
            }
            of_keys.end(k_bar + at * D, left);
            out = of_values.begin(v_bar + at * D, left);
            for (Index t = 0; t < BLOCK; t += ROWS<D>) {
                ahead<D>(k + (at + BLOCK + t) * D, ROWS<D>);
                Rows<D> x = products.template rows<D>(phi, straight.pairs, t);
#pragma GCC unroll 8
                for (Index r = 0; r < ROWS<D>; r++) {
                    combine<D>(x.at[r], 1, of_s, match[t + r], parts.along);
                    put<D>(out + (t + r) * D, x.at[r], weights[t + r], phi, false);
                }
            }
            of_values.end(v_bar + at * D, left);
            if (!w) continue;
            matches<D>(by_value, value, s);
            for (Index t = 0; t < left; t++) w_bar[at + t] = by_phi[t] + by_value[t];
        }
    });
}

template <Index D, class Products>
void answers(const bf16* q, const float* state, bf16* y, Size size) {
    spread<Products>(size, [&](Products& products, Part p) {
        const float *K = state + p.head * (D * D + 2 * D + 1), *z = K + D * D, *mean = z + D;
        const float floor = mean[D];
        Parts<D> parts(K, z);
        const Rounded<D> rounded(parts.rest, D, 1, parts.unit);
        for (Index j = 0; j < D; j++) parts.along[j] += rounded.lost[j];
        alignas(64) float match[BLOCK];
        alignas(64) bf16 phi[BLOCK * D];
        Padded<D> queries;
        Results<D> results;
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, left = std::min(BLOCK, p.last - t0);
            rows<D>(phi, queries(q + at * D, left), size.relu);
            matches<D>(match, phi, z);
            bf16* out = results.begin(y + at * D, left);
            for (Index t = 0; t < BLOCK; t += ROWS<D>) {
                ahead<D>(q + (at + BLOCK + t) * D, ROWS<D>);
                Rows<D> u = products.template rows<D>(phi, rounded.pairs, t);
#pragma GCC unroll 8
                for (Index r = 0; r < ROWS<D>; r++) {
                    const float share = 1 / (match[t + r] + floor);
                    combine<D>(u.at[r], share, mean, share * match[t + r], parts.along);
                    put<D>(out + (t + r) * D, u.at[r]);
                }
            }
            results.end(y + at * D, left);
        }
    });
}

template <Index D, class Products>
void answers_back(const bf16* q, const float* state, const bf16* y_bar, bf16* q_bar,
                  float* state_bar, Size size) {
    constexpr Index STATE = D * D + 2 * D + 1;
    std::vector<float> shares(size.heads * size.shares * STATE);
    spread<Products>(size, [&](Products& products, Part p) {
        const float *K = state + p.head * STATE, *z = K + D * D, floor = z[2 * D];
        const Parts<D> parts(K, z);
        const float nothing[D] = {};
        const Rounded<D> turned(parts.rest, 1, D, nothing);
        alignas(64) float bars[STATE] = {}, ones[BLOCK];
        alignas(64) float match[BLOCK], share[BLOCK], along[BLOCK], of_rest[ROWS<D>];
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
            matches<D>(along, g, parts.along);
            bf16* out = results.begin(q_bar + at * D, left);
            for (Index t = 0; t < BLOCK; t += ROWS<D>) {
                ahead<D>(q + (at + BLOCK + t) * D, ROWS<D>);
                ahead<D>(y_bar + (at + BLOCK + t) * D, ROWS<D>);
                Rows<D> a = products.template rows<D>(g, turned.pairs, t);
                inner<D>(of_rest, a, phi + t * D);
#pragma GCC unroll 8
                for (Index r = 0; r < ROWS<D>; r++) {
                    const bf16* features = phi + (t + r) * D;
                    const float of_z = share[t + r] * (floor * along[t + r] - of_rest[r]);
                    match[t + r] = -share[t + r] * (of_rest[r] + match[t + r] * along[t + r]);
                    combine<D>(a.at[r], 1, nothing, of_z, z);
                    put<D>(out + (t + r) * D, a.at[r], 1, features, size.relu);
                }
            }
            results.end(q_bar + at * D, left);
            for (Index t = 0; t < BLOCK; t++) *floor_bar += match[t];
            pairs<D>(across, phi, false);
            pairs<D>(paired, g, false);
            add<D>(z_bar, across, match);
            products.template accumulate<D>(bars, across, paired);
        }
        std::copy(bars, bars + STATE, &shares[(p.head * size.shares + p.share) * STATE]);
    });
    total(state_bar, shares, size, STATE);
}

}  // namespace avx512
}  // namespace
