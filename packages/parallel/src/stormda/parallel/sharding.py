"""Parameters sharded over a bounded group of ranks, and gradients reduced and measured once each.

    axis      parameters                         gradients
    shard     FSDP2: each rank keeps 1/size      reduce-scattered, inside the backward pass
    replica, member, lat, lon   copies           all-reduced (FSDP2 does it for what it shards)
    tensor    cut by the layers, else copies     whole already: `copy_in` has summed them

The loss of a rank is its local sum over the GLOBAL count, so gradients are summed, never
averaged. The size of the shard axis bounds the group over which parameters are gathered (HSDP):
that group, not the number of ranks, sets the latency of every layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from stormda.parallel.communicator import Communicator
from stormda.parallel.gradients import sum_gradients
from stormda.parallel.heads import held_parameters
from stormda.parallel.launch import StartedMesh
from stormda.parallel.layout import local_of, splits
from stormda.parallel.torch_comm import TorchComm


def shard_parameters(
    module: nn.Module,
    mesh: StartedMesh,
    *,
    blocks: Iterable[nn.Module] = (),
    compute: torch.dtype | None = None,
    axis: str = "shard",
    tensor: str = "tensor",
) -> None:
    """Let the ranks of the shard axis keep a part of every parameter each, by FSDP2.

    Every block gathers its parameters just before it runs. Where the axis is of size 1, or not
    in the mesh, nothing is done, and the same program trains with whole parameters. Parameters
    of source heads, which only some ranks hold, stay whole.

    Args:
        module: The model, the same on every rank of the axis; make the optimizer afterwards.
        mesh: The ranks.
        blocks: Its layers, from the inside out, that are gathered on their own; the rest of the
            module is gathered together.
        compute: The data type in which parameters are gathered and used, such as bfloat16; the
            shards stay what they are, and gradients of 16 bits are summed in float32.
        axis: The axis over which parameters are sharded.
        tensor: The axis over which layers are cut; all other axes hold copies.

    Raises:
        ValueError: If the communicator of the axis is not one of torch.distributed.
    """
    if axis not in mesh.mesh.names or mesh.size(axis) == 1:
        return
    copies = [name for name in mesh.mesh.names if name not in (axis, tensor)]
    wide = None if compute is None else torch.float32
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=wide)
    held = {module.get_parameter(name) for name in held_parameters(module)}
    devices = _device_mesh(mesh, axis, copies)
    for part in (*blocks, module):
        fully_shard(part, mesh=devices, mp_policy=policy, ignored_params=held)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sums


def reduce_gradients(module: nn.Module, mesh: StartedMesh, *, tensor: str = "tensor") -> None:
    """Sum every gradient over the ranks whose losses add up, wherever that was not done yet.

    FSDP2 has summed those of the parameters that it shards; a head is summed over its holders
    only.

    Args:
        module: The model, after the backward pass.
        mesh: The ranks; the losses of all axes but `tensor` add up.
        tensor: The axis over which layers are cut.

    Examples:
        >>> from stormda.parallel import Mesh, launch
        >>> net = nn.Linear(2, 1)
        >>> net(torch.ones(1, 2)).sum().backward()
        >>> reduce_gradients(net, launch(Mesh({"replica": 1}), environment={}))
        >>> net.weight.grad
        tensor([[1., 1.]])
    """
    axes = [name for name in mesh.mesh.names if name != tensor]
    held = held_parameters(module)
    parameters = {n: p for n, p in module.named_parameters() if not isinstance(p, DTensor)}
    shared = [p for name, p in parameters.items() if name not in held]
    sum_gradients(shared, mesh.comm(*axes))
    for holders in dict.fromkeys(held.values()):
        own = [p for name, p in parameters.items() if held.get(name) is holders]
        sum_gradients(own, holders.comm)
        sum_gradients(own, mesh.comm(*(name for name in axes if name != holders.axis)))


def whole_gradient_norm(module: nn.Module, mesh: StartedMesh, *, axis: str = "shard") -> Tensor:
    """Return the norm of the whole gradient, every element counted once on any mesh.

    Copies count once; shards, what layers have cut, and heads are summed over those who hold
    them. The result is the same bits on every rank. Ranks may hold other heads than others do:
    what is summed over which axis is asked of the mesh, never of the parameters at hand.

    Args:
        module: The model, its gradients reduced.
        mesh: The ranks.
        axis: The axis over which FSDP2 shards.

    Returns:
        A scalar of 32 or 64 bits.

    Raises:
        ValueError: If a layer was cut over ranks that are not those of some axes of the mesh.

    Examples:
        >>> from stormda.parallel import Mesh, launch
        >>> net = nn.Linear(2, 1, bias=False)
        >>> (3 * net(torch.tensor([[1.0, 0.0]]))).sum().backward()
        >>> whole_gradient_norm(net, launch(Mesh({"replica": 1}), environment={}))
        tensor(3.)
    """
    held, cut = held_parameters(module), splits(module)
    axes = mesh.mesh.canonical(mesh.mesh.names)
    flags = list(product((False, True), repeat=len(axes)))
    named = module.named_parameters()
    present = [(name, p, p.grad) for name, p in named if p.grad is not None]
    squares = torch.zeros(len(flags), dtype=_widest(p for _, p, _ in present), device=mesh.device)
    for name, p, gradient in present:
        if name in held and held[name].comm.rank > 0:
            continue
        over = {axis} if isinstance(p, DTensor) else set()
        over |= set(_axes_of(cut[name].comm, mesh)) if name in cut else set()
        over |= {held[name].axis} if name in held else set()
        norm = torch.linalg.vector_norm(local_of(gradient), dtype=squares.dtype)
        squares[flags.index(tuple(name in over for name in axes))] += norm.square()
    for i, name in enumerate(axes):
        summed = [flag[i] for flag in flags]
        squares[summed] = mesh.comm(name).all_reduce(squares[summed])
    return squares.sum().sqrt()


def _axes_of(comm: Communicator, mesh: StartedMesh) -> tuple[str, ...]:
    """Return the axes along which the ranks of a communicator differ."""
    if comm.size == 1:
        return ()
    for axes in mesh.mesh.subsets():
        if mesh.comm(*axes) is comm:
            return axes
    raise ValueError("module: expected layers cut over axes of the mesh, got one cut over others")


def _widest(parameters: Iterable[Tensor]) -> torch.dtype:
    dtype = torch.float32
    for p in parameters:
        dtype = torch.promote_types(dtype, p.dtype)
    return dtype


def _device_mesh(mesh: StartedMesh, axis: str, copies: Sequence[str]) -> DeviceMesh:
    """Return the ranks that hold copies or shards of this rank's parameters, as (copies, shards).

    It is made of the groups that the mesh has already.
    """
    groups = [_process_group(mesh, axis)]
    ranks = [mesh.mesh.group(mesh.rank, axis)]
    names = [axis]
    if mesh.mesh.canonical(tuple(copies)):
        firsts = mesh.mesh.group(mesh.rank, *copies)
        groups = [_process_group(mesh, *copies), *groups]
        ranks = [mesh.mesh.group(rank, axis) for rank in firsts]
        names = ["copies", *names]
    layout = torch.tensor(ranks).view([dist.get_world_size(group) for group in groups])
    return DeviceMesh.from_group(
        groups, mesh.device.type, mesh=layout, mesh_dim_names=tuple(names)
    )


def _process_group(mesh: StartedMesh, *axes: str) -> dist.ProcessGroup:
    comm = mesh.comm(*axes)
    if not isinstance(comm, TorchComm):
        raise ValueError(
            f"mesh: expected communicators of torch.distributed where parameters are sharded over "
            f"{axes[0]!r}, got {type(comm).__name__}"
        )
    return comm.group
