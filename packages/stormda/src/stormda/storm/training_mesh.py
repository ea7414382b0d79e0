"""How a training is laid out on the axes of a mesh, and how its weights come together again."""

from __future__ import annotations

import torch

from stormda.parallel import (
    Communicator,
    PartsCheckpoint,
    StartedMesh,
    blocks_outside,
    shard_parameters,
)
from stormda.storm.network import StormNetwork

MESH_AXES = ("replica", "shard", "lat", "lon", "tensor")
"""The axes of a mesh that a training knows, from the outermost to the innermost."""

SAMPLES = ("replica", "shard")
"""The axes of a mesh that share the samples of a batch."""


def samples_comm(mesh: StartedMesh) -> Communicator:
    """Return the ranks that share the samples of a batch."""
    return mesh.comm(*(axis for axis in SAMPLES if axis in mesh.mesh.names))


def shard_network(network: StormNetwork, mesh: StartedMesh) -> None:
    """Let the ranks of the shard axis keep a part of every parameter each."""
    if "shard" not in mesh.mesh.names or mesh.size("shard") == 1:
        return
    from torch.distributed.fsdp import register_fsdp_forward_method

    shard_parameters(network, mesh, blocks=network.blocks)
    register_fsdp_forward_method(network, "encode")


def forget_gathered(network: StormNetwork) -> None:
    """Drop whole parameters that FSDP2 keeps after a forward pass until a backward pass."""
    reshard = getattr(network, "reshard", None)
    if reshard is not None:
        reshard()


def fill_whole(network: StormNetwork, checkpoint: PartsCheckpoint, prefix: str) -> StormNetwork:
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
