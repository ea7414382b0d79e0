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
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import Tensor

from stormda.parallel.directory import folder_name, folders, latest_step, listed, prepare, publish
from stormda.parallel.manifest import DamagedCheckpoint, verify_manifest, write_manifest
from stormda.parallel.state import flatten_state, restore_state
from stormda.parallel.tensor_file import write_tensors

if TYPE_CHECKING:
    from stormda.parallel.communicator import Communicator

_TENSORS, _STATE = "tensors.safetensors", "state.json"
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
        _write(prepare(directory, step), text, tensors)
        publish(directory, step, keep)
    if comm is not None:
        comm.barrier()
    return directory / folder_name(step)


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
    found = folders(directory)
    if not found:
        raise FileNotFoundError(f"directory: expected checkpoints in {directory}, got none")
    if step is not None and step not in found:
        raise ValueError(f"step: expected one of {listed(found)}, got {step}")
    try:
        step = latest_step(directory, found) if step is None else step
        return _read(found[step])
    except DamagedCheckpoint as damage:
        intact = intact_checkpoints(directory)
        before = [other for other in intact if step is None or other < step]
        if not (fallback and before):
            raise DamagedCheckpoint(f"{damage} (intact: {listed(intact)})") from None
        warnings.warn(f"{damage}; falling back to step {before[-1]}", stacklevel=2)
        return _read(found[before[-1]])


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
    return [step for step, folder in folders(Path(directory)).items() if _is_intact(folder)]


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


def _write(folder: Path, text: str, tensors: dict[str, Tensor]) -> None:
    write_tensors(folder / _TENSORS, tensors)
    (folder / _STATE).write_text(text, encoding="utf-8")
    write_manifest(folder, _FILES)


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
