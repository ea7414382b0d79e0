"""Of what format is a path, by what it holds and not by its name.

The extension of a name is not believed: a Git-LFS pointer, an HTML error page and a GRIB file are
often called `.nc`.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

Location = Path | str
"""A path; a text only for a URL, such as `"s3://bucket/store.zarr"`."""


class Format(Enum):
    """What can be opened."""

    HDF5 = "HDF5"
    NETCDF3 = "NetCDF-3"
    ZARR = "Zarr"
    GRIB = "GRIB"
    REFERENCES = "references"


_MAGIC = {
    b"\x89HDF\r\n\x1a\n": Format.HDF5,
    b"CDF\x01": Format.NETCDF3,
    b"CDF\x02": Format.NETCDF3,
    b"GRIB": Format.GRIB,
}

NETCDF_MAGIC = tuple(magic for magic, kind in _MAGIC.items() if kind is not Format.GRIB)
"""How NetCDF-3 and HDF5 files start."""

_FOREIGN = {
    b"CDF\x05": "a NetCDF-3 file with 64-bit data (convert it with `nccopy -k nc4`)",
    b"version https://git-lfs": "a Git-LFS pointer (fetch the file with `git lfs pull`)",
    b"<!DOCTYPE": "an HTML page (the download failed)",
    b"<!doctype": "an HTML page (the download failed)",
    b"<html": "an HTML page (the download failed)",
    b"<?xml": "an XML document (the download failed)",
    b"\x0e\x03\x13\x01": "an HDF4 file (convert it with `h4tonccf`)",
    b"\x1f\x8b": "a gzip archive (unpack it first)",
    b"PK\x03\x04": "a zip archive (unpack it first)",
    b"BUFR": "a BUFR file (decode it with eccodes)",
}

_ZARR_FILES = ("zarr.json", ".zgroup", ".zmetadata")


def is_url(location: Location) -> bool:
    """Tell whether a location is a URL.

    Examples:
        >>> is_url("s3://bucket/era5.zarr"), is_url("era5.zarr"), is_url(Path("a.nc"))
        (True, False, False)
    """
    return isinstance(location, str) and "://" in location and bool(urlsplit(location).scheme)


def format_of(location: Location) -> Format:
    """Return the format of a file, a folder or a URL.

    A URL is taken for Zarr, which alone can be read in pieces from far away.

    Raises:
        ValueError: If it is none of those that can be opened; the message says what it is.
    """
    if isinstance(location, str):
        return Format.ZARR
    if location.is_dir():
        return _of_folder(location)
    head = head_of(location)
    found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if found is None and head.lstrip().startswith(b"{"):
        return _of_json(location)
    if found is None:
        raise ValueError(f"{location}: expected a NetCDF-3 or NetCDF-4 file, got {describe(head)}")
    return found


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        ValueError: If it may not be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(32)
    except PermissionError:
        raise ValueError(
            f"{path}: expected a file that may be read, got one without permission"
        ) from None


def describe(head: bytes) -> str:
    """Say what the first bytes of a file that cannot be opened stand for."""
    if not head:
        return "an empty file"
    foreign = (what for magic, what in _FOREIGN.items() if head.lstrip().startswith(magic))
    return next(foreign, f"a file that starts with {head[:8]!r}")


def _of_folder(path: Path) -> Format:
    if any((path / name).exists() for name in _ZARR_FILES):
        return Format.ZARR
    if (path / ".zarray").exists():
        raise ValueError(f"{path}: expected a Zarr group, got a single Zarr array")
    raise ValueError(
        f"{path}: expected a file or a Zarr group, got a folder without Zarr metadata "
        f"({', '.join(_ZARR_FILES)})"
    )


def _of_json(path: Path) -> Format:
    """Recognise kerchunk references, and refuse those that hold more than places of bytes.

    Raises:
        ValueError: If the file is not JSON, holds no references, or generates them by templates.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("refs", content), dict):
        raise ValueError(f"{path}: expected references as kerchunk writes them, got other text")
    if ".zgroup" not in content.get("refs", content):
        raise ValueError(f"{path}: expected references to a Zarr group, got none")
    generated = sorted({"templates", "gen"} & content.keys())
    if generated:
        raise ValueError(
            f"{path}: expected references without templates, got {', '.join(generated)} "
            "(write them with the places spelled out)"
        )
    return Format.REFERENCES
