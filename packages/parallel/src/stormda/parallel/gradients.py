"""Data-parallel training: one model on every rank, each with its part of the batch.

The loss of a rank is the sum over its samples divided by the GLOBAL number of samples; the sum of
the ranks' gradients is then the gradient of the mean over the batch, however unevenly the samples
are shared out (an average of averages is not).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from stormda.parallel.communicator import Communicator
from stormda.parallel.layout import local_of
from stormda.parallel.tensor_file import bytes_of, packed

_BUCKET_BYTES = 32 * 2**20


def sum_gradients(parameters: Iterable[Tensor], comm: Communicator) -> None:
    """Replace every gradient by its sum over the ranks, the same bits on all of them.

    Gradients travel in flat buckets, in the order of the parameters; those of 16 bits are summed
    in 32. A parameter that got no gradient on some rank counts as zero there; one that got none
    anywhere keeps none, as in a serial run.

    Args:
        parameters: The same on every rank, in the same order.
        comm: The ranks that share the batch.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> weight = torch.ones(2, requires_grad=True)
        >>> weight.sum().backward()
        >>> sum_gradients([weight], SelfComm())
        >>> weight.grad
        tensor([1., 1.])
    """
    if comm.size == 1:
        return
    gradients = [_gradient(p) for p in _with_gradient_somewhere(list(parameters), comm)]
    for bucket in _buckets(gradients):
        total = comm.all_reduce(torch.cat([g.flatten() for g in bucket]))
        _unpack(total, bucket)


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients together, a scalar of 32 or 64 bits.

    Args:
        parameters: Those without a gradient add nothing.

    Examples:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> (weight @ torch.tensor([3.0, 4.0])).backward()
        >>> gradient_norm([weight])
        tensor(5.)
    """
    gradients = [p.grad.detach() for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(g, dtype=_accumulator(g)) for g in gradients]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def clip_gradients(
    parameters: Iterable[Tensor], largest: float, *, norm: Tensor | None = None
) -> Tensor:
    """Scale all gradients so that their norm is at most `largest`, and return what it was.

    Gradients whose norm is smaller keep their bits. A norm that is not finite is returned as it
    is, and leaves gradients that are of no use.

    Args:
        parameters: Those without a gradient are left out.
        largest: The largest norm, positive.
        norm: What the norm is, where this rank holds only parts (see `whole_gradient_norm`).

    Raises:
        ValueError: If `largest` is not positive.

    Examples:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> (weight @ torch.tensor([3.0, 4.0])).backward()
        >>> clip_gradients([weight], 1.0), weight.grad
        (tensor(5.), tensor([0.6000, 0.8000]))
    """
    if not largest > 0:
        raise ValueError(f"largest: expected a positive norm, got {largest}")
    parameters = list(parameters)
    norm = gradient_norm(parameters) if norm is None else norm
    scale = (largest / norm).clamp(max=1)
    for gradient in (local_of(p.grad) for p in parameters if p.grad is not None):
        gradient.mul_(scale)
    return norm


def broadcast_parameters(module: nn.Module, comm: Communicator, *, root: int = 0) -> int:
    """Give every rank the parameters and buffers of one, and check that they arrived.

    Args:
        module: The same architecture on every rank.
        comm: The ranks.
        root: The rank whose values all get.

    Returns:
        The checksum that all ranks now have (see `parameter_checksum`).

    Raises:
        ValueError: If the ranks' modules differ in the names, shapes or dtypes of what they hold.
        RuntimeError: If values differ after the broadcast.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> module = nn.Linear(2, 1)
        >>> broadcast_parameters(module, SelfComm()) == parameter_checksum(module)
        True
    """
    if differing := _differing(_architecture(module), comm, root):
        raise ValueError(
            "module: expected the same names, shapes and dtypes on every rank, got others than "
            f"those of rank {root} on {differing}"
        )
    for bucket in _buckets(x for _, x in _values(module)):
        _unpack(comm.broadcast(torch.cat([x.flatten() for x in bucket]), root=root), bucket)
    checksum = parameter_checksum(module)
    if differing := _differing(checksum, comm, root):
        raise RuntimeError(
            f"module: expected the values of rank {root} on every rank after the broadcast, got "
            f"others on {differing}"
        )
    return checksum


def parameter_checksum(module: nn.Module) -> int:
    """Return a number of 63 bits that depends on every bit of a module's parameters and buffers.

    Examples:
        >>> module = nn.Linear(2, 1)
        >>> before = parameter_checksum(module)
        >>> with torch.no_grad():
        ...     _ = module.bias.add_(1)
        >>> before == parameter_checksum(module)
        False
    """
    digest = hashlib.sha256()
    for _, value in _values(module):
        own = packed(value)
        digest.update(bytes_of(own))
    return _number(digest)


def _with_gradient_somewhere(parameters: list[Tensor], comm: Communicator) -> list[Tensor]:
    """Return the parameters that got a gradient on any rank."""
    here = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int64)
    ranks = comm.all_reduce(here.to(comm.device)).tolist()
    return [p for p, n in zip(parameters, ranks, strict=True) if n]


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield runs of neighbours of one dtype and device, each of a limited size in bytes."""
    bucket: list[Tensor] = []
    nbytes = 0
    for tensor in tensors:
        alike = not bucket or (tensor.dtype, tensor.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and (not alike or nbytes + tensor.nbytes > _BUCKET_BYTES):
            yield bucket
            bucket, nbytes = [], 0
        bucket.append(tensor)
        nbytes += tensor.nbytes
    if bucket:
        yield bucket


def _unpack(flat: Tensor, bucket: list[Tensor]) -> None:
    """Write a flat bucket back into its tensors."""
    for tensor, part in zip(
        bucket, flat.split_with_sizes([x.numel() for x in bucket]), strict=True
    ):
        tensor.copy_(part.view(tensor.shape))


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _values(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, value in chain(module.named_parameters(), module.named_buffers()):
        yield name, value.detach()


def _architecture(module: nn.Module) -> int:
    described = [(name, tuple(x.shape), str(x.dtype)) for name, x in _values(module)]
    return _number(hashlib.sha256(repr(described).encode()))


def _number(digest: hashlib._Hash) -> int:
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def _differing(number: int, comm: Communicator, root: int) -> str:
    """Return the ranks on which a number is not what it is on the root; empty if there is none."""
    numbers = comm.all_gather(torch.tensor([number], device=comm.device)).tolist()
    others = [str(rank) for rank, other in enumerate(numbers) if other != numbers[root]]
    return f"rank {', '.join(others)}" if others else ""
