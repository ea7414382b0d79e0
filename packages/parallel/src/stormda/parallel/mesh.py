"""The ranks of a job as a box with named axes.

    Mesh({"replica": 2, "lat": 1, "lon": 3})

Ranks are numbered in row-major order: the last axis varies fastest, so that its neighbours are
neighbouring processes, which launchers put on one node. By convention the axes are, slowest
first, replica and shard (together they share the batch), member (of the ensemble), lat and lon
(of the field) and tensor (of a layer); any names will do. A mesh is a plan: pure arithmetic,
which a laptop does for any number of ranks. `launch` makes it run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product
from operator import mul


@dataclass(frozen=True, init=False)
class Mesh:
    """Named axes and their sizes, slowest first.

    Args:
        axes: The size of every axis; one may be -1, to be filled by the number of processes.

    Raises:
        ValueError: If a size is neither positive nor -1, or more than one is -1.

    Examples:
        >>> mesh = Mesh({"replica": 2, "lon": 3})
        >>> mesh.size("lon"), mesh.processes, mesh.coordinate(4, "replica"), mesh.group(4, "lon")
        (3, 6, 1, [3, 4, 5])
    """

    axes: tuple[tuple[str, int], ...]
    """Name and size of every axis."""

    def __init__(self, axes: Mapping[str, int]) -> None:
        if not axes:
            raise ValueError("axes: expected at least one axis, got none")
        for name, size in axes.items():
            if size < 1 and size != -1:
                raise ValueError(f"axes: expected a positive size or -1, got {name}={size}")
        unknown = [name for name, size in axes.items() if size == -1]
        if len(unknown) > 1:
            raise ValueError(f"axes: expected at most one -1, got {' and '.join(unknown)}")
        object.__setattr__(self, "axes", tuple(axes.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the axes, slowest first."""
        return tuple(name for name, _ in self.axes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the axes, slowest first."""
        return tuple(size for _, size in self.axes)

    @property
    def processes(self) -> int:
        """The number of ranks; negative as long as an axis is to be filled."""
        return math.prod(self.sizes)

    def size(self, axis: str) -> int:
        """Return the size of an axis.

        Raises:
            ValueError: If there is no such axis.
        """
        return self.sizes[self._index(axis)]

    def coordinate(self, rank: int, axis: str) -> int:
        """Return where a rank is along an axis.

        Raises:
            ValueError: If there is no such axis or rank.
        """
        self._check_rank(rank)
        return rank // self._stride(axis) % self.size(axis)

    def coordinates(self, rank: int) -> dict[str, int]:
        """Return where a rank is along every axis.

        Raises:
            ValueError: If there is no such rank.

        Examples:
            >>> Mesh({"replica": 2, "lon": 3}).coordinates(4)
            {'replica': 1, 'lon': 1}
        """
        return {axis: self.coordinate(rank, axis) for axis in self.names}

    def filled(self, processes: int) -> Mesh:
        """Return the mesh for a number of processes, the axis of size -1 filled.

        Raises:
            ValueError: If the sizes do not fit; the message lists what would.

        Examples:
            >>> Mesh({"replica": -1, "lon": 2}).filled(6)
            Mesh(axes=(('replica', 3), ('lon', 2)))
        """
        if processes < 1:
            raise ValueError(f"processes: expected at least 1, got {processes}")
        fill = processes // math.prod(size for size in self.sizes if size != -1)
        sizes = [fill if size == -1 else size for size in self.sizes]
        if math.prod(sizes) != processes:
            raise ValueError(self._misfit(processes))
        return Mesh(dict(zip(self.names, sizes, strict=True)))

    def canonical(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the axes that are larger than 1, in the order of the mesh.

        Raises:
            ValueError: If one of them does not exist.
        """
        chosen = {self._index(axis) for axis in axes}
        return tuple(self.names[i] for i in sorted(chosen) if self.sizes[i] > 1)

    def subsets(self) -> list[tuple[str, ...]]:
        """Return every set of axes larger than 1, in the order in which groups are made.

        Examples:
            >>> Mesh({"replica": 2, "lat": 1, "lon": 2}).subsets()
            [('replica',), ('lon',), ('replica', 'lon')]
        """
        large = self.canonical(self.names)
        return [chosen for n in range(1, len(large) + 1) for chosen in combinations(large, n)]

    def group(self, rank: int, *axes: str) -> list[int]:
        """Return the ranks that differ from a rank along these axes at most, in order.

        Raises:
            ValueError: If there is no such axis or rank.

        Examples:
            >>> Mesh({"replica": 2, "lon": 3}).group(4, "replica")
            [1, 4]
        """
        self._check_rank(rank)
        chosen = self.canonical(axes)
        strides = [self._stride(axis) for axis in chosen]
        origin = rank - sum(
            self.coordinate(rank, axis) * stride
            for axis, stride in zip(chosen, strides, strict=True)
        )
        places = product(*(range(self.size(axis)) for axis in chosen))
        return [origin + sum(map(mul, place, strides)) for place in places]

    def describe(self) -> str:
        """Return a table of the axes: name, size, and how many ranks apart neighbours are.

        Examples:
            >>> print(Mesh({"replica": 2, "lon": 3}).describe())
            axis     size  stride
            replica     2       3
            lon         3       1
        """
        width = max(len("axis"), *map(len, self.names))
        rows = [f"{'axis':{width}}  size  stride"]
        rows += [f"{name:{width}} {size:5} {self._stride(name):7}" for name, size in self.axes]
        return "\n".join(rows)

    def _index(self, axis: str) -> int:
        if axis not in self.names:
            raise ValueError(f"axis: expected one of {', '.join(self.names)}, got {axis!r}")
        return self.names.index(axis)

    def _check_rank(self, rank: int) -> None:
        if not 0 <= rank < self.processes:
            raise ValueError(f"rank: expected 0 to {self.processes - 1}, got {rank}")

    def _stride(self, axis: str) -> int:
        return math.prod(self.sizes[self._index(axis) + 1 :])

    def _misfit(self, processes: int) -> str:
        """Say what does not fit, and every change of one axis, or of the job, that would."""
        known = math.prod(size for size in self.sizes if size != -1)
        fills = -1 in self.sizes

        def fit(product: int) -> bool:
            return processes % product == 0 if fills else processes == product

        fits = [
            f"{name}={other}"
            for name, size in self.axes
            if size != -1
            for other in range(1, processes + 1)
            if fit(known // size * other)
        ]
        fits.append(f"a multiple of {known} processes" if fills else f"{known} processes")
        axes = " x ".join(f"{name}={size}" for name, size in self.axes)
        return (
            f"mesh: expected sizes whose product is {processes}, the number of processes, "
            f"got {axes}; what fits: {' or '.join(fits)}"
        )
