"""Who writes which part of a checkpoint, agreed by all ranks, and refused where they disagree.

Along every axis of the mesh the ranks compare what parts they have. Where that is the same on
all of them the axis holds copies: their numbers are compared too, and one of them writes. Along
the other axes the ranks show each other their parts: those of one name must tile the whole, and
a part that several ranks have must be the same numbers. So a shard that poses as a whole tensor
(the same name and shape, other numbers on every rank), parts that overlap or leave a gap, and
parts that nobody knows of cannot be saved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from stormda.parallel.communicator import Communicator
from stormda.parallel.launch import StartedMesh
from stormda.parallel.layout import Part, check_cover
from stormda.parallel.tensor_file import bytes_of, packed

Place = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all ranks agreed on."""

    index: dict[str, Any]
    """Of every tensor: dtype, shape, and its parts: file, start and shape."""

    own: dict[str, Part]
    """What this rank writes."""

    writers: Communicator | None
    """The ranks that write, if this is one of them; its first rank is rank 0 of the mesh."""


def file_name(writer: int) -> str:
    """Return the name of the file of a writer.

    Examples:
        >>> file_name(3)
        'tensors-00003.safetensors'
    """
    return f"tensors-{writer:05d}.safetensors"


def plan_writing(parts: Mapping[str, Part], mesh: StartedMesh) -> Plan:
    """Agree on who writes what.

    Args:
        parts: What this rank holds, by name.
        mesh: The ranks, all of which call this together.

    Raises:
        ValueError: On every rank, if what the ranks hold does not make whole tensors.
    """
    table = _table(parts)
    varying = _varying_axes(table, mesh)
    _refuse_different_copies(table, mesh, varying)
    comm = mesh.comm(*varying)
    tables = [json.loads(text) for text in gather_texts(comm, json.dumps(table))]
    index, writes = _assign(tables)
    own = {name: parts[name] for name in writes[comm.rank]}
    first = all(mesh.coordinate(name) == 0 for name in mesh.mesh.names if name not in varying)
    return Plan(index=index, own=own if first else {}, writers=comm if first else None)


def gather_texts(comm: Communicator, text: str) -> list[str]:
    """Return every rank's text.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> gather_texts(SelfComm(), "here")
        ['here']
    """
    own = torch.tensor(list(text.encode()), dtype=torch.uint8, device=comm.device)
    lengths = comm.all_gather(torch.tensor([len(own)], device=comm.device)).tolist()
    joined = comm.all_gather(own, sizes=lengths)
    return [bytes(part.tolist()).decode() for part in joined.split_with_sizes(lengths)]


def _table(parts: Mapping[str, Part]) -> list[Any]:
    """Return name, dtype, shape, place and digest of every part that is not empty."""
    rows = []
    for name, part in sorted(parts.items()):
        if part.data.numel() == 0 and prod(part.shape) > 0:
            continue
        own = packed(part.data)
        digest = hashlib.sha256(bytes_of(own)).hexdigest()[:32]
        place = [[a, a + n] for a, n in zip(part.start, own.shape, strict=True)]
        dtype = str(own.dtype).removeprefix("torch.")
        rows.append([name, dtype, list(part.shape), place, digest])
    return rows


def _varying_axes(table: list[Any], mesh: StartedMesh) -> tuple[str, ...]:
    """Return the axes along which, somewhere in the mesh, ranks have different parts."""
    number = _number(json.dumps([row[:4] for row in table]))
    return tuple(name for name in _large(mesh) if _anywhere(_differs(number, mesh, name), mesh))


def _refuse_different_copies(
    table: list[Any], mesh: StartedMesh, varying: tuple[str, ...]
) -> None:
    for axis in _large(mesh):
        if axis in varying:
            continue
        differs = _differs(_number(json.dumps(table)), mesh, axis)
        if _anywhere(differs, mesh):
            numbers = [_number(row[4]) for row in table]
            comm = mesh.comm(axis)
            rows = comm.all_gather(torch.tensor([numbers], device=comm.device))
            wrong = [r[0] for r, c in zip(table, rows.T.tolist(), strict=True) if len(set(c)) > 1]
            raise ValueError(_disagreement(wrong[0] if wrong else "", f"along axis {axis!r}"))


def _assign(tables: list[list[Any]]) -> tuple[dict[str, Any], list[set[str]]]:
    """Return the index, and of every rank which of its parts it writes."""
    holders: dict[str, dict[Place, list[int]]] = {}
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    digests: dict[tuple[str, Place], str] = {}
    for rank, table in enumerate(tables):
        for name, dtype, shape, sides, digest in table:
            place = tuple((a, b) for a, b in sides)
            if kinds.setdefault(name, (dtype, tuple(shape))) != (dtype, tuple(shape)):
                raise ValueError(
                    f"parts: expected one dtype and shape of {name!r} on all ranks, got "
                    f"{kinds[name]} and {(dtype, tuple(shape))}"
                )
            if digests.setdefault((name, place), digest) != digest:
                raise ValueError(_disagreement(name, f"on rank {rank} and another"))
            holders.setdefault(name, {}).setdefault(place, []).append(rank)
    loads = [0] * len(tables)
    index: dict[str, Any] = {}
    writes: list[set[str]] = [set() for _ in tables]
    for name, places in sorted(holders.items()):
        dtype, shape = kinds[name]
        check_cover(name, shape, [tuple(slice(a, b) for a, b in place) for place in places])
        entries = []
        for place, ranks in sorted(places.items()):
            writer = min(ranks, key=lambda rank: loads[rank])
            loads[writer] += prod(b - a for a, b in place)
            writes[writer].add(name)
            start, size = [a for a, _ in place], [b - a for a, b in place]
            entries.append({"file": file_name(writer), "start": start, "shape": size})
        index[name] = {"dtype": dtype, "shape": list(shape), "parts": entries}
    return index, writes


def _disagreement(name: str, where: str) -> str:
    return (
        f"parts: expected the same numbers on all ranks that hold the same part, got different "
        f"ones of {name!r} {where}; a layer that cuts a parameter says so in `splits`"
    )


def _large(mesh: StartedMesh) -> tuple[str, ...]:
    return mesh.mesh.canonical(mesh.mesh.names)


def _differs(number: int, mesh: StartedMesh, axis: str) -> bool:
    comm = mesh.comm(axis)
    numbers = comm.all_gather(torch.tensor([number], device=comm.device)).tolist()
    return len(set(numbers)) > 1


def _anywhere(here: bool, mesh: StartedMesh) -> bool:
    return bool(mesh.world.all_reduce(torch.tensor(int(here), device=mesh.world.device)))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
