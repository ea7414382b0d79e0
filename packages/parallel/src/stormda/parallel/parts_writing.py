"""Checkpoints of parts: saved on any mesh, loaded on any other, or on none.

    directory/
        step-00000100/tensors-00000.safetensors   the parts that one rank wrote
                      tensors-00001.safetensors
                      index.json       where every part lies in its whole; all else of the state
                      manifest.json    length and SHA-256 of all of them
        latest

The index names files and places only, and JSON and safetensors run no code when they are read;
the metadata file of `torch.distributed.checkpoint` is a pickle, which does, so it is not used.
The folder must be on a file system that all ranks share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stormda.parallel.directory import folder_name, prepare, publish, temporary_folder
from stormda.parallel.launch import StartedMesh
from stormda.parallel.layout import Part, whole
from stormda.parallel.manifest import describe, write_entries
from stormda.parallel.parts_plan import Plan, file_name, gather_texts, plan_writing
from stormda.parallel.state import flatten_state
from stormda.parallel.tensor_file import packed, write_tensors

INDEX = "index.json"
"""Name of the index inside the folder of a step."""

FORMAT = 2
"""What `index.json` says of itself."""

STATE = "state/"
"""How the names of tensors begin that belong to the state."""


def save_parts(
    directory: str | Path,
    step: int,
    parts: Mapping[str, Part],
    state: object = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    mesh: StartedMesh,
    keep: int = 3,
) -> Path:
    """Write a checkpoint, every rank what it holds, every number once.

    Args:
        directory: The folder of all checkpoints of the run; it is made if need be.
        step: The step that is done, from 0.
        parts: What this rank holds, by name (see `training_parts`).
        state: What all ranks hold alike: nested dicts, lists and tuples of tensors, numbers,
            strings, booleans and None.
        metadata: A description of the run that JSON can hold.
        mesh: The ranks, all of which call this together.
        keep: How many checkpoints, up to and including this one, stay.

    Returns:
        The folder of the checkpoint, which is on the disk.

    Raises:
        ValueError: If an argument is out of range, or what the ranks hold does not make whole
            tensors; nothing is then written.
        OSError: If a rank cannot write; the earlier checkpoints are then untouched.

    Examples:
        >>> import tempfile
        >>> from stormda.parallel import Mesh, launch, module_parts, open_parts
        >>> mesh = launch(Mesh({"replica": 1}), environment={})
        >>> net = torch.nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = save_parts(directory, 10, module_parts(net), {"seed": 7}, mesh=mesh)
        ...     checkpoint = open_parts(directory)
        ...     checkpoint.step, checkpoint.state, checkpoint.tensor("weight").shape
        (10, {'seed': 7}, torch.Size([2, 3]))
    """
    return start_saving(directory, step, parts, state, metadata, mesh=mesh, keep=keep).finish()


def start_saving(
    directory: str | Path,
    step: int,
    parts: Mapping[str, Part],
    state: object = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    mesh: StartedMesh,
    keep: int = 3,
) -> PendingCheckpoint:
    """Begin to write a checkpoint; the run may go on and change its tensors while it is written.

    Numbers are copied and compared before this returns, and written by a thread that talks to no
    other rank. The checkpoint counts once `finish` was called on every rank.

    Args:
        directory: As of `save_parts`, like all the other arguments.
        step: See there.
        parts: See there.
        state: See there.
        metadata: See there.
        mesh: See there.
        keep: See there.

    Raises:
        ValueError: As `save_parts` does.
    """
    if step < 0:
        raise ValueError(f"step: expected 0 or more, got {step}")
    if keep < 1:
        raise ValueError(f"keep: expected at least 1, got {keep}")
    document, tensors = flatten_state(state)
    held = {**parts, **{f"{STATE}{name}": whole(x) for name, x in tensors.items()}}
    plan = plan_writing(held, mesh)
    text = _index(step, plan, document, dict(metadata or {}))
    if mesh.rank == 0:
        prepare(Path(directory), step)
    mesh.world.barrier()
    return PendingCheckpoint(Path(directory), step, plan, text, mesh, keep)


class PendingCheckpoint:
    """A checkpoint that is being written; made by `start_saving`."""

    def __init__(
        self, directory: Path, step: int, plan: Plan, text: str, mesh: StartedMesh, keep: int
    ) -> None:
        self.directory, self.step, self._keep = directory, step, keep
        self._mesh, self._writers, self._text = mesh, plan.writers, text
        self._writing: Future[dict[str, Any]] | None = None
        if plan.writers is not None:
            kept = {name: packed(part.data).clone() for name, part in plan.own.items()}
            file = temporary_folder(directory, step) / file_name(plan.writers.rank)
            thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
            self._writing = thread.submit(_write, file, kept)
            thread.shutdown(wait=False)

    def written(self) -> bool:
        """Return whether all ranks have written their part, so that `finish` would not wait."""
        busy = self._writing is not None and not self._writing.done()
        return not self._sum(int(busy))

    def finish(self) -> Path:
        """Wait for all ranks, then give the checkpoint its name; all ranks call this together.

        Raises:
            OSError: If a rank could not write.
        """
        error = self._writing.exception() if self._writing is not None else None
        failed = self._sum(int(error is not None))
        if failed:
            raise OSError(
                f"directory: expected to write step {self.step} into {self.directory}, got "
                f"failures on {failed} ranks"
            ) from error
        if self._writers is not None and self._writing is not None:
            entries = gather_texts(self._writers, json.dumps(self._writing.result()))
            if self._mesh.rank == 0:
                self._publish(entries)
        self._mesh.world.barrier()
        return self.directory / folder_name(self.step)

    def _publish(self, entries: list[str]) -> None:
        folder = temporary_folder(self.directory, self.step)
        (folder / INDEX).write_text(self._text, encoding="utf-8")
        described = {INDEX: describe(folder / INDEX)}
        described |= {file_name(i): json.loads(entry) for i, entry in enumerate(entries)}
        write_entries(folder, described)
        publish(self.directory, self.step, self._keep)

    def _sum(self, number: int) -> int:
        world = self._mesh.world
        return int(world.all_reduce(torch.tensor(number, device=world.device)))


def _write(path: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    write_tensors(path, tensors)
    return describe(path)


def _index(step: int, plan: Plan, document: object, metadata: dict[str, Any]) -> str:
    try:
        json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata: expected values that JSON can hold, got {error}") from None
    content = {"format": FORMAT, "step": step, "metadata": metadata, "state": document}
    return json.dumps({**content, "tensors": plan.index}, indent=1)
