"""Linear attention in blocks of tokens that stay in the cache, with backward passes by hand.

Plain autograd writes the features, the matches and every gradient to memory, each of the size of
the sequence. Here a block of tokens is read once, and only answers and gradients are written; q, k
and v are all that is kept. With `phi = feature(q)`, `K = S - z mean^T` and `floor = eps c`:

    y_i = mean + u_i / delta_i,        u_i = K^T phi(q_i),   delta_i = phi(q_i)^T z + floor
    g_i = ybar_i / delta_i,            deltabar_i = -phi(q_i)^T (K g_i) / delta_i
    phibar(q_i) = K g_i + deltabar_i z
    Kbar = sum_i phi(q_i) g_i^T,   zbar = sum_i deltabar_i phi(q_i),   floorbar = sum_i deltabar_i

    vbar_j = w_j (Sbar^T phi(k_j) + sbar),   phibar(k_j) = w_j (Sbar v_j + zbar)
    wbar_j = phi(k_j)^T (Sbar v_j + zbar) + sbar^T v_j + cbar

Sums are kept in float32 at least. The gradients are of first order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stormda.attention.arguments import exactly, wide
from stormda.attention.features import Feature, elu1, relu
from stormda.attention.pages import result_like
from stormda.attention.state import LinearState, key_weights

BLOCK = 2048
"""Tokens of a block: with 64 features of 4 bytes, half a MiB."""


@dataclass(frozen=True)
class _Fused:
    """A feature map whose slope is known from the features."""

    apply: Callable[[Tensor, Tensor], Tensor]
    """Returns the features, for which the second tensor is room."""

    pull: Callable[[Tensor, Tensor], Tensor]
    """Multiplies the gradient of the features, in place, by the slope at the features."""


def _wide(x: Tensor, room: Tensor) -> Tensor:
    """Return `x` in the dtype of the room."""
    return x if x.dtype == room.dtype else room.copy_(x)


_AS_IT_IS = _Fused(_wide, lambda bar, phi: bar)

FUSED: dict[Feature, _Fused] = {
    relu: _Fused(
        lambda x, room: torch.clamp_min(_wide(x, room), 0, out=room),
        lambda bar, phi: bar.mul_(phi.sign()),  # `bar.mul_(phi > 0)` takes as long as a product
    ),
    elu1: _Fused(
        lambda x, room: room.copy_(elu1(_wide(x, room))),
        lambda bar, phi: bar.mul_(phi.clamp(max=1)),
    ),
}
"""The maps that are done inside; others are done before, by autograd."""


def blocked_sums(
    k: Tensor,
    v: Tensor,
    *,
    feature: Feature = relu,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
) -> LinearState:
    """Return `LinearState.from_tokens(feature(k), v, ...)`, block by block.

    Args:
        k: Keys `(*batch, h, m, d)`.
        v: Values `(*batch, h, m, e)`.
        feature: Maps keys to features.
        weight: What each key counts, `(*batch, m)` or broadcastable to it.
        mask: True where a key counts, `(*batch, m)` or broadcastable to it.

    Examples:
        >>> blocked_sums(torch.ones(1, 5, 2), torch.ones(1, 5, 3)).z
        tensor([[5., 5.]])
    """
    k, fused = _before(k, feature)
    with exactly(k):
        w = key_weights(weight, mask, like=wide(k[..., :1]))
        each = None if w is None else w.expand(k.shape[:-1])
        kv, z, s = _Sums.apply(k, v, each, fused)  # type: ignore[no-untyped-call]
        if w is None:
            return LinearState(kv, z, s, z.new_full(k.shape[:-2], k.shape[-2]))
        return LinearState(kv, z, s, w.sum(-1).expand(k.shape[:-2]))


def blocked_answers(q: Tensor, state: LinearState, *, feature: Feature = relu) -> Tensor:
    """Return `state.apply(feature(q))`, block by block, in the dtype of `q`.

    Args:
        q: Queries `(*batch, h, n, d)`.
        state: The sums over the keys.
        feature: Maps queries to features.

    Examples:
        >>> state = blocked_sums(torch.ones(1, 5, 2), torch.ones(1, 5, 3))
        >>> blocked_answers(torch.ones(1, 1, 2), state)
        tensor([[[1., 1., 1.]]])
    """
    q, fused = _before(q, feature)
    with exactly(q):
        y: Tensor = _Answers.apply(q, *state.factors(), fused)  # type: ignore[no-untyped-call]
        return y


def _before(x: Tensor, feature: Feature) -> tuple[Tensor, _Fused]:
    """Return what is done inside, after what is not has been done."""
    fused = FUSED.get(feature)
    return (feature(x), _AS_IT_IS) if fused is None else (x, fused)


class _Sums(torch.autograd.Function):
    """S, z and s from k, v and w."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        k: Tensor,
        v: Tensor,
        w: Tensor | None,
        fused: _Fused,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sum block by block."""
        ctx.save_for_backward(k, v, w)
        ctx.fused = fused
        heads, d, e = k.shape[:-2], k.shape[-1], v.shape[-1]
        zeros = wide(k[..., :0]).new_zeros
        kv, z, s = zeros(*heads, d, e), zeros(*heads, d), zeros(*heads, e)
        for h, block, (for_phi, for_value) in _blocks(k, z.dtype, d, e):
            phi, value = fused.apply(k[h][block], for_phi), _wide(v[h][block], for_value)
            if w is None:
                s[h] += value.sum(0)
            else:
                part = w[h][block]
                s[h].addmv_(value.mT, part)
                phi = phi * part[:, None]
            kv[h].addmm_(phi.mT, value)
            z[h] += phi.sum(0)
        return kv, z, s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, kv_bar: Tensor, z_bar: Tensor, s_bar: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        """Pull back block by block."""
        k, v, w = ctx.saved_tensors
        k_bar, v_bar = result_like(k), result_like(v)
        w_bar = None if w is None else torch.empty(w.shape, dtype=w.dtype, device=w.device)
        d, e = kv_bar.shape[-2:]
        for h, block, rooms in _blocks(k, z_bar.dtype, d, e, d, e):
            phi, value = ctx.fused.apply(k[h][block], rooms[0]), _wide(v[h][block], rooms[1])
            of_phi = torch.addmm(z_bar[h], value, kv_bar[h].mT, out=rooms[2])
            of_value = torch.addmm(s_bar[h], phi, kv_bar[h], out=rooms[3])
            if w is not None and w_bar is not None:
                part = w[h][block][:, None]
                w_bar[h][block] = (phi * of_phi).sum(-1).addmv_(value, s_bar[h])
                of_phi, of_value = of_phi.mul_(part), of_value.mul_(part)
            k_bar[h][block] = ctx.fused.pull(of_phi, phi)
            v_bar[h][block] = of_value
        return k_bar, v_bar, w_bar, None


class _Answers(torch.autograd.Function):
    """y from q and the factors of a state."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q: Tensor,
        kv: Tensor,
        z: Tensor,
        mean: Tensor,
        floor: Tensor,
        fused: _Fused,
    ) -> Tensor:
        """Answer block by block."""
        ctx.save_for_backward(q, kv, z, mean, floor)
        ctx.fused = fused
        y = result_like(q.new_empty(()).expand(*q.shape[:-1], kv.shape[-1]))
        for h, block, (for_phi, for_u) in _blocks(q, z.dtype, *kv.shape[-2:]):
            phi = fused.apply(q[h][block], for_phi)
            share = torch.mv(phi, z[h]).add_(floor[h]).reciprocal_()
            u = torch.mm(phi, kv[h], out=for_u)
            torch.addcmul(mean[h], u, share[:, None], out=y[h][block])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        """Pull back block by block."""
        q, kv, z, mean, floor = ctx.saved_tensors
        q_bar = result_like(q)
        kv_bar, z_bar, mean_bar, floor_bar = map(torch.zeros_like, (kv, z, mean, floor))
        d, e = kv.shape[-2:]
        for h, block, rooms in _blocks(q, z.dtype, d, e, e, d):
            phi, bar = ctx.fused.apply(q[h][block], rooms[0]), _wide(y_bar[h][block], rooms[1])
            share = torch.mv(phi, z[h]).add_(floor[h]).reciprocal_()
            g = torch.mul(bar, share[:, None], out=rooms[2])
            of_phi = torch.mm(g, kv[h].mT, out=rooms[3])
            of_matches = torch.linalg.vecdot(phi, of_phi).mul_(share).neg_()
            kv_bar[h].addmm_(phi.mT, g)
            z_bar[h].addmv_(phi.mT, of_matches)
            mean_bar[h] += bar.sum(0)
            floor_bar[h] += of_matches.sum()
            q_bar[h][block] = ctx.fused.pull(of_phi.addcmul_(of_matches[:, None], z[h]), phi)
        return q_bar, kv_bar, z_bar, mean_bar, floor_bar, None


def _blocks(
    x: Tensor, dtype: torch.dtype, *columns: int
) -> Iterator[tuple[tuple[int, ...], slice, list[Tensor]]]:
    """Yield the blocks of tokens of each head, with room for arrays of so many columns.

    The room is the same for all blocks: memory that is new has to be found and cleared first.
    """
    n = x.shape[-2]
    rooms = [x.new_empty((min(BLOCK, n), width), dtype=dtype) for width in columns]
    for h in product(*map(range, x.shape[:-2])):
        for start in range(0, n, BLOCK):
            count = min(BLOCK, n - start)
            yield h, slice(start, start + count), [room[:count] for room in rooms]
