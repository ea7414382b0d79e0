"""Reading a checkpoint of parts: every rank fetches the boxes it wants, whoever wrote them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from stormda.parallel.communicator import Communicator, SelfComm
from stormda.parallel.directory import folders, latest_step, listed
from stormda.parallel.layout import Part, check_cover
from stormda.parallel.manifest import DamagedCheckpoint, read_entries, verify_entries
from stormda.parallel.parts_writing import FORMAT, INDEX, STATE
from stormda.parallel.state import restore_state
from stormda.parallel.tensor_file import write_tensors


@dataclass(frozen=True, kw_only=True)
class PartsCheckpoint:
    """A verified checkpoint, from which tensors are read in whole or in part."""

    step: int
    """The step after which it was saved."""

    state: Any
    """What all ranks held alike."""

    metadata: dict[str, Any]
    """What the caller said about the run."""

    index: dict[str, Any]
    """Of every tensor: dtype, shape and parts."""

    folder: Path
    """Where it lies."""

    def fill(self, parts: Mapping[str, Part]) -> None:
        """Overwrite parts with what was saved in their places.

        Args:
            parts: What this rank holds now, by name: on any mesh, cut in any way.

        Raises:
            ValueError: If a tensor is not in the checkpoint, or of another shape or dtype.
        """
        for name, part in parts.items():
            entry = self._entry(name)
            kind = str(part.data.dtype).removeprefix("torch."), tuple(part.shape)
            if kind != (entry["dtype"], tuple(entry["shape"])):
                raise ValueError(
                    f"parts: expected {name!r} as {entry['dtype']} of shape "
                    f"{tuple(entry['shape'])}, got {kind[0]} of shape {kind[1]}"
                )
            with torch.no_grad():
                part.data.copy_(self._box(name, part.box))

    def tensor(self, name: str) -> Tensor:
        """Return a whole tensor, on the CPU.

        Raises:
            ValueError: If it is not in the checkpoint.
        """
        return self._box(name, tuple(slice(0, n) for n in self._entry(name)["shape"]))

    def export(self, path: str | Path, prefix: str = "net/") -> None:
        """Write whole tensors into one safetensors file, for those who have no mesh.

        Args:
            path: The file; it is written aside and renamed.
            prefix: Which tensors: those whose names begin so, which the file leaves out.

        Raises:
            ValueError: If there are none.
        """
        names = [name for name in self.index if name.startswith(prefix)]
        if not names:
            raise ValueError(f"prefix: expected the beginning of a name, got {prefix!r}")
        aside = Path(path).with_name(f"{Path(path).name}.tmp")
        write_tensors(aside, {name.removeprefix(prefix): self.tensor(name) for name in names})
        aside.replace(path)

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.index:
            raise ValueError(f"parts: expected tensors of {self.folder}, got {name!r}")
        entry: dict[str, Any] = self.index[name]
        return entry

    def _box(self, name: str, box: tuple[slice, ...]) -> Tensor:
        """Return a box of a tensor, put together from the files that hold some of it."""
        entry = self._entry(name)
        found = torch.empty([s.stop - s.start for s in box], dtype=getattr(torch, entry["dtype"]))
        for saved in entry["parts"]:
            here, there = _overlap(box, saved)
            if all(side.start < side.stop for side in here):
                with safe_open(self.folder / saved["file"], framework="pt") as file:
                    found[here] = file.get_slice(name)[there] if there else file.get_tensor(name)
        return found


def open_parts(
    directory: str | Path,
    step: int | None = None,
    *,
    comm: Communicator | None = None,
    fallback: bool = False,
) -> PartsCheckpoint:
    """Open a checkpoint after checking every byte of it, each rank a share of the files.

    Args:
        directory: The folder of all checkpoints of the run.
        step: Which one; None for the one that was saved last.
        comm: The ranks that call this together, or None for one process.
        fallback: Whether, if that one is damaged, to warn and open the newest intact one before
            it instead of raising.

    Raises:
        FileNotFoundError: If the directory holds no checkpoint.
        ValueError: If it holds none of that step, or one of another format.
        DamagedCheckpoint: On every rank, if a file is missing, truncated or altered.

    Examples:
        >>> import tempfile
        >>> from stormda.parallel import Mesh, launch, module_parts, save_parts
        >>> mesh, net = launch(Mesh({"replica": 1}), environment={}), torch.nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     for step in (10, 20):
        ...         _ = save_parts(directory, step, module_parts(net), mesh=mesh)
        ...     open_parts(directory).step, open_parts(directory, 10).step
        (20, 10)
    """
    comm = comm or SelfComm()
    found = folders(Path(directory))
    if not found:
        raise FileNotFoundError(f"directory: expected checkpoints in {directory}, got none")
    if step is not None and step not in found:
        raise ValueError(f"step: expected one of {listed(found)}, got {step}")
    newest = _newest(Path(directory), found, fallback) if step is None else step
    tried = [other for other in found if other <= newest][::-1] if fallback else [newest]
    for candidate in tried:
        try:
            return _opened(found[candidate], comm)
        except DamagedCheckpoint as damage:
            if candidate == tried[-1]:
                raise
            warnings.warn(f"{damage}; falling back to an earlier step", stacklevel=2)
    raise AssertionError("unreachable: the last candidate returns or raises")


def fill_from_file(path: str | Path, parts: Mapping[str, Part]) -> None:
    """Overwrite parts with whole tensors of one safetensors file, each rank reading its own.

    Args:
        path: The file, such as `PartsCheckpoint.export` writes.
        parts: What this rank holds, by name.

    Raises:
        ValueError: If the file has no tensor of that name, or one of another shape or dtype.

    Examples:
        >>> import tempfile
        >>> from stormda.parallel import module_parts
        >>> from stormda.parallel.tensor_file import write_tensors
        >>> net = torch.nn.Linear(3, 2, bias=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tensors(Path(folder, "net.safetensors"), {"weight": torch.ones(2, 3)})
        ...     fill_from_file(Path(folder, "net.safetensors"), module_parts(net))
        >>> net.weight.data
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        for name, part in parts.items():
            if name not in names:
                raise ValueError(f"parts: expected tensors of {path}, got {name!r}")
            stored = file.get_slice(name)
            if tuple(stored.get_shape()) != part.shape:
                raise ValueError(
                    f"parts: expected {name!r} of shape {tuple(stored.get_shape())}, "
                    f"got {part.shape}"
                )
            values = stored[part.box] if part.shape else file.get_tensor(name)
            if values.dtype != part.data.dtype:
                raise ValueError(
                    f"parts: expected {name!r} as {values.dtype}, got {part.data.dtype}"
                )
            with torch.no_grad():
                part.data.copy_(values)


def _newest(directory: Path, found: dict[int, Path], fallback: bool) -> int:
    """Return the step that was saved last; where that is not known and may not matter, the top."""
    try:
        return latest_step(directory, found)
    except DamagedCheckpoint:
        if not fallback:
            raise
        return max(found)


def _opened(folder: Path, comm: Communicator) -> PartsCheckpoint:
    _verify(folder, comm)
    header = json.loads((folder / INDEX).read_bytes())
    if header["format"] != FORMAT:
        raise ValueError(f"{folder}: expected format {FORMAT}, got {header['format']}")
    index = header["tensors"]
    for name, entry in index.items():
        boxes = [_box_of(saved) for saved in entry["parts"]]
        check_cover(f"{folder}: {name}", entry["shape"], boxes)
    bare = PartsCheckpoint(
        step=header["step"], state=None, metadata=header["metadata"], index=index, folder=folder
    )
    names = [name for name in index if name.startswith(STATE)]
    tensors = {name.removeprefix(STATE): bare.tensor(name) for name in names}
    state = restore_state(header["state"], tensors)
    return PartsCheckpoint(
        step=bare.step, state=state, metadata=bare.metadata, index=index, folder=folder
    )


def _verify(folder: Path, comm: Communicator) -> None:
    """Check a share of the files on every rank, and fail on all if any is damaged."""
    damage: DamagedCheckpoint | None = None
    try:
        entries = read_entries(folder)
        if INDEX not in entries:
            raise ValueError(f"{folder}: expected format {FORMAT}, got no {INDEX}")
        names = sorted(entries)[comm.rank :: comm.size]
        verify_entries(folder, {name: entries[name] for name in names})
    except DamagedCheckpoint as error:
        damage = error
    failed = comm.all_reduce(torch.tensor(int(damage is not None), device=comm.device))
    if damage is not None:
        raise damage
    if failed:
        raise DamagedCheckpoint(f"{folder}: expected intact files, got damage seen by other ranks")


def _overlap(
    box: tuple[slice, ...], saved: dict[str, Any]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where a saved part lies in a box, and where the box lies in the saved part."""
    here, there = [], []
    for side, other in zip(box, _box_of(saved), strict=True):
        first, last = max(side.start, other.start), min(side.stop, other.stop)
        here.append(slice(first - side.start, last - side.start))
        there.append(slice(first - other.start, last - other.start))
    return tuple(here), tuple(there)


def _box_of(saved: dict[str, Any]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(saved["start"], saved["shape"], strict=True))
