"""Mixers: modules that exchange information between the tokens of one field.

They differ in the attention alone; `gated` holds what they share. A mixer whose attention is a sum
over the tokens says so (`summarize`) and takes the sums of all tokens for an answer (`state`), so
that a field can be mixed band by band, out of core, or on many processes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from stormda.attention.features import relu
from stormda.attention.gated import Attend, Band, GatedHeads, zero_linear
from stormda.attention.latent import latent_answer, latent_attention, latent_features
from stormda.attention.linear import linear_attention
from stormda.attention.local import DepthwiseLocal
from stormda.attention.norm import HeadNorm
from stormda.attention.softmax import softmax_attention
from stormda.attention.spread import Spread
from stormda.attention.state import LinearState, Reduce


class Mixer(Protocol):
    """What exchanges information between the tokens of a field."""

    band: Band | None
    """How a band of rows is mixed by itself; None if it takes the whole field."""

    def __call__(
        self,
        x: Tensor,
        *,
        shape: tuple[int, int],
        weight: Tensor | None = None,
        state: LinearState | None = None,
    ) -> Tensor:
        """Return tokens `(b, n, D)`.

        Args:
            x: Tokens `(b, n, D)`, row by row.
            shape: Rows and columns of tokens; their product is `n`.
            weight: What each token counts, such as the area of its cell, `(b, n)` or `(n,)`.
            state: The sums over all tokens, where `x` is not all of them.
        """
        ...

    def summarize(self, x: Tensor, *, weight: Tensor | None = None) -> LinearState | None:
        """Return what tokens `(b, n, D)` say to all others; None if they see their like alone."""
        ...


def attend_linearly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    weight: Tensor | None,
    state: LinearState | None,
    reduce: Reduce | None,
) -> Tensor:
    """Return linear attention to these tokens, to those of all processes, or to a `state`'s."""
    if state is None:
        return linear_attention(q, k, v, weight=weight, reduce=reduce)
    return state.apply(relu(q)).to(v.dtype)


