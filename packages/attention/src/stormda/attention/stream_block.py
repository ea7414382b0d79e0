"""The block of the network over a field of any size, band of rows by band of rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from stormda.attention.arguments import check_shape
from stormda.attention.block import StormBlock
from stormda.attention.history import HistoryKeys
from stormda.attention.neighbours import Neighbourhood
from stormda.attention.state import LinearState
from stormda.attention.streamed import Streamed, Tensors, streamed


class StreamedBlock(nn.Module):
    """A `StormBlock` that runs in bands of rows: the same answers and gradients in less memory.

    Autograd keeps the tokens before the block, and nothing between. Gradients are exact, of first
    order. Any mixer but `full` will do.

    Args:
        block: The block; its weights are the weights of this module.
        rows: Rows of a band. A multiple of the rows of a tile where the mixer has tiles.
        reduce: The sum over the processes that hold the other rows; see `streamed`.

    Raises:
        ValueError: A mixer that takes the whole field, tokens without rows and columns, or rows
            that do not end where tiles do.

    Examples:
        >>> import torch
        >>> from stormda.attention import BlockConfig, SharedModulation, noise_embedding
        >>> block = StormBlock(BlockConfig(width=64, heads=2, temporal=False))
        >>> condition = noise_embedding(torch.zeros(1), 64)
        >>> modulation = SharedModulation(64)(condition)
        >>> x = torch.rand(1, 12, 64)
        >>> StreamedBlock(block, rows=2)(x, condition, modulation, shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    def __init__(
        self,
        block: StormBlock,
        *,
        rows: int,
        reduce: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        band = block.mix.band
        if band is None:
            raise ValueError(
                f"block: expected a mixer that sums or is local, got {block.config.mixer}"
            )
        if any(isinstance(module, Neighbourhood) for module in block.modules()):
            raise ValueError("block: expected one of rows and columns, got one of neighbours")
        if rows < 1 or rows % band.step:
            raise ValueError(f"rows: expected a positive multiple of {band.step}, got {rows}")
        self.block, self.rows, self.reduce, self._band = block, rows, reduce, band

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        modulation: Tensor,
        *,
        shape: tuple[int, int],
        history: HistoryKeys | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the tokens after the block; the arguments are those of `StormBlock`."""
        check_shape(x.shape[-2], shape)
        tokens = [x]
        if weight is not None:
            tokens.append(weight[..., None])
        if history is not None and self.block.config.temporal:
            tokens += [history.keys, history.values]
        layer = self.layer(shape, weighted=weight is not None)
        return layer(*tokens, shared=(condition, modulation))

    def layer(self, shape: tuple[int, int], *, weighted: bool = False) -> Streamed:
        """Return the block as a function of sequences, which may be larger than memory.

        Its `tokens` are `x (b, n, D)`; then, if `weighted`, the weights `(b, n, 1)`; then, if the
        block reads the history, the keys and the values `(b, h, K, n, d)`. Its `shared` are the
        condition and the modulation.

        Args:
            shape: Rows and columns of all tokens.
            weighted: Whether there are weights.

        Raises:
            ValueError: Rows that close to a ring within a tile.
        """
        rows, columns = shape
        band, ring = self._band, self.block.config.periodic[0]
        if ring and rows % band.step:
            raise ValueError(
                f"shape: expected a multiple of {band.step} rows on a ring, got {rows}"
            )
        return streamed(
            _Rows(self.block, columns, weighted),
            chunk=self.rows * columns,
            halo=min(band.halo, rows) * columns,
            ring=ring,
            reduce=self.reduce,
        )


@dataclass(frozen=True)
class _Rows:
    """A block as a layer of whole rows."""

    block: StormBlock
    columns: int
    weighted: bool

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the weights of the block."""
        return self.block.parameters()

    def summarize(self, tokens: Tensors, shared: Tensors) -> Tensor:
        """Return what some rows add to the sums; nothing if the mixer has none."""
        x, weight, _ = self._named(tokens)
        state = self.block.summarize(x, shared[1], weight=weight)
        return x.new_zeros(0) if state is None else state.pack()

    def answer(self, tokens: Tensors, shared: Tensors, total: Tensor, core: slice) -> Tensor:
        """Return some rows after the block."""
        x, weight, history = self._named(tokens)
        shape = (x.shape[-2] // self.columns, self.columns)
        state = self._state(total, x.shape[-1])
        mixed = self.block.in_space(x, *shared, shape=shape, weight=weight, state=state)
        past = None
        if history:
            past = HistoryKeys(*(part[..., core, :] for part in history))
        return self.block.in_time(mixed[..., core, :], *shared, history=past)

    def _named(self, tokens: Tensors) -> tuple[Tensor, Tensor | None, Tensors]:
        """Return the tokens, their weights and the history."""
        x, *rest = tokens
        weight = rest.pop(0).squeeze(-1) if self.weighted else None
        return x, weight, tuple(rest)

    def _state(self, total: Tensor, width: int) -> LinearState | None:
        """Return the sums over all tokens, if there are any."""
        if total.ndim == 1:
            return None
        e = width // self.block.config.heads
        return LinearState.unpack(total, d=(total.shape[-1] - 1 - e) // (e + 1), e=e)
