// Numbers, and work over threads: heads times shares of the tokens of a head.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

// What the compiler was told that the processor has: products of pairs of bfloat16 (AVX-512), and
// matrix units as well (AMX, which a process has to ask Linux for).
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define AVX512 1
#include <immintrin.h>
#if defined(__AMX_BF16__) && defined(__linux__)
#define AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

using bf16 = uint16_t;
using Index = int64_t;

namespace {

constexpr Index BLOCK = 128;  // tokens of a block

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

struct Size {
    Index heads, n;
    bool relu;
    Index threads, shares;
};

struct Part {
    Index head, first, last, share;
};

// Calls a function in every thread of a team, the caller among them: `GOMP_parallel` of PyTorch's
// OpenMP. After an operation of PyTorch its threads keep a processor busy for a while, waiting for
// the next one; threads of our own would have to share it with them. Null where there is none.
using Team = void (*)(void (*)(void*), void*, unsigned, unsigned);
Team team = nullptr;

// Call `run` in so many threads.
template <class Run>
void together(Index threads, Run& run) {
    if (threads > 1 && team) {
        team([](void* it) { (*static_cast<Run*>(it))(); }, &run, unsigned(threads), 0);
        return;
    }
    std::vector<std::thread> others;
    for (Index i = 1; i < threads; i++) others.emplace_back([&run] { run(); });
    run();
    for (auto& other : others) other.join();
}

// Call `work` on every part of the tokens, over threads; each has `Products` of its own.
template <class Products, class Work>
void spread(const Size& size, const Work& work) {
    const Index blocks = (size.n + BLOCK - 1) / BLOCK, parts = size.heads * size.shares;
    std::atomic<Index> next{0};
    auto run = [&] {
        Products products;
        for (Index i; (i = next++) < parts;) {
            const Index share = i % size.shares;
            const Index first = blocks * share / size.shares * BLOCK;
            const Index last = blocks * (share + 1) / size.shares * BLOCK;
            work(products, Part{i / size.shares, first, std::min(size.n, last), share});
        }
    };
    together(std::min(size.threads, parts), run);
}

// Add the shares of each head up: from (heads, shares, count) to (heads, count).
inline void total(float* out, const std::vector<float>& parts, const Size& size, Index count) {
    if (size.shares == 1) {
        std::copy(parts.begin(), parts.end(), out);
        return;
    }
    for (Index h = 0; h < size.heads; h++)
        for (Index j = 0; j < count; j++) {
            double sum = 0;
            for (Index i = 0; i < size.shares; i++)
                sum += parts[(h * size.shares + i) * count + j];
            out[h * count + j] = float(sum);
        }
}

}  // namespace
