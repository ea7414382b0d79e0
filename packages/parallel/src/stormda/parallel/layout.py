"""Which part of a whole tensor a rank holds, said by the module that cut it.

A tensor-parallel layer keeps plain local tensors and says in `splits` how each was cut; FSDP2
keeps DTensors, which say it themselves. Both together (FSDP2 shards what a layer has cut) nest:

    whole (12, 8)  --Split(dim=1, sizes=[3, 3, 2])-->  (12, 2)  --FSDP2 over 4-->  (3, 2)
                                                        Part(shape=(12, 8), start=(9, 6))

What nobody declares to be cut is whole, the same on every rank. A fused projection whose outputs
are several blocks, one after the other, counts as (outputs of a block, blocks, inputs): of such a
whole the outputs of some heads are a box.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

    from stormda.parallel.communicator import Communicator


@dataclass(frozen=True, kw_only=True)
class Split:
    """How the ranks of a communicator share out one dimension of a parameter."""

    dim: int
    """The dimension that is cut."""

    sizes: tuple[int, ...]
    """The length of every rank's part."""

    comm: Communicator
    """The ranks."""

    blocks: int = 1
    """How many blocks lie one after the other along the dimension, where a rank has all of them;
    the whole then has the dimension of the blocks behind it, and `sizes` are those of a block."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.blocks > 1 and self.comm.size > 1:
            raise ValueError(f"blocks: expected 1 on {self.comm.size} ranks, got {self.blocks}")
        if len(self.sizes) != self.comm.size or min(self.sizes) < 0:
            raise ValueError(f"sizes: expected {self.comm.size} lengths, got {list(self.sizes)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A box of a whole tensor, and where it lies."""

    data: Tensor
    """What this rank holds, a plain tensor."""

    shape: tuple[int, ...]
    """The shape of the whole."""

    start: tuple[int, ...]
    """Where the part begins in the whole, along every dimension."""

    def __post_init__(self) -> None:
        """Check that the part lies inside the whole."""
        sizes = tuple(self.data.shape)
        inside = len(sizes) == len(self.shape) == len(self.start) and all(
            0 <= a <= a + n <= whole
            for a, n, whole in zip(self.start, sizes, self.shape, strict=True)
        )
        if not inside:
            raise ValueError(
                f"data: expected a part of a tensor of shape {self.shape}, "
                f"got shape {sizes} at {self.start}"
            )

    @property
    def box(self) -> tuple[slice, ...]:
        """The part as an index into the whole."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.data.shape, strict=True))

    def like(self, data: Tensor) -> Part:
        """Return another tensor's part in the same place."""
        return Part(data=data, shape=self.shape, start=self.start)


def is_sharded(x: Tensor) -> TypeGuard[DTensor]:
    """Return whether a tensor is a DTensor, of which a rank holds a part."""
    from torch.distributed.tensor import DTensor  # long to import

    return isinstance(x, DTensor)


def local_of(x: Tensor) -> Tensor:
    """Return what this rank holds of a tensor: of a DTensor its shard, else the tensor.

    Examples:
        >>> import torch
        >>> local_of(torch.ones(2))
        tensor([1., 1.])
    """
    return x.to_local() if is_sharded(x) else x


def whole(x: Tensor) -> Part:
    """Return a tensor that is held in full, as a part.

    Examples:
        >>> import torch
        >>> whole(torch.ones(2, 3)).box
        (slice(0, 2, None), slice(0, 3, None))
    """
    return Part(data=x, shape=tuple(x.shape), start=(0,) * x.dim())


def part_of(x: Tensor, split: Split | None = None) -> Part:
    """Return which part of which whole a tensor is.

    Args:
        x: A plain tensor or a DTensor.
        split: How the layer that made it cut it, if it did.

    Raises:
        ValueError: If the sizes are not those that `split`, or the DTensor, promises. DTensor
            assumes the sizes of `torch.chunk` and reads others as if they had these.

    Examples:
        >>> import torch
        >>> part_of(torch.ones(2, 3)).shape
        (2, 3)
    """
    if split is not None and split.blocks > 1:
        x = _blocks_inside(x, split)
    local = local_of(x)
    shape, start = list(x.shape), [0] * x.dim()
    if is_sharded(x):
        for dim, (first, length) in _chunks(x).items():
            _check_length("data", dim, length, local.shape[dim])
            start[dim] = first
    if split is not None:
        _check_length("data", split.dim, split.sizes[split.comm.rank], x.shape[split.dim])
        start[split.dim] += sum(split.sizes[: split.comm.rank])
        shape[split.dim] = sum(split.sizes)
    return Part(data=local.detach(), shape=tuple(shape), start=tuple(start))


