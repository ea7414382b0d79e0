"""Global attention whose cost grows with the number of tokens, not with its square.

    y_i = (S^T phi(q_i) + eps s) / (phi(q_i)^T z + eps c)

    S = sum_j w_j phi(k_j) v_j^T,   z = sum_j w_j phi(k_j),   s = sum_j w_j v_j,   c = sum_j w_j

The four sums are all that a query sees of the keys. They add over any split of the tokens: over
chunks, over files and over processes. Where a query matches no key the answer is the weighted
mean of the values; constant values stay constant.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from stormda.attention.arguments import check_heads, check_keys, exactly, wide

EPSILON = 1e-6
"""The weight of the mean of the values beside the matches of a query."""

Reduce = Callable[[Tensor], Tensor]
"""A differentiable sum of a tensor over the processes that share the tokens."""


@dataclass(frozen=True)
class LinearState:
    """What all keys and values say to any query, in a size that does not depend on their number.

    Examples:
        >>> k, v = torch.rand(2, 6, 4), torch.rand(2, 6, 3)
        >>> first = LinearState.from_tokens(k[:, :2], v[:, :2])
        >>> rest = LinearState.from_tokens(k[:, 2:], v[:, 2:])
        >>> (first + rest).apply(torch.rand(2, 5, 4)).shape
        torch.Size([2, 5, 3])
    """

    kv: Tensor
    """S, `(*batch, h, d, e)`."""

    z: Tensor
    """The sum of the features, `(*batch, h, d)`."""

    s: Tensor
    """The sum of the values, `(*batch, h, e)`."""

    c: Tensor
    """The sum of the weights, `(*batch, h)`."""

    @classmethod
    def from_tokens(
        cls, k: Tensor, v: Tensor, *, weight: Tensor | None = None, mask: Tensor | None = None
    ) -> "LinearState":
        """Sum over tokens, in float32 at least.

        Args:
            k: Features of the keys, not negative, `(*batch, h, m, d)`.
            v: Values `(*batch, h, m, e)`.
            weight: What each key counts, such as the area of its cell, `(*batch, m)` or
                broadcastable to it; not negative.
            mask: True where a key counts, `(*batch, m)` or broadcastable to it.

        Returns:
            The state of these tokens.

        Raises:
            ValueError: Shapes that do not belong together, or a mask that is not boolean.
        """
        check_heads(k, k, v)
        check_keys(k.shape[-2], weight, mask)
        with exactly(k):
            k, v = wide(k), wide(v)
            w = key_weights(weight, mask, like=k)
            if w is None:
                c = k.new_full(k.shape[:-2], k.shape[-2])
                return cls((v.mT @ k).mT, k.sum(-2), v.sum(-2), c)
            k, s = k * w[..., None], (w[..., None, :] @ v).squeeze(-2)
            return cls((v.mT @ k).mT, k.sum(-2), s, w.sum(-1).expand(k.shape[:-2]))

    def __add__(self, other: "LinearState") -> "LinearState":
        """Return the state of the tokens of both."""
        return LinearState(
            self.kv + other.kv, self.z + other.z, self.s + other.s, self.c + other.c
        )

    def reduce(self, fn: Reduce) -> "LinearState":
        """Return the state after one call of `fn` on all of its `h (d e + d + e + 1)` numbers.

        Args:
            fn: Takes and returns a tensor `(*batch, h, d e + d + e + 1)`.

        Returns:
            The state over the tokens of all who took part in `fn`.

        Examples:
            >>> state = LinearState.from_tokens(torch.rand(2, 6, 4), torch.rand(2, 6, 3))
            >>> state.reduce(lambda packed: 2 * packed).c
            tensor([12., 12.])
        """
        d, e = self.kv.shape[-2:]
        return LinearState.unpack(fn(self.pack()), d=d, e=e)

    def pack(self) -> Tensor:
        """Return all sums in one tensor `(*batch, h, d e + d + e + 1)`.

        Examples:
            >>> LinearState.from_tokens(torch.rand(2, 6, 4), torch.rand(2, 6, 3)).pack().shape
            torch.Size([2, 20])
        """
        return torch.cat((self.kv.flatten(-2), self.z, self.s, self.c[..., None]), -1)

    @classmethod
    def unpack(cls, packed: Tensor, *, d: int, e: int) -> "LinearState":
        """Return the state of `d` features and `e` values that was packed.

        Raises:
            ValueError: A tensor that does not hold the numbers of such a state.

        Examples:
            >>> LinearState.unpack(torch.rand(2, 20), d=4, e=3).kv.shape
            torch.Size([2, 4, 3])
        """
        sizes = [d * e, d, e, 1]
        if packed.shape[-1] != sum(sizes):
            raise ValueError(
                f"packed: expected (..., h, {sum(sizes)}) for d={d}, e={e}, "
                f"got {tuple(packed.shape)}"
            )
        kv, z, s, c = torch.split(packed, sizes, -1)
        return cls(rearrange(kv, "... (d e) -> ... d e", d=d), z, s, c.squeeze(-1))

    def apply(self, q: Tensor) -> Tensor:
        """Answer queries.

        Args:
            q: Features of the queries, not negative, `(*batch, h, n, d)`.

        Returns:
            Means of the values `(*batch, h, n, e)`, in float32 at least; zero where the weights
            of all keys are zero.

        Raises:
            ValueError: Features of another number than the state's.
        """
        if q.shape[-1] != self.z.shape[-1]:
            raise ValueError(
                f"q: expected (..., n, d) with d={self.z.shape[-1]}, got {tuple(q.shape)}"
            )
        with exactly(q):
            kv, z, mean, floor = self.factors()
            q = wide(q)
            matches = q @ z[..., None] + floor[..., None, None]
            return torch.addcmul(mean[..., None, :], q @ kv, matches.reciprocal())

    def factors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what answers are made of: `y = mean + K^T phi(q) / (phi(q)^T z + floor)`.

        Returns:
            The sums about the mean K `(*batch, h, d, e)`, which leave nothing of constant values
            but the mean itself; z `(*batch, h, d)`; the mean of the values `(*batch, h, e)`; and
            the floor of the matches `(*batch, h)`.

        Examples:
            >>> state = LinearState.from_tokens(torch.ones(1, 6, 2), torch.ones(1, 6, 3))
            >>> state.factors()[0]
            tensor([[[0., 0., 0.],
                     [0., 0., 0.]]])
        """
        empty = (self.c == 0).to(self.c.dtype)  # no key at all: every sum is zero
        mean = self.s / (self.c + empty)[..., None]
        kv = self.kv - self.z[..., :, None] * mean[..., None, :]
        return kv, self.z, mean, EPSILON * self.c + empty


def key_weights(weight: Tensor | None, mask: Tensor | None, *, like: Tensor) -> Tensor | None:
    """Return `weight * mask` for all heads, `(*batch, 1, m)`; None where all count alike."""
    if weight is None and mask is None:
        return None
    w = like.new_ones(()) if weight is None else weight.to(like.dtype)
    w = w if mask is None else w * mask
    return w.expand(*w.shape[:-1], like.shape[-2]).unsqueeze(-2)
