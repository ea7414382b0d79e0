"""Samples for training, read tile by tile: each rank its own part, in an order all agree on.

A sample is a window of frames, or a window and a tile. Ranks that share a sample (they hold
different tiles of it) are one replica; replicas take the positions of the global order in turn:
replica r of R takes r, r + R, r + 2 R, ... of what is left. That the order itself does not know R
is what lets a run go on with another number of ranks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.grid import TileLayout, Window
from stormda.io.cost import ReadAmplificationWarning
from stormda.io.field_reader import FieldReader
from stormda.io.permutation import SampleOrder
from stormda.io.prefetch import prefetched
from stormda.io.selection import Tile
from stormda.io.statistics import Statistics
from stormda.io.store import Store
from stormda.io.windows import WindowConfig, windows

WASTE = 4.0
"""The read amplification from which a warning is given."""

_FIRST = np.zeros(1, np.int64)
"""The one frame of what does not change in time."""

MOST_READERS = 4096
"""Variables of tiles of which it is remembered how they are read."""

Sample = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Which part of the samples a process reads; plain numbers of any mesh."""

    replica: int = 0
    """Its number among the replicas, from 0."""

    replicas: int = 1
    """How many replicas share the samples."""

    tile: int | None = None
    """The tile of the layout that it holds of every sample; None if tiles are samples."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0 <= self.replica < self.replicas:
            raise ValueError(
                f"replica: expected 0 to {self.replicas - 1}, the replicas, got {self.replica}"
            )


@dataclass(eq=False, kw_only=True)
class TileDataset:
    """The samples of a store; `iter` reads those of this rank, and indexing any.

    It holds no open file, so that it goes to spawned workers as it is. A `torch.utils.data`
    loader takes it with `sampler=dataset.positions()`.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import open_store, write_fields
        >>> times = np.arange("2000-01-01", "2000-01-09", dtype="M8[D]").astype("M8[s]")
        >>> grid = LatLonGrid(np.arange(-75.0, 90, 30), np.arange(0.0, 360, 30))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_fields(Path(folder, "a.nc"), {"x": np.zeros((8, *grid.shape))}, grid=grid,
        ...                  times=times, attributes={"x": {"units": "K"}})
        ...     data = TileDataset(
        ...         store=open_store(Path(folder, "a.nc")), variables=["x"],
        ...         window=WindowConfig(history=2), layout=TileLayout.on(grid, (2, 2), (1, 1)))
        ...     shapes = {sample["x"].shape for sample in data}
        >>> len(data), shapes
        (24, {(3, 1, 5, 8)})
    """

    store: Store
    """The fields."""

    variables: Sequence[str]
    """What is read, in the order of the channels; each level is a channel."""

    window: WindowConfig
    """The frames of a sample."""

    layout: TileLayout | None = None
    """The tiles; None for the whole grid."""

    frames: NDArray[np.int64] | None = None
    """The frames that may be used, such as those of a split; None for all."""

    rank: Rank = field(default_factory=Rank)
    """What this process reads."""

    statistics: Statistics | None = None
    """By which fields are normalised; None leaves them in their units."""

    seed: int = 0
    """The order of the samples."""

    block: int = 1
    """Neighbouring windows that stay near one another in the order."""

    buffer: int = 1
    """Blocks that are shuffled together."""

    max_bytes: int = 2**28
    """Bytes that may be read ahead."""

    epoch: int = 0
    """The epoch that `iter` reads."""

    position: int = 0
    """How many samples of the epoch all replicas together have taken."""

    def __post_init__(self) -> None:
        """Find the windows, and refuse what does not fit together."""
        if not self.variables:
            raise ValueError("variables: expected at least one, got none")
        _require_layout(self.store, self.layout, self.rank)
        if self.statistics is not None:
            self.statistics.require_match(self.store, self.variables)
        chosen = np.arange(len(self.store.times)) if self.frames is None else self.frames
        self._windows = chosen[windows(self.store.times[chosen], self.window)]
        if len(self) < self.rank.replicas:
            raise ValueError(
                f"replicas: expected at most one for each of {len(self)} samples, "
                f"got {self.rank.replicas}"
            )
        self._warn_of_waste()

    @cached_property
    def _places(self) -> list[Window]:
        """Where every tile lies."""
        return [] if self.layout is None else list(self.layout.windows())

    @cached_property
    def _seconds(self) -> NDArray[np.int64]:
        """The times of the store, in seconds since 1970."""
        return self.store.times.astype(np.int64)

    @cached_property
    def _readers(self) -> dict[tuple[str, int], FieldReader]:
        """What reads the variables of the tiles that came lately."""
        return {}

    @cached_property
    def _static(self) -> frozenset[str]:
        """The variables that have one frame for all times."""
        store = self.store
        return frozenset(n for n in self.variables if len(store.frames(n)) < len(store.times))

    @cached_property
    def _leveled(self) -> frozenset[str]:
        """The variables that have levels."""
        return frozenset(name for name in self.variables if "Z" in self.store.axes(name))

    def __len__(self) -> int:
        """Return the number of samples of all ranks."""
        return len(self._windows) * self._tiles

    def __getitem__(self, index: int) -> Sample:
        """Read a sample by its number in the order of time.

        Returns:
            `x` float32 (frames, channels, rows, cols), 0 where missing; `mask` bool of the same
            shape, True where valid; `time` int64 (frames,), seconds since 1970; `index` int64 ().
        """
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"index: expected below {count} samples, got {index}")
        number, tile = divmod(int(index) % count, self._tiles)
        frames = self._windows[number]
        read = [self._read(name, frames, tile) for name in self.variables]
        return {
            "x": _channels([values for values, _ in read]),
            "mask": _channels([mask for _, mask in read]),
            "time": self._seconds[frames],
            "index": np.array(index, np.int64),
        }

    def positions(self) -> Iterator[int]:
        """Yield the numbers of the samples of this rank that are left in the epoch."""
        for position in range(self.position + self.rank.replica, len(self), self.rank.replicas):
            yield int(self.order.sample(position, self.epoch))

    def __iter__(self) -> Iterator[Sample]:
        """Read the samples that are left in the epoch, ahead of their use.

        While a sample is in use, `state_dict` counts it as taken. Behind the last one the next
        epoch begins.
        """
        left = self.positions()
        for sample in prefetched(map(self.__getitem__, left), self.max_bytes, _bytes):
            self.position = min(self.position + self.rank.replicas, len(self))
            yield sample
        self.epoch, self.position = self.epoch + 1, 0

    @property
    def order(self) -> SampleOrder:
        """The order of the samples."""
        return SampleOrder(
            samples=len(self),
            seed=self.seed,
            block=self.block * self._tiles,
            buffer=self.buffer,
        )

    def state_dict(self) -> dict[str, int]:
        """Return where the run stands, the same on every rank: seed, epoch, position."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from where a run stood, with any number of ranks.

        Raises:
            ValueError: If the state is not one of this data set.
        """
        if set(state) != {"seed", "epoch", "position"}:
            raise ValueError(f"state: expected seed, epoch and position, got {sorted(state)}")
        if state["seed"] != self.seed:
            raise ValueError(f"state: expected that of seed {self.seed}, got {state['seed']}")
        if not 0 <= state["position"] <= len(self):
            raise ValueError(
                f"state: expected a position of {len(self)} samples, got {state['position']} "
                "(a run on other data?)"
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    @cached_property
    def _tiles(self) -> int:
        """How many samples a window makes."""
        return len(self.layout) if self.layout is not None and self.rank.tile is None else 1

    def _window(self, tile: int) -> Tile | None:
        if self.layout is None:
            return None
        return self._places[tile if self.rank.tile is None else self.rank.tile].extended

    def _read(
        self, name: str, frames: NDArray[np.int64], tile: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return a variable as (frames, channels, ...); one without levels is one channel."""
        static = name in self._static
        values, mask = self._reader(name, tile).read(_FIRST if static else frames)
        if self.statistics is not None:
            values = self.statistics.normalise(name, values, mask)
        if name not in self._leveled:
            values, mask = values[:, None], mask[:, None]
        if static:
            values, mask = values.repeat(len(frames), 0), mask.repeat(len(frames), 0)
        return values, mask

    def _reader(self, name: str, tile: int) -> FieldReader:
        """Return what reads a variable of a tile; it is kept, with those of other tiles."""
        reader = self._readers.get((name, tile))
        if reader is None:
            if len(self._readers) >= MOST_READERS:
                self._readers.clear()
            reader = self._readers[name, tile] = self.store.reader(name, self._window(tile))
        return reader

    def _warn_of_waste(self) -> None:
        for name in self.variables:
            frames = None if name in self._static else self._windows[0]
            cost = self.store.cost(name, frames, self._window(0))
            if cost.amplification > WASTE:
                warnings.warn(
                    f"{self.store.paths[0]}: variable {name!r}: a sample reads "
                    f"{cost.amplification:.0f} times its bytes, stored in pieces of "
                    f"{self.store.variables[name].chunks}: rechunk it",
                    ReadAmplificationWarning,
                    stacklevel=4,
                )


def _require_layout(store: Store, layout: TileLayout | None, rank: Rank) -> None:
    if layout is None:
        if rank.tile is not None:
            raise ValueError(f"tile: expected a layout that it is of, got tile {rank.tile} alone")
        return
    if layout.shape != store.grid.shape:
        raise ValueError(f"layout: expected one of {store.grid.shape} cells, got {layout.shape}")
    if rank.tile is not None and not 0 <= rank.tile < len(layout):
        raise ValueError(
            f"tile: expected 0 to {len(layout) - 1}, the tiles of the layout, got {rank.tile}"
        )


def _channels(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Join variables along the axis of channels, without a copy of a single one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)


def _bytes(sample: Sample) -> int:
    return sum(array.nbytes for array in sample.values())
