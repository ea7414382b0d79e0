"""What data is this: one digest for a data set, from its metadata alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stormda.io.index import FileIndex


def fingerprint(files: Sequence[FileIndex], names: Mapping[str, str]) -> str:
    """Return a SHA-256 of all that the files' metadata say, and of their sizes.

    Args:
        files: The files, in the order of time.
        names: The name of each variable in the files, by its name in the store.
    """
    first = files[0]
    said = {
        "names": dict(names),
        "grid": first.grid.to_dict(),
        "levels": {dim: axis.values.tolist() for dim, axis in first.levels.items()},
        "members": first.members.tolist(),
        "calendar": first.calendar,
        "files": [_of_file(file) for file in files],
    }
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _of_file(file: FileIndex) -> dict[str, object]:
    path = file.path
    size = path.stat().st_size if isinstance(path, Path) and path.is_file() else None
    return {
        "bytes": size,
        "times": file.times.astype("int64").tolist(),
        "variables": {
            name: [v.meta.units, v.meta.dims, v.meta.shape, v.meta.dtype, _said(v.packing)]
            for name, v in sorted(file.variables.items())
        },
    }


def _said(packing: Mapping[str, object]) -> dict[str, list[str]]:
    return {n: [str(x) for x in np.ravel(np.asarray(v)).tolist()] for n, v in packing.items()}
