"""How a training is laid out on the axes of a mesh, and how its weights come together again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from stormda.parallel import (
    Communicator,
    PartsCheckpoint,
    StartedMesh,
    blocks_inside,
    blocks_outside,
    module_parts,
    shard_parameters,
)
from stormda.storm.network import StormNetwork

Network = TypeVar("Network", bound=nn.Module)

MESH_AXES = ("replica", "shard", "lat", "lon", "tensor")
"""The axes of a mesh that a training knows, from the outermost to the innermost."""

SAMPLING_AXES = ("member", "lat", "lon", "tensor")
"""The axes of a mesh that samples an ensemble."""

SAMPLES = ("replica", "shard")
"""The axes of a mesh that share the samples of a batch."""


def divides(mesh: StartedMesh) -> bool:
    """Return whether ranks of a mesh hold parts of fields or of parameters."""
    return any(mesh.size(axis) > 1 for axis in mesh.mesh.names if axis != "replica")


def samples_comm(mesh: StartedMesh) -> Communicator:
    """Return the ranks that share the samples of a batch."""
    return mesh.comm(*(axis for axis in SAMPLES if axis in mesh.mesh.names))


def shard_network(network: nn.Module, mesh: StartedMesh) -> None:
    """Let the ranks of the shard axis keep a part of every parameter each.

    Raises:
        ValueError: If there are such ranks and the networks are those of several sources.
    """
    if "shard" not in mesh.mesh.names or mesh.size("shard") == 1:
        return
    if not isinstance(network, StormNetwork):
        raise ValueError(
            f"mesh: expected no shard axis for several sources, got {mesh.size('shard')} ranks"
        )
    from torch.distributed.fsdp import register_fsdp_forward_method

    shard_parameters(network, mesh, blocks=network.blocks)
    register_fsdp_forward_method(network, "encode")


def forget_gathered(network: nn.Module) -> None:
    """Drop whole parameters that FSDP2 keeps after a forward pass until a backward pass."""
    reshard = getattr(network, "reshard", None)
    if reshard is not None:
        reshard()


def take_up(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a network on any mesh its part of the weights of a network of one process.

    Args:
        network: Overwritten in place.
        weights: Whole tensors of all its parameters and buffers, by name.

    Raises:
        ValueError: If a name is missing, is too many, or a tensor has another shape.
    """
    parts = module_parts(network)
    if differing := sorted(set(parts) ^ set(weights)):
        raise ValueError(f"weights: expected those of this version's network, got {differing}")
    for name, part in parts.items():
        whole = weights[name]
        if whole.ndim < len(part.shape):
            whole = blocks_inside(whole, part.shape[1])
        if tuple(whole.shape) != part.shape:
            raise ValueError(
                f"weights: expected {name} of shape {part.shape}, got {tuple(whole.shape)}"
            )
        part.data.copy_(whole[part.box])


def fill_whole(network: Network, checkpoint: PartsCheckpoint, prefix: str) -> Network:
    """Give a network of one process the weights that any mesh has saved; return it, for use.

    Args:
        network: Overwritten in place.
        checkpoint: With all its parameters.
        prefix: How their names begin there, such as `AVERAGE`.
    """
    with torch.no_grad():
        for name, p in network.named_parameters():
            saved = checkpoint.tensor(prefix + name)
            p.copy_(saved if saved.ndim == p.ndim else blocks_outside(saved))
    return network.eval().requires_grad_(False)
