"""A folder of parts that survives being killed: one part for each cycle of a run.

Each part is named after its own SHA-256 and put in its place by a rename. It is therefore there
and whole, or it is not there, and damage shows as a name that does not fit the bytes. Parts are
NumPy archives, read without pickle: nothing in them is executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.io.atomic import atomic_path

_NAME = re.compile(r"cycle-(\d{6})-([0-9a-f]{64})\.npz")
_MOST = 10**6
_METADATA = "__metadata__"

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of one run.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts = Parts(Path(folder), run={"seed": 1})
        ...     parts.write(0, {"x": np.arange(3)}, {"time": "2000-01-01"})
        ...     parts.completed(), parts.read(0)
        ([0], ({'x': array([0, 1, 2])}, {'time': '2000-01-01'}))
    """

    folder: Path
    """Where the parts are; made by the first `write`."""

    run: Mapping[str, Any]
    """What makes the run what it is (settings, seed, inputs), as JSON can hold it. Parts of
    another run are refused."""

    def write(
        self, cycle: int, arrays: Mapping[str, ArrayLike], metadata: Mapping[str, Any]
    ) -> None:
        """Store a cycle: it is on the disk when this returns.

        Args:
            cycle: The cycle's number, from 0 to 999999.
            arrays: Numbers of any shape and type, by name.
            metadata: Anything that JSON can hold.

        Raises:
            ValueError: If the number is out of range, an array does not hold numbers, or the
                folder holds parts of another run.
        """
        if not 0 <= cycle < _MOST:
            raise ValueError(f"cycle: expected a number from 0 to {_MOST - 1}, got {cycle}")
        content = _pack(arrays, metadata)
        self._claim()
        name = f"cycle-{cycle:06d}-{hashlib.sha256(content).hexdigest()}.npz"
        with atomic_path(self.folder / name, overwrite=True) as temporary:
            temporary.write_bytes(content)
        for other in self._stored(cycle):
            if other.name != name:
                other.unlink()

    def read(self, cycle: int) -> tuple[Arrays, dict[str, Any]]:
        """Return a cycle's arrays and metadata as they were written.

        Raises:
            ValueError: If the cycle is not there or is damaged, or is of another run.
        """
        self._require_same_run()
        for path in self._stored(cycle):
            content = path.read_bytes()
            if _is_intact(path.name, content):
                return _unpack(content)
        raise ValueError(f"{self.folder}: expected an intact part of cycle {cycle}, got none")

    def completed(self) -> list[int]:
        """Return the numbers of the cycles that are there and intact, rising.

        Every part is read and its checksum compared.

        Raises:
            ValueError: If the parts are of another run; the message says in what it differs.
        """
        self._require_same_run()
        intact = (p.name for p in self._stored() if _is_intact(p.name, p.read_bytes()))
        return sorted({int(name.split("-")[1]) for name in intact})

    def _stored(self, cycle: int | None = None) -> Iterator[Path]:
        """Yield the parts of one cycle, or of all, intact or not."""
        number = "*" if cycle is None else f"{cycle:06d}"
        paths = sorted(self.folder.glob(f"cycle-{number}-*.npz"))
        return (path for path in paths if _NAME.fullmatch(path.name))

    @property
    def _record(self) -> Path:
        return self.folder / "run.json"

    def _claim(self) -> None:
        """Write down whose parts these are, or check that they are this run's."""
        if self._record.exists():
            return self._require_same_run()
        with atomic_path(self._record) as temporary:
            temporary.write_text(json.dumps(self.run, sort_keys=True, indent=1), "utf-8")
        return None

    def _require_same_run(self) -> None:
        if not self._record.exists():
            return
        run, other = json.loads(json.dumps(self.run)), json.loads(self._record.read_text("utf-8"))
        for key in sorted({*run, *other}):
            if _canonical(run.get(key)) != _canonical(other.get(key)):
                raise ValueError(
                    f"{self.folder}: expected parts of a run with {key} = {run.get(key)!r}, "
                    f"got {other.get(key)!r} (remove the folder to start anew)"
                )


def _canonical(value: Any) -> str:  # noqa: ANN401
    """Return a value as text in which the order of keys does not count, as in the record."""
    return json.dumps(value, sort_keys=True)


def _pack(arrays: Mapping[str, ArrayLike], metadata: Mapping[str, Any]) -> bytes:
    """Return the bytes of a part: the same arrays and metadata give the same bytes."""
    stored = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in stored.items():
        if array.dtype.hasobject:
            raise ValueError(f"arrays: expected numbers in {name!r}, got Python objects")
    text = _canonical(metadata).encode()
    buffer = io.BytesIO()
    everything: dict[str, Any] = {_METADATA: np.frombuffer(text, np.uint8), **stored}
    np.savez(buffer, **everything)
    return buffer.getvalue()


def _unpack(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    metadata: dict[str, Any] = json.loads(arrays.pop(_METADATA).tobytes())
    return arrays, metadata


def _is_intact(name: str, content: bytes) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and match[2] == hashlib.sha256(content).hexdigest()