def _blocks_inside(x: Tensor, split: Split) -> Tensor:
    if is_sharded(x):
        raise ValueError(f"x: expected blocks that are not sharded, got {split.blocks} that are")
    sizes = (*x.shape[: split.dim], split.blocks, -1, *x.shape[split.dim + 1 :])
    return x.view(sizes).transpose(split.dim, split.dim + 1)


def splits(module: nn.Module) -> dict[str, Split]:
    """Return how the layers of a module cut their parameters, by the parameters' full names.

    Examples:
        >>> splits(nn.Linear(2, 2))
        {}
    """
    found: dict[str, Split] = {}
    for prefix, layer in module.named_modules():
        declared = getattr(layer, "splits", None)
        if isinstance(declared, dict):
            found |= {f"{prefix}.{name}".lstrip("."): split for name, split in declared.items()}
    return found


def module_parts(module: nn.Module) -> dict[str, Part]:
    """Return this rank's part of every parameter and persistent buffer, by name.

    Raises:
        ValueError: If a tensor does not have the sizes that its layer declares.

    Examples:
        >>> parts = module_parts(nn.Linear(3, 2))
        >>> {name: part.shape for name, part in parts.items()}
        {'weight': (2, 3), 'bias': (2,)}
    """
    declared = splits(module)
    tensors = module.state_dict(keep_vars=True)
    return {name: part_of(x, declared.get(name)) for name, x in tensors.items()}


def check_cover(name: str, shape: Sequence[int], boxes: Sequence[tuple[slice, ...]]) -> None:
    """Check that boxes tile a whole: each element is in exactly one of them.

    Args:
        name: What is tiled, for the message.
        shape: The shape of the whole.
        boxes: Boxes with distinct places, none of them empty unless the whole is.

    Raises:
        ValueError: If they do not form a grid that covers the whole.

    Examples:
        >>> check_cover("x", (4,), [(slice(0, 3),), (slice(3, 4),)])
        >>> check_cover("x", (4,), [(slice(0, 3),), (slice(2, 4),)])
        Traceback (most recent call last):
        ...
        ValueError: x: expected parts that tile a tensor of shape (4,), got [0:3], [2:4]
    """
    cuts = [
        sorted({(box[dim].start, box[dim].stop) for box in boxes}) for dim in range(len(shape))
    ]
    rows = [_tiles(intervals, length) for intervals, length in zip(cuts, shape, strict=True)]
    places = {tuple((side.start, side.stop) for side in box) for box in boxes}
    expected = 1
    for intervals in cuts:
        expected *= len(intervals)
    if not all(rows) or not len(places) == len(boxes) == expected:
        shown = ", ".join(_shown(box) for box in boxes[:8]) + (", ..." if len(boxes) > 8 else "")
        raise ValueError(
            f"{name}: expected parts that tile a tensor of shape {tuple(shape)}, got {shown}"
        )


def _tiles(intervals: Sequence[tuple[int, int]], length: int) -> bool:
    ends = [0, *(stop for _, stop in intervals)]
    return ends[-1] == length and [first for first, _ in intervals] == ends[:-1]


def _shown(box: tuple[slice, ...]) -> str:
    return f"[{', '.join(f'{side.start}:{side.stop}' for side in box)}]"


def _chunks(x: DTensor) -> dict[int, tuple[int, int]]:
    """Return first index and length of this rank's chunk, by dimension, as DTensor has it."""
    from torch.distributed.tensor import Replicate, Shard  # long to import

    found: dict[int, tuple[int, int]] = {}
    for axis, (placement, coordinate) in enumerate(_placed(x)):
        if isinstance(placement, Replicate):
            continue
        if not isinstance(placement, Shard) or placement.dim in found:
            raise ValueError(
                f"x: expected a DTensor whose dimensions are sharded once, got {x.placements}"
            )
        length = x.shape[placement.dim]
        chunk = -(-length // x.device_mesh.size(axis))
        first = min(coordinate * chunk, length)
        found[placement.dim] = first, min(chunk, length - first)
    return found


def _placed(x: DTensor) -> Iterator[tuple[object, int]]:
    coordinates = x.device_mesh.get_coordinate()
    if coordinates is None:
        raise ValueError("x: expected a DTensor on a mesh of this process, got one on another")
    yield from zip(x.placements, coordinates, strict=True)


def _check_length(argument: str, dim: int, expected: int, got: int) -> None:
    if got != expected:
        raise ValueError(f"{argument}: expected {expected} along dimension {dim}, got {got}")