class GatedMixer(nn.Module, ABC):
    """A mixer of gated heads beside the local branch; subclasses say how the heads attend.

    Args:
        width: Features of a token.
        heads: Attention heads.
        periodic: Whether rows and columns close on themselves.
        poles: Whether rows go on over the poles.
    """

    band: Band | None = None

    spread: Spread | None = None
    """The processes among which the field is spread; None where it is all here."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        periodic: tuple[bool, bool] = (False, True),
        poles: bool = False,
    ) -> None:
        super().__init__()
        self.gated = GatedHeads(width, heads, periodic=periodic, poles=poles)

    @abstractmethod
    def attend(
        self, shape: tuple[int, int], weight: Tensor | None, state: LinearState | None
    ) -> Attend:
        """Return the attention that the gate is put on."""

    def beside(self, shape: tuple[int, int], weight: Tensor | None) -> Attend | None:
        """Return an attention that is added past the gate, if there is one."""
        return None

    def forward(
        self,
        x: Tensor,
        *,
        shape: tuple[int, int],
        weight: Tensor | None = None,
        state: LinearState | None = None,
    ) -> Tensor:
        """Return the tokens `(b, n, D)` mixed."""
        mixed: Tensor = self.gated(
            x,
            self.attend(shape, weight, state),
            shape=shape,
            beside=self.beside(shape, weight),
        )
        return mixed

    def summarize(self, x: Tensor, *, weight: Tensor | None = None) -> LinearState | None:
        """Return what the tokens `(b, n, D)` say to all others; None if no sum stands for it."""
        return None

    def linearly(self, weight: Tensor | None, state: LinearState | None) -> Attend:
        """Return linear attention to all tokens, or to those of a state."""
        reduce = None if self.spread is None else self.spread.sum
        return partial(attend_linearly, weight=weight, state=state, reduce=reduce)

    def exactly(self, attention: Callable[..., Tensor], weight: Tensor | None) -> Attend:
        """Return an attention that wants all tokens, wherever they are."""
        if self.spread is None:
            return partial(attention, weight=weight)
        return partial(self.spread.together, attention, weight=weight)


class GlobalLinearAttention(GatedMixer):
    """Attention of all tokens with all tokens at O(n) cost, beside the local branch.

    Examples:
        >>> mix = GlobalLinearAttention(64, 2)
        >>> mix(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    band: Band | None = Band(step=1, halo=1)

    def attend(
        self, shape: tuple[int, int], weight: Tensor | None, state: LinearState | None
    ) -> Attend:
        """Return linear attention to the tokens, or to those of a state."""
        return self.linearly(weight, state)

    def summarize(self, x: Tensor, *, weight: Tensor | None = None) -> LinearState | None:
        """Return what the tokens `(b, n, D)` say to all others."""
        k, v = self.gated.keys(x)
        return LinearState.from_tokens(relu(k), v, weight=weight)


class LatentAttention(GatedMixer):
    """Attention through learned latents at O(n) cost, beside the local branch.

    Examples:
        >>> mix = LatentAttention(64, 2, latents=16)
        >>> mix(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    band: Band | None = Band(step=1, halo=1)

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        latents: int,
        periodic: tuple[bool, bool] = (False, True),
        poles: bool = False,
    ) -> None:
        super().__init__(width, heads, periodic=periodic, poles=poles)
        self.latents = nn.Parameter(torch.randn(heads, latents, width // heads))
        self.latent_norm = HeadNorm(width // heads)

    def attend(
        self, shape: tuple[int, int], weight: Tensor | None, state: LinearState | None
    ) -> Attend:
        """Return attention through the latents, to the tokens or to those of a state."""
        latents = self.latent_norm(self.latents)

        def through_latents(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if state is not None:
                return latent_answer(q, latents, state).to(v.dtype)
            if self.spread is None:
                return latent_attention(q, k, v, latents, weight=weight)
            own = LinearState.from_tokens(latent_features(k, latents), v, weight=weight)
            return latent_answer(q, latents, own.reduce(self.spread.sum)).to(v.dtype)

        return through_latents

    def summarize(self, x: Tensor, *, weight: Tensor | None = None) -> LinearState | None:
        """Return what the tokens `(b, n, D)` say to all others."""
        k, v = self.gated.keys(x)
        features = latent_features(k, self.latent_norm(self.latents))
        return LinearState.from_tokens(features, v, weight=weight)


class FullAttention(GatedMixer):
    """Softmax attention of all tokens with all tokens at O(n^2) cost, beside the local branch.

    Examples:
        >>> mix = FullAttention(64, 2)
        >>> mix(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    def attend(
        self, shape: tuple[int, int], weight: Tensor | None, state: LinearState | None
    ) -> Attend:
        """Return softmax attention to the tokens."""
        return self.exactly(softmax_attention, weight)


class LocalMixing(nn.Module):
    """The local branch alone: no token sees past its neighbours.

    Examples:
        >>> LocalMixing(64)(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    band: Band | None = Band(step=1, halo=1)

    def __init__(
        self, width: int, *, periodic: tuple[bool, bool] = (False, True), poles: bool = False
    ) -> None:
        super().__init__()
        self.value = nn.Linear(width, width)
        self.local = DepthwiseLocal(width, periodic=periodic, poles=poles)
        self.out = zero_linear(width, width)

    def forward(
        self,
        x: Tensor,
        *,
        shape: tuple[int, int],
        weight: Tensor | None = None,
        state: LinearState | None = None,
    ) -> Tensor:
        """Return the tokens `(b, n, D)` mixed; neighbours count alike, whatever the weight."""
        mixed: Tensor = self.out(self.local(self.value(x), shape=shape))
        return mixed

    def summarize(self, x: Tensor, *, weight: Tensor | None = None) -> LinearState | None:
        """Return None: a token sees its neighbours alone."""
        return None
