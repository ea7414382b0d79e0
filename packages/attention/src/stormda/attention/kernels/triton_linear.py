# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202
"""The four passes of linear attention as Triton kernels; the formulas are those of `blocked`.

Importing this module needs Triton. Tokens `(heads, n, D)` are read once, in any float type;
features and weights are applied on the way, and all arithmetic is float32 (with `PRECISION` tf32,
products of bfloat16 tokens lose nothing of the tokens). Sums are split over the tokens: each
program writes the sums of its share.
"""

import triton
import triton.language as tl


@triton.jit
def _tokens(x, at, inside, D: tl.constexpr):
    """Read the tokens at some places, zero where there are none."""
    i = tl.arange(0, D)
    part = tl.load(x + at[:, None] * D + i[None, :], mask=inside[:, None], other=0.0)
    return part.to(tl.float32)


@triton.jit
def sums_kernel(
    k,
    v,
    w,
    out,
    n,
    span,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    RELU: tl.constexpr,
    WEIGHTED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write S, z and s of one share of one head."""
    head, share = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    i, t = tl.arange(0, D), tl.arange(0, BLOCK)
    kv = tl.zeros((D, D), tl.float32)
    z, s = tl.zeros((D,), tl.float32), tl.zeros((D,), tl.float32)
    last = tl.minimum((share + 1) * span, n)
    for start in range(share * span, last, BLOCK):
        token = start + t
        inside, at = token < last, head * n + token
        phi, value = _tokens(k, at, inside, D), _tokens(v, at, inside, D)
        if RELU:
            phi = tl.maximum(phi, 0.0)
        if WEIGHTED:
            weight = tl.load(w + at, mask=inside, other=0.0)
            s += tl.sum(value * weight[:, None], 0)
            phi = phi * weight[:, None]
        else:
            s += tl.sum(value, 0)
        kv += tl.dot(tl.trans(phi), value, input_precision=PRECISION)
        z += tl.sum(phi, 0)
    base = out + (head * tl.num_programs(1) + share) * (D * D + 2 * D)
    tl.store(base + i[:, None] * D + i[None, :], kv)
    tl.store(base + D * D + i, z)
    tl.store(base + D * D + D + i, s)


@triton.jit
def sums_back_kernel(
    k,
    v,
    w,
    bar,
    k_bar,
    v_bar,
    w_bar,
    n,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    RELU: tl.constexpr,
    WEIGHTED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the gradients of one block of keys, values and weights."""
    head, block = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    i = tl.arange(0, D)
    token = block * BLOCK + tl.arange(0, BLOCK)
    inside, at = token < n, head * n + token
    base = bar + head * (D * D + 2 * D)
    kv = tl.load(base + i[:, None] * D + i[None, :])
    z, s = tl.load(base + D * D + i), tl.load(base + D * D + D + i)
    phi, value = _tokens(k, at, inside, D), _tokens(v, at, inside, D)
    if RELU:
        phi = tl.maximum(phi, 0.0)
    of_phi = tl.dot(value, tl.trans(kv), input_precision=PRECISION) + z[None, :]
    of_value = tl.dot(phi, kv, input_precision=PRECISION) + s[None, :]
    if WEIGHTED:
        weight = tl.load(w + at, mask=inside, other=0.0)
        tl.store(w_bar + at, tl.sum(phi * of_phi, 1) + tl.sum(value * s[None, :], 1), mask=inside)
        of_phi, of_value = of_phi * weight[:, None], of_value * weight[:, None]
    if RELU:
        of_phi = tl.where(phi > 0, of_phi, 0.0)
    where = at[:, None] * D + i[None, :]
    tl.store(k_bar + where, of_phi.to(k_bar.dtype.element_ty), mask=inside[:, None])
    tl.store(v_bar + where, of_value.to(v_bar.dtype.element_ty), mask=inside[:, None])


@triton.jit
def answers_kernel(
    q,
    state,
    y,
    n,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the answers of one block of queries."""
    head, block = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    i = tl.arange(0, D)
    token = block * BLOCK + tl.arange(0, BLOCK)
    inside, at = token < n, head * n + token
    base = state + head * (D * D + 2 * D + 1)
    kv = tl.load(base + i[:, None] * D + i[None, :])
    z, mean = tl.load(base + D * D + i), tl.load(base + D * D + D + i)
    floor = tl.load(base + D * D + 2 * D)
    phi = _tokens(q, at, inside, D)
    if RELU:
        phi = tl.maximum(phi, 0.0)
    matches = tl.sum(phi * z[None, :], 1) + floor
    answer = mean[None, :] + tl.dot(phi, kv, input_precision=PRECISION) / matches[:, None]
    where = at[:, None] * D + i[None, :]
    tl.store(y + where, answer.to(y.dtype.element_ty), mask=inside[:, None])


@triton.jit
def answers_back_kernel(
    q,
    state,
    y_bar,
    q_bar,
    out,
    n,
    span,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the gradient of one share of the queries, and its part of that of the state."""
    head, share = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    i, t = tl.arange(0, D), tl.arange(0, BLOCK)
    size = D * D + 2 * D + 1
    base = state + head * size
    kv = tl.load(base + i[:, None] * D + i[None, :])
    z, floor = tl.load(base + D * D + i), tl.load(base + D * D + 2 * D)
    kv_bar = tl.zeros((D, D), tl.float32)
    z_bar, mean_bar = tl.zeros((D,), tl.float32), tl.zeros((D,), tl.float32)
    each_floor = tl.zeros((BLOCK,), tl.float32)
    last = tl.minimum((share + 1) * span, n)
    for start in range(share * span, last, BLOCK):
        token = start + t
        inside, at = token < last, head * n + token
        phi, bar = _tokens(q, at, inside, D), _tokens(y_bar, at, inside, D)
        if RELU:
            phi = tl.maximum(phi, 0.0)
        matches = tl.where(inside, tl.sum(phi * z[None, :], 1) + floor, 1.0)
        g = bar / matches[:, None]
        of_phi = tl.dot(g, tl.trans(kv), input_precision=PRECISION)
        of_matches = -tl.sum(phi * of_phi, 1) / matches
        kv_bar += tl.dot(tl.trans(phi), g, input_precision=PRECISION)
        z_bar += tl.sum(phi * of_matches[:, None], 0)
        mean_bar += tl.sum(bar, 0)
        each_floor += of_matches
        of_phi += of_matches[:, None] * z[None, :]
        if RELU:
            of_phi = tl.where(phi > 0, of_phi, 0.0)
        where = at[:, None] * D + i[None, :]
        tl.store(q_bar + where, of_phi.to(q_bar.dtype.element_ty), mask=inside[:, None])
    base = out + (head * tl.num_programs(1) + share) * size
    tl.store(base + i[:, None] * D + i[None, :], kv_bar)
    tl.store(base + D * D + i, z_bar)
    tl.store(base + D * D + D + i, mean_bar)
    tl.store(base + D * D + 2 * D, tl.sum(each_floor, 0))
