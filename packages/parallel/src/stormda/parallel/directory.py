"""A folder of finished folders, one a step: the old one or the new one, never half of one.

    directory/
        step-00000100/     finished
        step-00000200/
        latest             "step-00000200"

A folder is filled as `step-00000200.tmp`, flushed, renamed, and only then named by `latest`.
Killed at any moment, a save leaves a `.tmp`, which the next one sweeps away, or a `.replaced`,
which counts until the folder that replaces it has its name.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from stormda.parallel.manifest import DamagedCheckpoint, flush

_LATEST = "latest"


def prepare(directory: Path, step: int) -> Path:
    """Remove what killed saves have left behind, and return an empty folder to fill.

    Args:
        directory: The folder of all steps; it is made if need be.
        step: The step that is to be written.
    """
    sweep(directory)
    temporary = temporary_folder(directory, step)
    temporary.mkdir(parents=True)
    return temporary


def publish(directory: Path, step: int, keep: int) -> Path:
    """Give the filled folder of a step its name, point `latest` to it, and remove old ones.

    Args:
        directory: The folder of all steps.
        step: The step that was written and flushed.
        keep: How many steps, up to and including this one, stay.
    """
    final = directory / folder_name(step)
    _rename(temporary_folder(directory, step), final)
    _point(directory, step)
    _prune(directory, step, keep)
    return final


def folder_name(step: int) -> str:
    """Return the name of the folder of a step.

    Examples:
        >>> folder_name(200)
        'step-00000200'
    """
    return f"step-{step:08d}"


def temporary_folder(directory: Path, step: int) -> Path:
    """Return where a step is written before it is finished."""
    return directory / f"{folder_name(step)}.tmp"


def folders(directory: Path) -> dict[int, Path]:
    """Return the folder of every step in order, finished ones only."""
    found: dict[int, Path] = {}
    for path in sorted(directory.glob("step-*")):  # "step-1" sorts before "step-1.replaced"
        match = re.fullmatch(r"step-(\d{8,})(\.replaced)?", path.name)
        if match:
            found.setdefault(int(match[1]), path)
    return dict(sorted(found.items()))


def latest_step(directory: Path, folders: dict[int, Path]) -> int:
    """Return the step that `latest` names; a first save killed before it was written has none."""
    path = directory / _LATEST
    if not path.is_file():
        return max(folders)
    name = path.read_text(errors="replace").strip()
    for step in folders:
        if folder_name(step) == name:
            return step
    raise DamagedCheckpoint(f"{path}: expected one of {listed(folders)}, got {name!r}")


def listed(steps: Mapping[int, Path] | list[int]) -> str:
    """Return steps as a text for a message."""
    return ", ".join(map(str, steps)) or "none"


def sweep(directory: Path) -> None:
    """Remove what killed saves have left behind."""
    for path in directory.glob("step-*.tmp"):
        shutil.rmtree(path)
    for path in directory.glob("step-*.replaced"):
        if path.with_suffix("").exists():
            _remove(path)
        else:
            path.rename(path.with_suffix(""))


def _rename(temporary: Path, final: Path) -> None:
    """Give a finished folder its name; one that had it stays readable as `.replaced` till then."""
    replaced = final.with_name(f"{final.name}.replaced")
    if final.exists():
        final.rename(replaced)
    temporary.rename(final)
    flush(final.parent)
    if replaced.exists():
        _remove(replaced)


def _point(directory: Path, step: int) -> None:
    temporary = directory / f"{_LATEST}.tmp"
    temporary.write_text(f"{folder_name(step)}\n")
    flush(temporary)
    temporary.replace(directory / _LATEST)
    flush(directory)


def _prune(directory: Path, step: int, keep: int) -> None:
    found = folders(directory)
    for old in [other for other in found if other <= step][:-keep]:
        _remove(found[old])


def _remove(folder: Path) -> None:
    """Delete a folder; killed half-way, it is a leftover and not a damaged checkpoint."""
    shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}.tmp")))
