"""Files that are either not there or complete.

A file is written under a temporary name in its own folder, flushed to the disk, and renamed: a
reader, or a process that was killed and starts again, never sees half of it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise if an output is there already and may not be replaced.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path}: expected an output that does not exist yet, got an existing file "
            "(pass overwrite=True to replace it)"
        )


@contextmanager
def atomic_path(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends without an error.

    After an error the temporary file is removed and `path` is as it was.

    Args:
        path: The file to write, which the block must do; its folder is made if need be.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(Path(folder, "note.txt")) as temporary:
        ...         _ = temporary.write_text("all or nothing")
        ...     Path(folder, "note.txt").read_text()
        'all or nothing'
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a file, or a folder with all in it, to the disk and give it its name."""
    flush_all(temporary)
    temporary.replace(path)
    flush(path.parent)


def flush_all(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    for each in (*(path.rglob("*") if path.is_dir() else ()), path):
        flush(each)


def flush(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
