// The four passes in loops that a compiler vectorises, on any processor.
#pragma once

#include "work.h"

namespace {
namespace portable {

struct Nothing {};  // that a thread would need

template <Index D>
inline void put(bf16* out, const float* x) {
    for (Index j = 0; j < D; j++) out[j] = narrow(x[j]);
}

// Copy the tokens of a block, positive parts alone if asked, zero past its end.
template <Index D>
void rows(bf16* out, const bf16* x, Index count, bool relu) {
    const Index size = count * D;
    const int16_t least = relu ? 0 : -32768;
    for (Index j = 0; j < size; j++) out[j] = bf16(std::max(int16_t(x[j]), least));
    std::fill(out + size, out + BLOCK * D, 0);
}

// c (BLOCK x D) = a (BLOCK x D) b (D x D).
template <Index D>
void multiply(float* c, const bf16* a, const float* b) {
    for (Index t = 0; t < BLOCK; t++) {
        float sum[D] = {};
        for (Index l = 0; l < D; l++) {
            const float x = widen(a[t * D + l]);
            for (Index j = 0; j < D; j++) sum[j] += x * b[l * D + j];
        }
        std::copy(sum, sum + D, c + t * D);
    }
}

// c (D x D) += a^T b, where both are blocks of tokens. A block is summed up before it is added:
// sums over many tokens lose less.
template <Index D>
void accumulate(float* c, const bf16* a, const bf16* b) {
    std::vector<float> wide(BLOCK * D);
    for (Index j = 0; j < BLOCK * D; j++) wide[j] = widen(b[j]);
    for (Index i = 0; i < D; i++) {
        float sum[D] = {};
        for (Index t = 0; t < BLOCK; t++) {
            const float x = widen(a[t * D + i]);
            for (Index j = 0; j < D; j++) sum[j] += x * wide[t * D + j];
        }
        for (Index j = 0; j < D; j++) c[i * D + j] += sum[j];
    }
}

// The inner product of tokens with a vector.
template <Index D>
inline float inner(const bf16* x, const float* y) {
    float sum = 0;
    for (Index j = 0; j < D; j++) sum += widen(x[j]) * y[j];
    return sum;
}

template <Index D>
void sums(const bf16* k, const bf16* v, const float* w, float* out, Size size) {
    constexpr Index STATE = D * D + 2 * D;
    std::vector<float> parts(size.heads * size.shares * STATE);
    spread<Nothing>(size, [&](Nothing, Part p) {
        float *S = &parts[(p.head * size.shares + p.share) * STATE], *z = S + D * D, *s = z + D;
        std::vector<bf16> phi(BLOCK * D), value(BLOCK * D);
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, count = std::min(BLOCK, p.last - t0);
            rows<D>(phi.data(), k + at * D, count, size.relu);
            rows<D>(value.data(), v + at * D, count, false);
            float of_z[D] = {}, of_s[D] = {};
            for (Index t = 0; t < count; t++) {
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
                put<D>(y, weighted);
            }
            for (Index j = 0; j < D; j++) z[j] += of_z[j];
            for (Index j = 0; j < D; j++) s[j] += of_s[j];
            accumulate<D>(S, phi.data(), value.data());
        }
    });
    total(out, parts, size, STATE);
}

template <Index D>
void sums_back(const bf16* k, const bf16* v, const float* w, const float*, const float* bar,
               bf16* k_bar, bf16* v_bar, float* w_bar, Size size) {
    spread<Nothing>(size, [&](Nothing, Part p) {
        const float *S = bar + p.head * (D * D + 2 * D), *z = S + D * D, *s = z + D;
        std::vector<float> turned(D * D);
        for (Index i = 0; i < D; i++)
            for (Index j = 0; j < D; j++) turned[j * D + i] = S[i * D + j];
        std::vector<bf16> phi(BLOCK * D), value(BLOCK * D);
        std::vector<float> of_phi(BLOCK * D), of_value(BLOCK * D);
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, count = std::min(BLOCK, p.last - t0);
            rows<D>(phi.data(), k + at * D, count, size.relu);
            rows<D>(value.data(), v + at * D, count, false);
            multiply<D>(of_phi.data(), value.data(), turned.data());
            multiply<D>(of_value.data(), phi.data(), S);
            for (Index t = 0; t < count; t++) {
                const float weight = w ? w[at + t] : 1.0f;
                float *a = &of_phi[t * D], *b = &of_value[t * D];
                const bf16 *x = &phi[t * D], *y = &value[t * D];
                for (Index j = 0; j < D; j++) a[j] += z[j];
                for (Index j = 0; j < D; j++) b[j] = (b[j] + s[j]) * weight;
                if (w) w_bar[at + t] = inner<D>(x, a) + inner<D>(y, s);
                for (Index j = 0; j < D; j++) a[j] = size.relu && !x[j] ? 0.0f : a[j] * weight;
                put<D>(k_bar + (at + t) * D, a);
                put<D>(v_bar + (at + t) * D, b);
            }
        }
    });
}

