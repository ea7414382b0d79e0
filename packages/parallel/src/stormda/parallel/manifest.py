"""What a folder of files must hold: the length and the SHA-256 of each, and a check of both.

The manifest is a small JSON file beside the files it describes. It is written last, after they
are on the disk, so that a folder without one was never finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
"""Name of the manifest inside its folder."""


class DamagedCheckpoint(ValueError):
    """A checkpoint on the disk is not what was written: truncated, altered, or incomplete."""


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Describe files of a folder in its manifest, and wait until all of it is on the disk.

    Args:
        folder: The folder.
        names: The files in it to describe.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     _ = (folder / "note.txt").write_bytes(b"whole")
        ...     write_manifest(folder, ["note.txt"])
        ...     verify_manifest(folder, ["note.txt"])
        ...     sorted(path.name for path in folder.iterdir())
        ['manifest.json', 'note.txt']
    """
    write_entries(folder, {name: describe(folder / name) for name in names})


def describe(path: Path) -> dict[str, Any]:
    """Return the length and SHA-256 of a file, once it is on the disk."""
    flush(path)
    return {"bytes": path.stat().st_size, "sha256": _digest(path)}


def write_entries(folder: Path, entries: Mapping[str, dict[str, Any]]) -> None:
    """Write the manifest from what `describe` returned, on whichever rank, for every file."""
    (folder / MANIFEST).write_text(json.dumps(entries, indent=1), encoding="utf-8")
    for path in (folder / MANIFEST, folder):
        flush(path)


def verify_manifest(folder: Path, names: Iterable[str]) -> None:
    """Check that the files of a folder are exactly those that were written.

    Args:
        folder: The folder.
        names: The files that its manifest must describe.

    Raises:
        DamagedCheckpoint: Naming the first file that is missing, truncated or altered.
    """
    verify_entries(folder, _read_entries(folder / MANIFEST, sorted(names)))


def verify_entries(folder: Path, entries: Mapping[str, dict[str, Any]]) -> None:
    """Check that files of a folder are those that entries of its manifest describe.

    Raises:
        DamagedCheckpoint: Naming the first file that is missing, truncated or altered.
    """
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            raise DamagedCheckpoint(f"{path}: expected a file, got none")
        if (length := path.stat().st_size) != entry["bytes"]:
            raise DamagedCheckpoint(f"{path}: expected {entry['bytes']} bytes, got {length}")
        if (digest := _digest(path)) != entry["sha256"]:
            raise DamagedCheckpoint(f"{path}: expected SHA-256 {entry['sha256']}, got {digest}")


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the manifest of a folder whose files have names that are not known beforehand.

    Raises:
        DamagedCheckpoint: If there is none, or it describes no files.
    """
    path = folder / MANIFEST
    try:
        names = sorted(json.loads(path.read_bytes())) if path.is_file() else []
    except (ValueError, TypeError):
        names = []
    return _read_entries(path, names or ["its files"])


def _read_entries(path: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        raise DamagedCheckpoint(f"{path}: expected a file, got none")
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_bytes())
        described = sorted(
            name for name, entry in entries.items() if entry.keys() >= {"bytes", "sha256"}
        )
    except (ValueError, AttributeError):
        described = []
    if described != names:
        raise DamagedCheckpoint(
            f"{path}: expected the lengths and SHA-256 of {', '.join(names)}, got something else"
        )
    return entries
