"""What kind of file a path is, by its first bytes, and how to open it without decoding anything.

The extension of a name is not believed: a Git-LFS pointer, an HTML error page and a GRIB file are
often called `.nc`. NetCDF-4 is read by h5netcdf, NetCDF-3 by scipy; nothing else is needed.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

_ENGINES = {b"\x89HDF\r\n\x1a\n": "h5netcdf", b"CDF\x01": "scipy", b"CDF\x02": "scipy"}

_FOREIGN = {
    b"CDF\x05": "a NetCDF-3 file with 64-bit data (convert it with `nccopy -k nc4`)",
    b"version https://git-lfs": "a Git-LFS pointer (fetch the file with `git lfs pull`)",
    b"<!DOCTYPE": "an HTML page (the download failed)",
    b"<!doctype": "an HTML page (the download failed)",
    b"<html": "an HTML page (the download failed)",
    b"<?xml": "an XML document (the download failed)",
    b"GRIB": "a GRIB file (convert it with cfgrib or `grib_to_netcdf`)",
    b"\x0e\x03\x13\x01": "an HDF4 file (convert it with `h4tonccf`)",
    b"\x1f\x8b": "a gzip archive (unpack it first)",
    b"PK\x03\x04": "a zip archive (unpack it first)",
    b"BUFR": "a BUFR file (decode it with eccodes)",
}


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Args:
        path: The file.

    Examples:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     sha256(file.name)[:16]
        'e3b0c44298fc1c14'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expand_paths(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the existing files that a path, a glob pattern or a list of paths names.

    A pattern's matches are sorted by name; a list keeps its order.

    Args:
        source: One path, one pattern with `*`, `?` or `[...]`, or a list of paths.

    Raises:
        FileNotFoundError: If a file is not there or a pattern matches nothing.
        ValueError: If the list is empty or names a file twice.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.nc").write_bytes(b"")
        ...     [path.name for path in expand_paths(f"{folder}/*.nc")]
        ['a.nc']
    """
    if isinstance(source, str | Path):
        paths = [Path(source)] if Path(source).exists() else _matches(str(source))
    else:
        paths = [Path(path) for path in source]
    if not paths:
        raise ValueError("path: expected at least one file, got an empty list")
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected a file, got a path that does not exist")
        if path.resolve() in seen:
            raise ValueError(f"{path}: expected every file once, got it twice")
        seen.add(path.resolve())
    return paths


def _matches(pattern: str) -> list[Path]:
    """Return the sorted matches of a pattern; what is no pattern stands for itself."""
    if not glob.has_magic(pattern):
        return [Path(pattern)]
    found = sorted(glob.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{pattern}: expected a pattern that matches a file, got no match")
    return [Path(match) for match in found]


def is_netcdf(path: Path) -> bool:
    """Tell whether a file starts like NetCDF-3 or HDF5."""
    return _engine_of(_head(path)) is not None


@contextmanager
def open_raw(path: Path) -> Iterator[xr.Dataset]:
    """Open a NetCDF file lazily with every value as it is stored: no masks, scales or times.

    Files are opened for one reading and closed again, so nothing open is shared between
    processes.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is not NetCDF, or is truncated or damaged.
    """
    dataset = _open(path)
    try:
        yield dataset
    finally:
        dataset.close()


def _open(path: Path) -> xr.Dataset:
    head = _head(path)
    engine = _engine_of(head)
    if engine is None:
        raise ValueError(f"{path}: expected a NetCDF-3 or NetCDF-4 file, got {_describe(head)}")
    try:
        return xr.open_dataset(path, engine=engine, decode_cf=False, cache=False)
    except Exception as error:  # the readers raise many kinds for damaged bytes
        raise ValueError(
            f"{path}: expected a readable NetCDF file, got a truncated or damaged one ({error})"
        ) from error


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise ValueError(f"{path}: expected a file, got a folder")
    with path.open("rb") as file:
        return file.read(32)


def _engine_of(head: bytes) -> str | None:
    return next((engine for magic, engine in _ENGINES.items() if head.startswith(magic)), None)


def _describe(head: bytes) -> str:
    """Say what the first bytes of a file that is not NetCDF stand for."""
    if not head:
        return "an empty file"
    foreign = (what for magic, what in _FOREIGN.items() if head.lstrip().startswith(magic))
    return next(foreign, f"a file that starts with {head[:8]!r}")
