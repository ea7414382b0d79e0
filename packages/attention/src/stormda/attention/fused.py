"""Linear attention for GPUs in Triton kernels (`kernels/triton_linear.py`), each a single pass.

Features, weights and sums are done as the tokens are read. The kernels have been run in Triton's
interpreter only, in float32, and not on a GPU: `suited` does not choose them, and they are asked
for by `backend=FUSED`. They need Triton, which PyTorch brings along on GPUs.
"""

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stormda.attention.features import Feature, relu
from stormda.attention.packed import packed_answers, packed_sums
from stormda.attention.state import LinearState

SIZES = (16, 32, 64, 128)
"""The numbers of features of a head."""

BLOCK = 64
"""Tokens that a program takes at a time."""

PROGRAMS = 1024
"""Programs that share the sums: several for each processor of a large GPU."""


def status() -> str:
    """Return whether the kernels can run here."""
    if importlib.util.find_spec("triton") is None:
        return "no Triton"
    return "ready, on request" if torch.cuda.is_available() else "no GPU"


def fused_sums(
    k: Tensor,
    v: Tensor,
    *,
    feature: Feature = relu,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
) -> LinearState:
    """Return `LinearState.from_tokens(feature(k), v, ...)`.

    Args:
        k: Keys `(*batch, h, m, d)`.
        v: Values `(*batch, h, m, d)`.
        feature: Maps keys to `d` features; ReLU is done inside.
        weight: What each key counts, `(*batch, m)` or broadcastable to it.
        mask: True where a key counts, `(*batch, m)` or broadcastable to it.

    Raises:
        ValueError: Tokens of a size that there are no kernels for.
    """
    k, inside = (k, True) if feature is relu else (feature(k), False)
    _check(k=k, v=v)
    return packed_sums(_Sums.apply, k, v, weight, mask, relu_inside=inside)


def fused_answers(q: Tensor, state: LinearState, *, feature: Feature = relu) -> Tensor:
    """Return `state.apply(feature(q))` in the dtype of `q`.

    Args:
        q: Queries `(*batch, h, n, d)`.
        state: The sums over the keys.
        feature: Maps queries to `d` features; ReLU is done inside.

    Raises:
        ValueError: Tokens of a size that there are no kernels for.
    """
    q, inside = (q, True) if feature is relu else (feature(q), False)
    _check(q=q)
    return packed_answers(_Answers.apply, q, state, relu_inside=inside)


def _check(**tokens: Tensor) -> None:
    for name, x in tokens.items():
        if x.shape[-1] not in SIZES or x.dtype == torch.float64:
            raise ValueError(
                f"{name}: expected d one of {SIZES} in float32 or less, got {x.dtype} of shape "
                f"{tuple(x.shape)}"
            )


def _kernels() -> ModuleType:
    return importlib.import_module("stormda.attention.kernels.triton_linear")


def _options(like: Tensor, inside: bool) -> dict[str, Any]:
    """Return what all kernels are compiled for; half types lose nothing in tf32."""
    precision = "ieee" if like.dtype == torch.float32 else "tf32"
    return {"D": like.shape[-1], "BLOCK": BLOCK, "RELU": inside, "PRECISION": precision}


def _shares(like: Tensor) -> tuple[int, int, int]:
    """Return heads, shares of the tokens of a head, and tokens of a share."""
    heads, n = like.shape[:-2].numel(), like.shape[-2]
    blocks = -(-n // BLOCK)
    span = -(-blocks // max(1, min(blocks, PROGRAMS // heads))) * BLOCK
    return heads, -(-n // span), span


class _Sums(torch.autograd.Function):
    """S, z and s, packed, from k, v and w."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, v: Tensor, w: Tensor | None, inside: bool) -> Tensor:  # noqa: ANN401
        """Sum."""
        k, v = k.contiguous(), v.contiguous()
        w = None if w is None else w.contiguous()
        ctx.save_for_backward(k, v, w)
        ctx.inside = inside
        d = k.shape[-1]
        heads, shares, span = _shares(k)
        parts = torch.empty(heads, shares, d * (d + 2), dtype=torch.float32, device=k.device)
        _kernels().sums_kernel[heads, shares](
            k, v, w if w is not None else k, parts, k.shape[-2], span,
            WEIGHTED=w is not None, **_options(k, inside),
        )  # fmt: skip
        return parts.sum(1).view(*k.shape[:-2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, bar: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        """Pull back."""
        k, v, w = ctx.saved_tensors
        k_bar, v_bar = torch.empty_like(k), torch.empty_like(v)
        w_bar = None if w is None else torch.empty_like(w)
        grid = k.shape[:-2].numel(), -(-k.shape[-2] // BLOCK)
        _kernels().sums_back_kernel[grid](
            k, v, w if w is not None else k, bar.contiguous(),
            k_bar, v_bar, w_bar if w_bar is not None else k_bar, k.shape[-2],
            WEIGHTED=w is not None, **_options(k, ctx.inside),
        )  # fmt: skip
        return k_bar, v_bar, w_bar, None


class _Answers(torch.autograd.Function):
    """y from q and the packed factors of a state."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, state: Tensor, inside: bool) -> Tensor:  # noqa: ANN401
        """Answer."""
        q, state = q.contiguous(), state.contiguous()
        ctx.save_for_backward(q, state)
        ctx.inside = inside
        y = torch.empty_like(q)
        grid = q.shape[:-2].numel(), -(-q.shape[-2] // BLOCK)
        _kernels().answers_kernel[grid](q, state, y, q.shape[-2], **_options(q, inside))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        """Pull back."""
        q, state = ctx.saved_tensors
        heads, shares, span = _shares(q)
        q_bar = torch.empty_like(q)
        parts = torch.empty(heads, shares, state.shape[-1], dtype=torch.float32, device=q.device)
        _kernels().answers_back_kernel[heads, shares](
            q, state, y_bar.contiguous(), q_bar, parts, q.shape[-2], span,
            **_options(q, ctx.inside),
        )  # fmt: skip
        return q_bar, parts.sum(1).view(state.shape), None
