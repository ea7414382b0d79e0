// The four passes by packed blocks of tokens.
//
// A block is packed once and multiplied as a whole. Matrices that all tokens meet are split in two
// bfloat16 parts, so that only the tokens themselves are rounded: beside the units that is cheap.
#pragma once

#include "products_blocks.h"

namespace {
namespace blocks {

constexpr Index TAIL = 16;  // columns of a tile of the matrix units

template <Index D>
void sums(const bf16* k, const bf16* v, const float* w, float* out, Size size) {
    constexpr Index STATE = D * D + 2 * D;
    std::vector<float> parts(size.heads * size.shares * STATE);
    spread<Units>(size, [&](Part p) {
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
                put<D, false>(y, weighted);
            }
            for (Index j = 0; j < D; j++) z[j] += of_z[j];
            for (Index j = 0; j < D; j++) s[j] += of_s[j];
            across<D>(turned.data(), phi.data());
            pairs<D>(paired.data(), value.data());
            multiply<D, BLOCK, D, true>(S, turned.data(), paired.data());
        }
    });
    total(out, parts, size, STATE);
}

template <Index D>
void sums_back(const bf16* k, const bf16* v, const float* w, const float*, const float* bar,
               bf16* k_bar, bf16* v_bar, float* w_bar, Size size) {
    spread<Units>(size, [&](Part p) {
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
                put<D, true>(k_bar + (at + t) * D, a);
                put<D, true>(v_bar + (at + t) * D, b);
            }
        }
    });
}

template <Index D>
void answers(const bf16* q, const float* state, bf16* y, Size size) {
    constexpr Index WIDE = D + TAIL;  // K, and z beside it
    spread<Units>(size, [&](Part p) {
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
                put<D, true>(y + (at + t) * D, answer);
            }
        }
    });
}

template <Index D>
void answers_back(const bf16* q, const float* state, const bf16* y_bar, bf16* q_bar,
                  float* state_bar, Size size) {
    constexpr Index STATE = D * D + 2 * D + 1;
    std::vector<float> parts(size.heads * size.shares * STATE);
    spread<Units>(size, [&](Part p) {
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
                put<D, false>(&g[t * D], scaled);
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
                put<D, true>(q_bar + (at + t) * D, a);
            }
            for (Index j = 0; j < D; j++) z_bar[j] += of_z[j];
            for (Index j = 0; j < D; j++) mean_bar[j] += of_mean[j];
            *floor_bar += of_floor;
            across<D>(across_phi.data(), phi.data());
            pairs<D>(paired.data(), g.data());
            multiply<D, BLOCK, D, true>(K_bar, across_phi.data(), paired.data());
        }
    });
    total(state_bar, parts, size, STATE);
}

}  // namespace blocks
}  // namespace
