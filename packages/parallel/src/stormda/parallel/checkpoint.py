"""Checkpoints that are either not there or complete, verified when they are read, never pickled.

    directory/
        step-00000100/tensors.safetensors   every tensor of the state
                      state.json            everything else, and the caller's metadata
                      manifest.json         length and SHA-256 of both
        step-00000200/...
        latest                              "step-00000200"

A checkpoint is written to `step-00000200.tmp`, flushed, renamed, and only then named by `latest`:
whenever the process is killed, the previous checkpoint or the new one is there in full, and what
is left of the killed one is swept away by the next save.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import TensorSpec, serialize_file
from safetensors.torch import load_file
from torch import Tensor

from stormda.parallel.manifest import DamagedCheckpoint, flush, verify_manifest, write_manifest
from stormda.parallel.state import flatten_state, restore_state

if TYPE_CHECKING:
    from stormda.parallel.communicator import Communicator

_TENSORS, _STATE, _LATEST = "tensors.safetensors", "state.json", "latest"
_FILES = (_TENSORS, _STATE)
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped."""

    step: int
    """The step after which the state was saved."""

    state: Any
    """The state: the same nesting, the same bits, every tensor on the CPU."""

    metadata: dict[str, Any]
    """What the caller said about the run."""


def save_checkpoint(
    directory: str | Path,
    step: int,
    state: object,
    metadata: Mapping[str, Any] | None = None,
    *,
    keep: int = 3,
    comm: Communicator | None = None,
) -> Path:
    """Write one checkpoint, and remove those that are older than the newest `keep`.

    Only rank 0 writes; every rank must hold the same state (this is not for sharded parameters)
    and returns when the checkpoint is on the disk. Later steps in the directory, left by a run
    that was taken up again further back, stay until they are written again.

    Args:
        directory: The folder of all checkpoints of the run; it is made if need be.
        step: The step that is done, from 0.
        state: Nested dicts, lists and tuples of tensors, numbers, strings, booleans and None, as
            `state_dict()` and `torch.Generator.get_state()` return them.
        metadata: A description of the run that JSON can hold.
        keep: How many checkpoints, up to and including this one, stay.
        comm: The ranks that call this function together, or None for one process.

    Returns:
        The folder of the checkpoint.

    Raises:
        ValueError: If an argument is out of range or cannot be stored exactly.
        OSError: If the disk cannot be written; the earlier checkpoints are then untouched.

    Examples:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = save_checkpoint(directory, 100, {"weight": torch.arange(3)}, {"seed": 7})
        ...     load_checkpoint(directory)
        Checkpoint(step=100, state={'weight': tensor([0, 1, 2])}, metadata={'seed': 7})
    """
    if step < 0:
        raise ValueError(f"step: expected 0 or more, got {step}")
    if keep < 1:
        raise ValueError(f"keep: expected at least 1, got {keep}")
    directory = Path(directory)
    document, tensors = flatten_state(state)
    text = _header(step, document, dict(metadata or {}))
    if comm is None or comm.rank == 0:
        _sweep(directory)
        _publish(_write(directory, step, text, tensors), directory / _name(step))
        _point(directory, step)
        _prune(directory, step, keep)
    if comm is not None:
        comm.barrier()
    return directory / _name(step)


def load_checkpoint(
    directory: str | Path, step: int | None = None, *, fallback: bool = False
) -> Checkpoint:
    """Read one checkpoint after checking every byte of it.

    Args:
        directory: The folder of all checkpoints of the run.
        step: Which one; None for the one that was saved last.
        fallback: Whether, if that one is damaged, to warn and read the newest intact one before
            it instead of raising.

    Returns:
        The checkpoint, its tensors on the CPU.

    Raises:
        FileNotFoundError: If the directory holds no checkpoint.
        ValueError: If it holds none of that step, or one of a format that is not known.
        DamagedCheckpoint: If the checkpoint is damaged; the message names the file and the steps
            that are intact.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     for step in (1, 2):
        ...         _ = save_checkpoint(directory, step, {"learning_rate": 0.1 / step})
        ...     load_checkpoint(directory, 1).state, load_checkpoint(directory).state
        ({'learning_rate': 0.1}, {'learning_rate': 0.05})
    """
    directory = Path(directory)
    folders = _folders(directory)
    if not folders:
        raise FileNotFoundError(f"directory: expected checkpoints in {directory}, got none")
    if step is not None and step not in folders:
        raise ValueError(f"step: expected one of {_listed(folders)}, got {step}")
    try:
        step = _latest(directory, folders) if step is None else step
        return _read(folders[step])
    except DamagedCheckpoint as damage:
        intact = intact_checkpoints(directory)
        before = [other for other in intact if step is None or other < step]
        if not (fallback and before):
            raise DamagedCheckpoint(f"{damage} (intact: {_listed(intact)})") from None
        warnings.warn(f"{damage}; falling back to step {before[-1]}", stacklevel=2)
        return _read(folders[before[-1]])


