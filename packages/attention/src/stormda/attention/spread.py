"""What a mixer needs to know of the processes among which the tokens of a field are spread.

Each process holds a rectangle of rows and columns. Norms, projections, gates, the history and the
perceptron take tokens one by one and need nothing. What is left is three things: the sums of
linear attention, the tokens around the rectangle for the local branch, and for exact attention all
tokens. This package sends nothing itself; whoever spreads a field says how it is done.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor


class Spread(Protocol):
    """The processes among which the tokens of a field are spread, seen from one of them."""

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and columns of all tokens."""
        ...

    def around(self, field: Tensor) -> Tensor:
        """Return a process's tokens in a frame of the tokens around them.

        Args:
            field: Tokens of this process `(b, rows, columns, D)`.

        Returns:
            `(b, rows + 2, columns + 2, D)`; zero where the whole field ends. Differentiable.
        """
        ...

    def sum(self, packed: Tensor) -> Tensor:
        """Return the sum over all processes, for use that differs between them."""
        ...

    def together(
        self,
        attention: Callable[..., Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the answers for this process's tokens of an attention that wants all of them.

        Args:
            attention: Of queries, keys and values `(b, h, n, d)`, row by row in the whole field,
                with `weight=(b, n)` or `(n,)` or None; the heads may be some of all.
            q: Queries of this process `(b, h, own n, d)`.
            k: Its keys.
            v: Its values.
            weight: What each of its keys counts.
        """
        ...
