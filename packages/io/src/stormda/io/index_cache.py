"""The metadata of many files, remembered in one: opening them again costs one reading.

An entry is used if the file has the size and the time of its last change that it had, and is to be
read in the same way. The memory is JSON; nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stormda.grid import grid_from_dict
from stormda.io.atomic import atomic_path
from stormda.io.formats import Location
from stormda.io.index import (
    FileIndex,
    FileVariable,
    LevelAxis,
    Reading,
    VariableMeta,
    index_file,
)
from stormda.io.quantities import QUANTITIES
from stormda.io.units import Unit

_VERSION = 1
_QUANTITIES = {quantity.key: quantity for quantity in QUANTITIES}

Entry = dict[str, Any]


def index_files(
    locations: Sequence[Location], how: Reading, memory: Path | None
) -> list[FileIndex]:
    """Return the metadata of each file, from a memory where it is right.

    Args:
        locations: The files.
        how: How they are to be read.
        memory: The file that remembers; None for none. It is rewritten if anything was new.

    Raises:
        ValueError: If a file cannot be opened, or the memory is a file of something else.
    """
    if memory is None:
        return [index_file(location, how) for location in locations]
    known, grids = _load(memory)
    key = _key(how)
    found, new = [], False
    for location in locations:
        entry = known.get(str(location))
        stamp = [*_stamp(location), key]
        if entry is not None and entry["stamp"] == stamp:
            found.append(_restored(location, entry, grids))
        else:
            found.append(index_file(location, how))
            known[str(location)] = _entry(found[-1], stamp, grids)
            new = True
    if new:
        _save(memory, known, grids)
    return found


def _key(how: Reading) -> str:
    said = {
        "si": how.si,
        "missing": how.missing,
        "plausible": how.plausible,
        "times": None if how.times is None else [str(time) for time in how.times],
        "grid": None if how.grid is None else how.grid.to_dict(),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _stamp(location: Location) -> list[int]:
    """Return what changes when a file does; nothing is known of a URL."""
    if isinstance(location, str):
        return [0, 0]
    status = os.stat(location)
    return [status.st_size, status.st_mtime_ns]


def _load(memory: Path) -> tuple[dict[str, Entry], dict[str, Any]]:
    if not memory.exists():
        return {}, {}
    try:
        content = json.loads(memory.read_bytes())
        if content["stormda_index"] != _VERSION:
            return {}, {}
        return dict(content["files"]), dict(content["grids"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{memory}: expected an index that open_store wrote, got another file"
        ) from error


def _save(memory: Path, known: Mapping[str, Entry], grids: Mapping[str, Any]) -> None:
    content = {"stormda_index": _VERSION, "files": known, "grids": grids}
    with atomic_path(memory, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content), "utf-8")


def _entry(file: FileIndex, stamp: list[Any], grids: dict[str, Any]) -> Entry:
    """Return what is remembered of a file; equal grids are kept once."""
    grid = file.grid.to_dict()
    digest = hashlib.sha256(json.dumps(grid, sort_keys=True).encode()).hexdigest()
    grids[digest] = grid
    return {
        "stamp": stamp,
        "roles": dict(file.roles),
        "times": file.times.astype(np.int64).tolist(),
        "calendar": file.calendar,
        "grid": digest,
        "levels": {
            dim: {**asdict(axis), "values": axis.values.tolist()}
            for dim, axis in file.levels.items()
        },
        "members": file.members.tolist(),
        "variables": {name: _of_variable(v) for name, v in file.variables.items()},
    }


def _of_variable(variable: FileVariable) -> Entry:
    return {
        "meta": asdict(variable.meta),
        "unit": None if variable.unit is None else asdict(variable.unit),
        "problem": variable.problem,
        "order": variable.order,
        "packing": {name: _packed(value) for name, value in variable.packing.items()},
        "quantity": None if variable.quantity is None else variable.quantity.key,
    }


def _packed(value: object) -> object:
    """Return an attribute with its type, which decides how it is meant."""
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    return {"type": array.dtype.str, "values": array.tolist()}


def _unpacked(value: Any) -> object:  # noqa: ANN401
    return value if isinstance(value, str) else np.array(value["values"], value["type"])


def _restored(location: Location, entry: Entry, grids: Mapping[str, Any]) -> FileIndex:
    return FileIndex(
        path=location,
        roles=entry["roles"],
        times=np.array(entry["times"], np.int64).astype("datetime64[s]"),
        calendar=entry["calendar"],
        grid=grid_from_dict(grids[entry["grid"]]),
        levels={
            dim: LevelAxis(**{**axis, "values": np.array(axis["values"], np.float64)})
            for dim, axis in entry["levels"].items()
        },
        members=np.array(entry["members"], np.int64),
        variables={name: _variable(v) for name, v in entry["variables"].items()},
    )


def _variable(entry: Entry) -> FileVariable:
    meta = entry["meta"]
    chunks = None if meta["chunks"] is None else tuple(meta["chunks"])
    lists = {"dims": tuple(meta["dims"]), "shape": tuple(meta["shape"]), "chunks": chunks}
    return FileVariable(
        meta=VariableMeta(**{**meta, **lists}),
        unit=None if entry["unit"] is None else Unit(**entry["unit"]),
        problem=entry["problem"],
        order=tuple(entry["order"]),
        packing={name: _unpacked(value) for name, value in entry["packing"].items()},
        quantity=_QUANTITIES.get(entry["quantity"]),
    )
