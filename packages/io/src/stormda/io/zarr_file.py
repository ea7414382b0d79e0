"""Writing a Zarr group by the CF conventions: all of it, or nothing.

Numbers that are stored together are a chunk; chunks that lie in one file are a shard. Two
processes that write into one shard lose each other's numbers without an error, so that the shard
is what a process owns. Every chunk carries a checksum (CRC-32C), and one whose numbers are all
missing is stored like any other: what is not there was lost.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from stormda.io.atomic import flush, flush_all, put_in_place, refuse_existing
from stormda.io.cf_file import CFLayout, global_attributes

if TYPE_CHECKING:
    import zarr

COMPLETE = "complete"
"""The attribute of a group that was written to its end (1)."""

Sizes = tuple[int, ...]


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return an array of a group; a name could also be that of another group."""
    return cast("zarr.Array[Any]", group[name])


def existing_group(path: Path, mode: Literal["r", "r+"]) -> zarr.Group:
    """Return the group that a folder holds, to be read or filled in."""
    import zarr  # long to import

    return zarr.open_group(path, mode=mode)


def create_group(
    path: Path,
    layout: CFLayout,
    chunks: Mapping[str, Sizes],
    shards: Mapping[str, Sizes],
    compression: int,
) -> zarr.Group:
    """Create a group: its coordinates with their values, and its fields still to be filled in.

    Args:
        path: The folder, which must not exist.
        layout: What it holds.
        chunks: The sizes of a chunk of each field.
        shards: The sizes of a shard of each field; none for a file a chunk.
        compression: The level of Zstandard, 1 to 9; 0 for none.
    """
    import zarr  # long to import
    from zarr.codecs import BloscCodec, Crc32cCodec

    attributes = {**global_attributes(layout.provenance), **layout.attributes}
    group = zarr.create_group(path, attributes=_plain(attributes))
    packing = [BloscCodec(cname="zstd", clevel=compression)] if compression else []
    for name, variable in layout.variables.items():
        described = _plain(variable.attributes)
        if variable.data is not None:
            group.create_array(
                name,
                data=variable.data,
                dimension_names=variable.dims,
                attributes=described,
                config={"write_empty_chunks": True},
            )
            continue
        group.create_array(
            name,
            shape=tuple(layout.dimensions[dim] for dim in variable.dims),
            dtype="float32",
            chunks=chunks[name],
            shards=shards.get(name),
            fill_value=np.nan,
            compressors=[*packing, Crc32cCodec()],
            dimension_names=variable.dims,
            attributes=described,
            config={"write_empty_chunks": True},
        )
    return group


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without an error.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false.
    """
    refuse_existing(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(temporary: Path, path: Path) -> None:
    """Flush a folder and give it its name; what had it before is removed.

    On Linux the two change places in one step, so that a reader sees the old folder or the new.
    Elsewhere there is none for an instant.
    """
    old = path.with_name(f"{temporary.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        flush_all(temporary)
        if _exchanged(temporary, path):
            flush(path.parent)
            shutil.rmtree(temporary)
            return
        path.rename(old)
    put_in_place(temporary, path)
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, two: Path) -> bool:
    """Let two paths change places in one step, if the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of linux/fs.h
    return int(rename(here, os.fsencode(one), here, os.fsencode(two), exchange)) == 0


def require_complete(path: Path, group: zarr.Group) -> None:
    """Raise where a group of this package lacks chunks, which would read as missing values.

    Raises:
        ValueError: With the array that is not whole.
    """
    if COMPLETE not in group.attrs:
        return
    for name, array in group.arrays():
        whole = len(pieces(array, tuple(slice(0, n) for n in array.shape)))
        there = sum(file.is_file() for file in (path / name / "c").rglob("*"))
        if there < whole:
            raise ValueError(
                f"{path}: variable {name!r}: expected {whole} stored pieces, got {there}"
            )


def pieces(array: zarr.Array[Any], where: tuple[slice, ...]) -> list[str]:
    """Return the files, relative to the array's folder, that hold a part of it."""
    sizes = array.shards or array.chunks
    spans = [
        range(s.start // size, -(-s.stop // size)) for s, size in zip(where, sizes, strict=True)
    ]
    return ["/".join(("c", *map(str, index))) for index in itertools.product(*spans)]


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON can hold them."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in attributes.items()
    }
