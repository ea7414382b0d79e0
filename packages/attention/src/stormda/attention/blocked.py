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

from collections.abc import Callable, Iterator, Sequence
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
"""Tokens of a block for each thread: with 64 features of 4 bytes, half a MiB."""


@dataclass(frozen=True)
class _Fused:
    """A feature map whose slope is known from the features."""

    apply: Callable[[Tensor, Tensor], Tensor]
    """Returns the features, for which the second tensor is room."""

    pull: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Writes the gradient of the features times the slope at the features into the third."""


def _wide(x: Tensor, room: Tensor) -> Tensor:
    """Return `x` in the dtype of the room."""
    return x if x.dtype == room.dtype else room.copy_(x)


def _pull_relu(bar: Tensor, phi: Tensor, out: Tensor) -> Tensor:
    """Write `bar` where the features are positive, in one pass where the dtypes agree."""
    into = out if out.dtype == bar.dtype else bar
    return out.copy_(torch.ops.aten.threshold_backward.grad_input(bar, phi, 0, grad_input=into))


_AS_IT_IS = _Fused(_wide, lambda bar, phi, out: out.copy_(bar))

FUSED: dict[Feature, _Fused] = {
    relu: _Fused(lambda x, room: torch.clamp_min(_wide(x, room), 0, out=room), _pull_relu),
    elu1: _Fused(
        lambda x, room: room.copy_(elu1(_wide(x, room))),
        lambda bar, phi, out: torch.mul(bar, phi.clamp(max=1), out=out),
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
        rooms = _rooms(k, z.dtype, d, e, 1)
        given = (k, v) if w is None else (k, v, w)
        for kv_of, z_of, s_of, *tokens in _heads(kv, z, s, *given):
            for block, (for_phi, for_value, for_part) in _blocks(tokens, rooms):
                phi, value = fused.apply(block[0], for_phi), _wide(block[1], for_value)
                part = for_part.fill_(1)[:, 0] if w is None else block[2]
                s_of.addmv_(value.mT, part)
                z_of.addmv_(phi.mT, part)
                phi = phi if w is None else torch.mul(phi, part[:, None], out=for_phi)
                kv_of.add_(_correlation(phi, value))
        return kv, z, s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, kv_bar: Tensor, z_bar: Tensor, s_bar: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        """Pull back block by block."""
        k, v, w = ctx.saved_tensors
        k_bar, v_bar = result_like(k), result_like(v)
        w_bar = None if w is None else torch.empty(w.shape, dtype=w.dtype, device=w.device)
        d, e = kv_bar.shape[-2:]
        rooms = _rooms(k, z_bar.dtype, d, e, d, e)
        given = (k, v, k_bar, v_bar) if w is None else (k, v, k_bar, v_bar, w, w_bar)
        for kv_of, z_of, s_of, *tokens in _heads(kv_bar, z_bar, s_bar, *given):
            for block, (for_phi, for_value, for_k, for_v) in _blocks(tokens, rooms):
                phi, value = ctx.fused.apply(block[0], for_phi), _wide(block[1], for_value)
                of_phi = torch.mm(value, kv_of.mT, out=for_k).add_(z_of)
                of_value = torch.mm(phi, kv_of, out=_into(block[3], for_v)).add_(s_of)
                if w is not None:
                    part, of_part = block[4:]
                    of_part.copy_(torch.linalg.vecdot(phi, of_phi).addmv_(value, s_of))
                    of_phi, of_value = of_phi.mul_(part[:, None]), of_value.mul_(part[:, None])
                ctx.fused.pull(of_phi, phi, block[2])
                block[3].copy_(of_value)
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
        rooms = _rooms(q, z.dtype, *kv.shape[-2:])
        for kv_of, z_of, mean_of, floor_of, *tokens in _heads(kv, z, mean, floor, q, y):
            for block, (for_phi, for_u) in _blocks(tokens, rooms):
                phi = fused.apply(block[0], for_phi)
                share = torch.mv(phi, z_of).add_(floor_of).reciprocal_()
                phi = torch.mul(phi, share[:, None], out=for_phi)
                u = torch.mm(phi, kv_of, out=_into(block[1], for_u))
                torch.add(u, mean_of, out=block[1])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        """Pull back block by block."""
        q, kv, z, mean, floor = ctx.saved_tensors
        q_bar = result_like(q)
        kv_bar, z_bar, mean_bar, floor_bar = map(torch.zeros_like, (kv, z, mean, floor))
        d, e = kv.shape[-2:]
        rooms = _rooms(q, z.dtype, d, e, e, d, 1)
        bars = kv_bar, z_bar, mean_bar, floor_bar
        for kv_of, z_of, floor_of, *rest in _heads(kv, z, floor, *bars, q, y_bar, q_bar):
            to_kv, to_z, to_mean, to_floor, *tokens = rest
            for block, (for_phi, for_bar, for_g, for_q, for_part) in _blocks(tokens, rooms):
                phi, bar = ctx.fused.apply(block[0], for_phi), _wide(block[1], for_bar)
                share = torch.mv(phi, z_of).add_(floor_of).reciprocal_()
                g = torch.mul(bar, share[:, None], out=for_g)
                of_phi = torch.mm(g, kv_of.mT, out=for_q)
                of_matches = torch.linalg.vecdot(phi, of_phi).mul_(share).neg_()
                to_kv.add_(_correlation(phi, g))
                to_z.addmv_(phi.mT, of_matches)
                to_mean.addmv_(bar.mT, for_part.fill_(1)[:, 0])
                to_floor.add_(of_matches.sum())
                ctx.fused.pull(of_phi.addcmul_(of_matches[:, None], z_of), phi, block[2])
        return q_bar, kv_bar, z_bar, mean_bar, floor_bar, None


def _into(out: Tensor, room: Tensor) -> Tensor:
    """Return where a product of the dtype of the room is written: the result, if it is as wide."""
    return out if out.dtype == room.dtype else room


def _correlation(phi: Tensor, value: Tensor) -> Tensor:
    """Return phi^T value. A product this small is of one thread; so each sums its own tokens."""
    threads = torch.get_num_threads()
    if len(phi) % threads:
        return phi.mT @ value
    own, other = (x.view(threads, len(phi) // threads, -1) for x in (phi, value))
    return torch.bmm(own.mT, other).sum(0)


def _heads(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """Yield what each head has of tensors `(*batch, h, ...)`, the first `(*batch, h, d, e)`."""
    for h in product(*map(range, tensors[0].shape[:-2])):
        yield [t[h] for t in tensors]


def _rooms(x: Tensor, dtype: torch.dtype, *columns: int) -> list[Tensor]:
    """Return room for arrays of so many columns, over as many tokens as a block has.

    It is the same for all blocks: memory that is new has to be found and cleared first.
    """
    size = min(BLOCK * torch.get_num_threads(), x.shape[-2])
    return [x.new_empty((size, width), dtype=dtype) for width in columns]


def _blocks(
    tokens: Sequence[Tensor], rooms: Sequence[Tensor]
) -> Iterator[tuple[tuple[Tensor, ...], Sequence[Tensor]]]:
    """Yield blocks of tokens, as many as stay in the caches of all threads, with their room."""
    size = len(rooms[0])
    for block in zip(*(torch.split(t, size) for t in tokens), strict=True):
        count = len(block[0])
        yield block, rooms if count == size else [room[:count] for room in rooms]