template <Index D>
void answers(const bf16* q, const float* state, bf16* y, Size size) {
    spread<Nothing>(size, [&](Nothing, Part p) {
        const float *K = state + p.head * (D * D + 2 * D + 1), *z = K + D * D, *mean = z + D;
        const float floor = mean[D];
        std::vector<bf16> phi(BLOCK * D);
        std::vector<float> matches(BLOCK * D);
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, count = std::min(BLOCK, p.last - t0);
            rows<D>(phi.data(), q + at * D, count, size.relu);
            multiply<D>(matches.data(), phi.data(), K);
            for (Index t = 0; t < count; t++) {
                const float* u = &matches[t * D];
                const float share = 1 / (inner<D>(&phi[t * D], z) + floor);
                float answer[D];
                for (Index j = 0; j < D; j++) answer[j] = mean[j] + share * u[j];
                put<D>(y + (at + t) * D, answer);
            }
        }
    });
}

template <Index D>
void answers_back(const bf16* q, const float* state, const bf16* y_bar, bf16* q_bar,
                  float* state_bar, Size size) {
    constexpr Index STATE = D * D + 2 * D + 1;
    std::vector<float> parts(size.heads * size.shares * STATE);
    spread<Nothing>(size, [&](Nothing, Part p) {
        const float *K = state + p.head * STATE, *z = K + D * D, floor = z[2 * D];
        float *K_bar = &parts[(p.head * size.shares + p.share) * STATE], *z_bar = K_bar + D * D;
        float *mean_bar = z_bar + D, *floor_bar = mean_bar + D;
        std::vector<float> turned(D * D);
        for (Index i = 0; i < D; i++)
            for (Index j = 0; j < D; j++) turned[j * D + i] = K[i * D + j];
        std::vector<bf16> phi(BLOCK * D), g(BLOCK * D);
        std::vector<float> share(BLOCK), of_phi(BLOCK * D);
        for (Index t0 = p.first; t0 < p.last; t0 += BLOCK) {
            const Index at = p.head * size.n + t0, count = std::min(BLOCK, p.last - t0);
            rows<D>(phi.data(), q + at * D, count, size.relu);
            float of_z[D] = {}, of_mean[D] = {}, of_floor = 0;
            for (Index t = 0; t < count; t++) {
                share[t] = 1 / (inner<D>(&phi[t * D], z) + floor);
                const bf16* bar = y_bar + (at + t) * D;
                float scaled[D];
                for (Index j = 0; j < D; j++) of_mean[j] += widen(bar[j]);
                for (Index j = 0; j < D; j++) scaled[j] = widen(bar[j]) * share[t];
                put<D>(&g[t * D], scaled);
            }
            std::fill(g.begin() + count * D, g.end(), 0);
            multiply<D>(of_phi.data(), g.data(), turned.data());
            for (Index t = 0; t < count; t++) {
                float* a = &of_phi[t * D];
                const bf16* x = &phi[t * D];
                const float of_matches = -share[t] * inner<D>(x, a);
                of_floor += of_matches;
                for (Index j = 0; j < D; j++) of_z[j] += of_matches * widen(x[j]);
                for (Index j = 0; j < D; j++)
                    a[j] = size.relu && !x[j] ? 0.0f : a[j] + of_matches * z[j];
                put<D>(q_bar + (at + t) * D, a);
            }
            for (Index j = 0; j < D; j++) z_bar[j] += of_z[j];
            for (Index j = 0; j < D; j++) mean_bar[j] += of_mean[j];
            *floor_bar += of_floor;
            accumulate<D>(K_bar, phi.data(), g.data());
        }
    });
    total(state_bar, parts, size, STATE);
}

}  // namespace portable
}  // namespace
