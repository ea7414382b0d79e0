"""The members of an ensemble that a process samples, where several share them.

Every process knows the past of all members and expects and checks the same; the costly part, the
sampling of the present, it does for its own members. The noise of a member is a function of the
seed, the cycle and its number, so that the ensemble is the same on any number of processes but for
rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from stormda.parallel import Communicator, SelfComm, balanced_sizes, members


@dataclass(frozen=True)
class EnsembleShare:
    """Which members are whose.

    Examples:
        >>> import torch
        >>> share = EnsembleShare(3)
        >>> share.own, share.everybody(torch.ones(3, 2)).shape
        ([0, 1, 2], torch.Size([3, 2]))
    """

    total: int
    """Size of the ensemble."""

    comm: Communicator = field(default_factory=SelfComm)
    """The processes that share it."""

    def __post_init__(self) -> None:
        """Check that no process is idle.

        Raises:
            ValueError: If there are fewer members than processes.
        """
        if self.total < self.comm.size:
            raise ValueError(
                f"members: expected at least {self.comm.size}, one for each process, "
                f"got {self.total}"
            )

    @property
    def own(self) -> list[int]:
        """Return the numbers of this process's members."""
        return list(members(self.total, self.comm))

    def everybody(self, x: Tensor) -> Tensor:
        """Return what everybody has of their members (own, ...), in the order of the members."""
        return self.comm.gather(x, sizes=balanced_sizes(self.total, self.comm.size))

    def mean(self, own: Tensor) -> Tensor:
        """Return the mean over all members of what is the mean over own ones."""
        return self.comm.all_reduce(own * (len(self.own) / self.total))
