"""What is common to the ways in which many processes write one ensemble.

A writer says what the whole ensemble holds. Every process makes the same one, asks it which of its
regions are missing, and writes them; one process finishes.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.io.atomic import refuse_existing
from stormda.io.cf_file import CFLayout
from stormda.io.layout import FieldAxes, VariableAttributes, field_layout, require_storable
from stormda.io.regions import Region, require_inside
from stormda.io.rounding import FRACTION, bit_round, with_bits

Each = TypeVar("Each")

DIGITS = 16
"""Hexadecimal digits of the checksums in names."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RegionWriter(ABC):
    """An ensemble that is written region by region, from any number of processes."""

    path: str | Path
    """The output."""

    axes: FieldAxes
    """Members, times, levels and grid of the whole."""

    variables: Sequence[str]
    """The variables; one with levels is named in `leveled`."""

    attributes: VariableAttributes
    """The CF attributes of each variable; `units` is required."""

    run: Mapping[str, Any]
    """What makes the run what it is (settings, seeds, inputs), as JSON can hold it: what another
    run has written is not taken for its own."""

    leveled: Sequence[str] = ()
    """The variables that have levels."""

    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the numbers come from; `run` is added to it."""

    compression: int = 0
    """The level of compression, 1 to 9: gzip in NetCDF, Zstandard in Zarr; 0 for none."""

    bits: Mapping[str, int] = field(default_factory=dict)
    """The bits of fraction that are kept of a variable, from 1 to 23; all by default."""

    overwrite: bool = False
    """Whether an existing output may be replaced, by the whole new one."""

    def __post_init__(self) -> None:
        """Refuse an existing output, and what is no ensemble, before anything is computed."""
        if self.axes.members is None:
            raise ValueError("axes: expected members, got none")
        if self.leveled and self.axes.levels is None:
            raise ValueError(f"axes: expected levels for {[*self.leveled]}, got none")
        for kept in self.bits.values():
            bit_round(np.zeros(1, np.float32), kept)
        self._layout()
        refuse_existing(Path(self.path), overwrite=self.overwrite)

    @abstractmethod
    def write(self, fields: Mapping[str, ArrayLike], region: Region) -> None:
        """Store a region: it is on the disk when this returns."""

    @abstractmethod
    def completed(self) -> list[Region]:
        """Return the regions that are stored and intact."""

    def missing(self, regions: Iterable[Region]) -> list[Region]:
        """Return which of the regions are still to be written."""
        there = set(self.completed())
        return [region for region in regions if region not in there]

    def region(
        self,
        *,
        members: tuple[int, int] | None = None,
        times: tuple[int, int] | None = None,
        rows: tuple[int, int] | None = None,
        cols: tuple[int, int] | None = None,
    ) -> Region:
        """Return a region, half-open; whole in every direction that is not named.

        Raises:
            ValueError: If it is empty or leaves the ensemble.
        """
        given = (members, times, rows, cols)
        spans = [(0, n) if g is None else g for g, n in zip(given, self._shape, strict=True)]
        region = Region(*spans)
        require_inside(region, self._shape)
        return region

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        members, times, rows, cols = self.axes.shape
        return members, times, rows, cols

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return self._with_levels(name, self._shape, self.axes.shape_with_levels[2])

    def _slices(self, name: str, region: Region) -> tuple[slice, ...]:
        """Return where a region of a variable lies, levels included."""
        levels = slice(0, self.axes.shape_with_levels[2])
        return self._with_levels(name, region.slices, levels)

    def _with_levels(
        self, name: str, sizes: tuple[Each, Each, Each, Each], levels: Each
    ) -> tuple[Each, ...]:
        """Return what belongs to each dimension of a variable."""
        m, t, y, x = sizes
        return (m, t, levels, y, x) if name in set(self.leveled) else sizes

    def _storable(
        self, fields: Mapping[str, ArrayLike], region: Region
    ) -> dict[str, NDArray[np.float32]]:
        """Return the fields of a region as they are stored, refusing what does not fit it."""
        if sorted(fields) != sorted(self.variables):
            raise ValueError(
                f"fields: expected the variables {sorted(self.variables)}, got {sorted(fields)}"
            )
        stored = {}
        for name, values in fields.items():
            expected = tuple(s.stop - s.start for s in self._slices(name, region))
            array = require_storable(name, np.asarray(values))
            if array.shape != expected:
                raise ValueError(
                    f"fields: expected shape {expected} for {name!r}, got {array.shape}"
                )
            stored[name] = bit_round(array, self.bits.get(name, FRACTION))
        return stored

    def _layout(self) -> CFLayout:
        """Describe the whole output."""
        return field_layout(
            self.axes,
            {name: self._shape_of(name) for name in self.variables},
            with_bits(self.attributes, self.bits),
            {**self.provenance, "run": dict(self.run)},
            self.compression,
        )

    def _folder_of_run(self, kind: str, **more: object) -> Path:
        """Return a folder beside the output that is this run's own."""
        said = {
            "run": self.run,
            "shape": self._shape,
            "bits": dict(self.bits),
            "variables": [*self.variables],
            "compression": self.compression,
            **more,
        }
        text = json.dumps(said, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
        path = Path(self.path)
        return path.with_name(f"{path.name}.{kind}-{digest}")
