// Linear attention of bfloat16 tokens, block by block; the formulas are those of blocked.py.
//
// Sums are float32. Keys and values have 32, 64 or 128 features; tensors are contiguous, heads
// first. The four passes are written twice: for AVX-512, where matrix units (AMX) or products of
// pairs (`Dots`) multiply, and portably.

#include "work.h"

#ifdef AVX512
#include "passes_avx512.h"
#include "products_dots.h"
#else
#include "passes_portable.h"
#endif

#if defined(AMX)
#include "products_units.h"
#define PASS(name) \
    (stormda_kind() == 2 ? avx512::name<D, avx512::Units> : avx512::name<D, avx512::Dots>)
#elif defined(AVX512)
#define PASS(name) avx512::name<D, avx512::Dots>
#else
#define PASS(name) portable::name<D>
#endif

#define FOR_SIZES(call)              \
    if (d == 32) {                   \
        constexpr Index D = 32;      \
        call;                        \
    } else if (d == 64) {            \
        constexpr Index D = 64;      \
        call;                        \
    } else if (d == 128) {           \
        constexpr Index D = 128;     \
        call;                        \
    }

extern "C" {

// What multiplies: 2 matrix units, which Linux lets this process use; 1 AVX-512; 0 portable loops.
int stormda_kind() {
#if defined(AMX)
    static const bool units = syscall(SYS_arch_prctl, 0x1023, 18) == 0;  // ARCH_REQ_XCOMP_PERM
    return units ? 2 : 1;
#elif defined(AVX512)
    return 1;
#else
    return 0;
#endif
}

// Tell which threads to work on: the function `GOMP_parallel` of a runtime, or null for own ones.
void stormda_use_team(Team of) { team = of; }

// out (heads, d d + d + d): S, z and s of k, v (heads, n, d); w (heads, n) or null.
void stormda_sums(const bf16* k, const bf16* v, const float* w, float* out, Index heads, Index n,
                  Index d, bool relu, Index threads, Index shares) {
    FOR_SIZES(PASS(sums)(k, v, w, out, Size{heads, n, relu, threads, shares}))
}

// Gradients of k, v and, where there are weights, w; `bar` is that of `out` above, and `centre`
// (heads, d + d) the means of phi(k) and v.
void stormda_sums_back(const bf16* k, const bf16* v, const float* w, const float* centre,
                       const float* bar, bf16* k_bar, bf16* v_bar, float* w_bar, Index heads,
                       Index n, Index d, bool relu, Index threads, Index shares) {
    FOR_SIZES(PASS(sums_back)(k, v, w, centre, bar, k_bar, v_bar, w_bar,
                              Size{heads, n, relu, threads, shares}))
}

// y (heads, n, d); `state` (heads, d d + d + d + 1) holds K, z, mean and floor.
void stormda_answers(const bf16* q, const float* state, bf16* y, Index heads, Index n, Index d,
                     bool relu, Index threads, Index shares) {
    FOR_SIZES(PASS(answers)(q, state, y, Size{heads, n, relu, threads, shares}))
}

// The gradient of q, and of `state` in `state_bar`.
void stormda_answers_back(const bf16* q, const float* state, const bf16* y_bar, bf16* q_bar,
                          float* state_bar, Index heads, Index n, Index d, bool relu,
                          Index threads, Index shares) {
    FOR_SIZES(PASS(answers_back)(q, state, y_bar, q_bar, state_bar,
                                 Size{heads, n, relu, threads, shares}))
}

}  // extern "C"