def intact_checkpoints(directory: str | Path) -> list[int]:
    """Return the steps, in order, of the checkpoints of which every byte is as it was written.

    Args:
        directory: The folder of all checkpoints of the run; it may be empty or missing.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     for step in (10, 20):
        ...         _ = save_checkpoint(directory, step, {})
        ...     _ = Path(directory, "step-00000020", "state.json").write_text("spoilt")
        ...     intact_checkpoints(directory)
        [10]
    """
    return [step for step, folder in _folders(Path(directory)).items() if _is_intact(folder)]


def _header(step: int, document: object, metadata: dict[str, Any]) -> str:
    try:
        described = json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata: expected values that JSON can hold, got {error}") from None
    return json.dumps(
        {
            "format": _FORMAT,
            "step": step,
            "metadata": json.loads(described),
            "state": document,
        },
        indent=1,
    )


def _write(directory: Path, step: int, text: str, tensors: dict[str, Tensor]) -> Path:
    temporary = directory / f"{_name(step)}.tmp"
    temporary.mkdir(parents=True)
    _write_tensors(temporary / _TENSORS, tensors)
    (temporary / _STATE).write_text(text, encoding="utf-8")
    write_manifest(temporary, _FILES)
    return temporary


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file; `safetensors.torch.save_file` would need NumPy for it."""
    packed = {
        name: tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        for name, tensor in tensors.items()
    }
    specs = {
        name: TensorSpec(
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=list(tensor.shape),
            data_ptr=tensor.data_ptr(),
            data_len=tensor.nbytes,
        )
        for name, tensor in packed.items()
    }
    serialize_file(specs, path)


def _publish(temporary: Path, final: Path) -> None:
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
    temporary.write_text(f"{_name(step)}\n")
    flush(temporary)
    temporary.replace(directory / _LATEST)
    flush(directory)


def _prune(directory: Path, step: int, keep: int) -> None:
    folders = _folders(directory)
    for old in [other for other in folders if other <= step][:-keep]:
        _remove(folders[old])


def _sweep(directory: Path) -> None:
    """Remove what killed saves have left behind."""
    for path in directory.glob("step-*.tmp"):
        shutil.rmtree(path)
    for path in directory.glob("step-*.replaced"):
        if path.with_suffix("").exists():
            _remove(path)
        else:
            path.rename(path.with_suffix(""))


def _remove(folder: Path) -> None:
    """Delete a folder; killed half-way, it is a leftover and not a damaged checkpoint."""
    shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}.tmp")))


def _read(folder: Path) -> Checkpoint:
    verify_manifest(folder, _FILES)
    header = json.loads((folder / _STATE).read_bytes())
    if header["format"] != _FORMAT:
        raise ValueError(f"{folder}: expected format {_FORMAT}, got {header['format']}")
    state = restore_state(header["state"], load_file(folder / _TENSORS))
    return Checkpoint(step=header["step"], state=state, metadata=header["metadata"])


def _is_intact(folder: Path) -> bool:
    try:
        verify_manifest(folder, _FILES)
    except DamagedCheckpoint:
        return False
    return True


def _latest(directory: Path, folders: dict[int, Path]) -> int:
    """Return the step that `latest` names; a first save killed before it was written has none."""
    path = directory / _LATEST
    if not path.is_file():
        return max(folders)
    name = path.read_text(errors="replace").strip()
    for step in folders:
        if _name(step) == name:
            return step
    raise DamagedCheckpoint(f"{path}: expected one of {_listed(folders)}, got {name!r}")


def _folders(directory: Path) -> dict[int, Path]:
    """Return the folder of every step in order, finished ones only."""
    found: dict[int, Path] = {}
    for path in sorted(directory.glob("step-*")):  # "step-1" sorts before "step-1.replaced"
        match = re.fullmatch(r"step-(\d{8,})(\.replaced)?", path.name)
        if match:
            found.setdefault(int(match[1]), path)
    return dict(sorted(found.items()))


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _listed(steps: Mapping[int, Path] | list[int]) -> str:
    return ", ".join(map(str, steps)) or "none"
