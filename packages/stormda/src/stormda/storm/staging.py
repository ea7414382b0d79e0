"""A folder of outputs that appears when all of it is there, and not before.

Files are written into a hidden folder beside the final one, which then takes its name. A run that
fails or is interrupted leaves what was there before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def refuse_existing(out: Path, *, overwrite: bool) -> None:
    """Raise where outputs would fall on what is there already.

    Args:
        out: The folder to be; it may exist and be empty.
        overwrite: Whether files in it may be replaced.

    Raises:
        FileExistsError: Where `out` is a file, or holds anything and `overwrite` is false.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out}: expected a folder or nothing, got a file")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise FileExistsError(
            f"{out}: expected a folder that is empty or does not exist yet, "
            "got one that holds files (--overwrite replaces them)"
        )


@contextmanager
def staged(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a folder whose content becomes that of `out` when the block ends without an error.

    Args:
        out: The final folder. Files in it that are not written anew stay as they are.
        overwrite: Whether files in it may be replaced.

    Raises:
        FileExistsError: Where `out` is a file, or holds anything and `overwrite` is false.

    Examples:
        >>> with TemporaryDirectory() as home:
        ...     with staged(Path(home, "out")) as folder:
        ...         _ = (folder / "note.txt").write_text("all or nothing")
        ...     [path.name for path in Path(home, "out").iterdir()]
        ['note.txt']
    """
    refuse_existing(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as hidden:
        folder = Path(hidden, "content")
        folder.mkdir()
        yield folder
        _publish(folder, out)


def _publish(folder: Path, out: Path) -> None:
    """Move a folder to a place where there is none; else move each file, one by one."""
    if not out.exists():
        folder.rename(out)
        return
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
