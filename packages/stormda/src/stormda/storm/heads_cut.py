"""A block shared out by heads and hidden features over the `tensor` axis of a mesh.

    projections in    columns of a head stay together, each of q, k, v and the gate cut alike
    local branch      the kernels of the own heads' channels
    norms of heads    one gain for all heads: its gradient is the sum over the ranks
    projection out    rows of the own heads; one sum makes the answer whole again
    perceptron        hidden features likewise

A layer costs three sums of its tokens forward and three backward. Everything is cut from the whole
layer, so that every mesh starts from the same numbers; what a layer without cuts holds is declared
in the layout of the cuts, so that every mesh can take up the checkpoints of any other.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from stormda.attention import HistoryProjection, StormBlock
from stormda.attention.norm import HeadNorm, rms_norm
from stormda.parallel import ColumnLinear, Communicator, RowLinear, Split, copy_in


class SharedHeadNorm(nn.Module):
    """`HeadNorm` for some of the heads, with the one gain that all heads have."""

    def __init__(self, norm: HeadNorm, comm: Communicator) -> None:
        super().__init__()
        self.gain, self.comm = norm.gain, comm

    def forward(self, x: Tensor) -> Tensor:
        """Return `x (..., d)` normalised."""
        return rms_norm(x, copy_in(self.gain, self.comm))


def cut_block(block: StormBlock, comm: Communicator, *, sharded: bool) -> None:
    """Keep this rank's heads and hidden features of a whole block, in place.

    Args:
        block: The same on every rank.
        comm: The ranks of the tensor axis.
        sharded: Whether parameters will be sharded further.

    Raises:
        ValueError: If there are fewer heads than ranks, or the mixer has none.
    """
    mix = block.mix
    gated: Any = getattr(mix, "gated", None)  # layers change their kind
    if comm.size == 1:
        if gated is not None:
            gated.qkvg = _fused(gated.qkvg, comm, 4, sharded=sharded)
        return
    if gated is None or hasattr(mix, "latents"):
        raise ValueError(
            "mixer: expected one whose heads can be shared out over the tensor axis, "
            f"got {block.config.mixer}"
        )
    unit = block.config.width // gated.heads
    gated.qkvg = ColumnLinear.of(gated.qkvg, comm, unit=unit, blocks=4)
    gated.q_norm = SharedHeadNorm(gated.q_norm, comm)
    gated.k_norm = SharedHeadNorm(gated.k_norm, comm)
    gated.heads = gated.qkvg.weight.shape[0] // unit
    gated.out = RowLinear.of(gated.out, comm, unit=unit)
    _cut_channels(gated.local, gated.qkvg.splits["weight"])
    if block.config.temporal:
        _cut_cross(block.cross, unit, comm)
    mlp: Any = block.mlp
    mlp[0] = ColumnLinear.of(mlp[0], comm)
    mlp[2] = RowLinear.of(mlp[2], comm)


def _cut_cross(cross: Any, unit: int, comm: Communicator) -> None:  # noqa: ANN401
    """Keep this rank's heads of the attention to the history."""
    cross.query = ColumnLinear.of(cross.query, comm, unit=unit)
    cross.q_norm = SharedHeadNorm(cross.q_norm, comm)
    cross.heads = cross.query.weight.shape[0] // unit
    cross.out = RowLinear.of(cross.out, comm, unit=unit)


def cut_history(
    projection: HistoryProjection, width: int, comm: Communicator, *, sharded: bool
) -> None:
    """Keep this rank's heads of the projection of the history, in place.

    Args:
        projection: The same on every rank.
        width: Features of a token.
        comm: The ranks of the tensor axis.
        sharded: Whether parameters will be sharded further.
    """
    whole: Any = projection  # layers change their kind
    if comm.size == 1:
        whole.kv = _fused(whole.kv, comm, 2, sharded=sharded)
        return
    unit = width // whole.heads
    whole.kv = ColumnLinear.of(whole.kv, comm, unit=unit, blocks=2)
    whole.k_norm = SharedHeadNorm(whole.k_norm, comm)
    whole.heads = whole.kv.weight.shape[0] // unit


def _fused(layer: Any, comm: Communicator, blocks: int, *, sharded: bool) -> nn.Module:  # noqa: ANN401
    """Return a whole layer of several blocks, laid out or declared as a cut one is."""
    if sharded:
        return ColumnLinear.of(layer, comm, blocks=blocks)
    declared = Split(dim=0, sizes=(layer.out_features // blocks,), comm=comm, blocks=blocks)
    layer.splits = {"weight": declared, "bias": declared}
    whole: nn.Module = layer
    return whole


def _cut_channels(local: Any, cut: Split) -> None:  # noqa: ANN401
    """Keep the kernels of this rank's channels."""
    mine = local.kernel.detach().split_with_sizes(list(cut.sizes))[cut.comm.rank]
    local.kernel = nn.Parameter(mine.clone())
    local.splits = {"kernel": Split(dim=0, sizes=cut.sizes, comm=cut.comm)}
