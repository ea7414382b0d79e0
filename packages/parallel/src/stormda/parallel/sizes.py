"""How a length is shared out among ranks, and the checks of what callers say about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from stormda.parallel.communicator import Communicator


def balanced_sizes(total: int, parts: int) -> list[int]:
    """Return sizes that sum to a total and differ by at most one, the larger ones first.

    Args:
        total: What is shared out, 0 or more.
        parts: Among how many, at least 1.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> balanced_sizes(8, 3)
        [3, 3, 2]
    """
    if total < 0:
        raise ValueError(f"total: expected 0 or more, got {total}")
    if parts < 1:
        raise ValueError(f"parts: expected at least 1, got {parts}")
    least, larger = divmod(total, parts)
    return [least + 1] * larger + [least] * (parts - larger)


def members(total: int, comm: Communicator) -> range:
    """Return the indices of the ensemble members that this rank computes.

    The ranks' ranges are consecutive and differ in length by at most one; where there are more
    ranks than members, some are empty.

    Args:
        total: The size of the ensemble, 0 or more.
        comm: The ranks that share it.

    Raises:
        ValueError: If `total` is negative.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> members(16, SelfComm())
        range(0, 16)
    """
    sizes = balanced_sizes(total, comm.size)
    first = sum(sizes[: comm.rank])
    return range(first, first + sizes[comm.rank])


def gathered_sizes(
    x: Tensor, comm: Communicator, dim: int, sizes: Sequence[int] | None
) -> list[int]:
    """Return the length along `dim` of every rank's part, `x` being this rank's.

    Raises:
        ValueError: If there is not one size for each rank, or this rank's is not that of `x`.

    Examples:
        >>> import torch
        >>> from stormda.parallel import SelfComm
        >>> gathered_sizes(torch.ones(4, 3), SelfComm(), 1, None)
        [3]
    """
    if sizes is None:
        return [x.shape[dim]] * comm.size
    return _own_size("sizes", sizes, comm, x.shape[dim])


def split_sizes(x: Tensor, comm: Communicator, dim: int, sizes: Sequence[int] | None) -> list[int]:
    """Return the length along `dim` of every rank's part of `x`.

    Raises:
        ValueError: If `sizes` does not fit, or is None and the ranks do not divide the length.

    Examples:
        >>> import torch
        >>> from stormda.parallel import SelfComm
        >>> split_sizes(torch.ones(4, 3), SelfComm(), 1, None)
        [3]
    """
    length = x.shape[dim]
    if sizes is not None:
        return _total_size("sizes", sizes, comm, length)
    if length % comm.size:
        raise ValueError(
            f"sizes: expected the length of every rank's part, as {comm.size} ranks do not "
            f"divide {length}, got None"
        )
    return [length // comm.size] * comm.size


def exchanged_sizes(
    x: Tensor, comm: Communicator, dim: int, sent: Sequence[int], received: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the lengths along `dim` of the parts of `x` that leave, and of those that arrive.

    Raises:
        ValueError: If they do not fit `x`, the ranks, or each other.

    Examples:
        >>> import torch
        >>> from stormda.parallel import SelfComm
        >>> exchanged_sizes(torch.ones(4, 3), SelfComm(), 1, [3], [3])
        ([3], [3])
    """
    leaving = _total_size("sent", sent, comm, x.shape[dim])
    return leaving, _own_size("received", received, comm, leaving[comm.rank])


def check_root(root: int, comm: Communicator) -> None:
    """Check that a root is one of the ranks.

    Raises:
        ValueError: If it is not.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> check_root(0, SelfComm())
    """
    if not 0 <= root < comm.size:
        raise ValueError(f"root: expected a rank from 0 to {comm.size - 1}, got {root}")


def check_subgroup(ranks: Sequence[int], comm: Communicator) -> None:
    """Check that ranks are some of a communicator's, in order, this one among them.

    Raises:
        ValueError: If they are not.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> check_subgroup([0], SelfComm())
    """
    inside = all(0 <= rank < comm.size for rank in ranks)
    if not inside or list(ranks) != sorted(set(ranks)) or comm.rank not in ranks:
        raise ValueError(
            f"ranks: expected some of 0 to {comm.size - 1} in order, {comm.rank} among them, "
            f"got {list(ranks)}"
        )


def _total_size(argument: str, sizes: Sequence[int], comm: Communicator, total: int) -> list[int]:
    if len(sizes) != comm.size or min(sizes) < 0 or sum(sizes) != total:
        raise ValueError(
            f"{argument}: expected {comm.size} lengths that sum to {total}, got {list(sizes)}"
        )
    return list(sizes)


def _own_size(argument: str, sizes: Sequence[int], comm: Communicator, own: int) -> list[int]:
    if len(sizes) != comm.size or min(sizes) < 0 or sizes[comm.rank] != own:
        raise ValueError(
            f"{argument}: expected {comm.size} lengths, that of rank {comm.rank} {own}, "
            f"got {list(sizes)}"
        )
    return list(sizes)
