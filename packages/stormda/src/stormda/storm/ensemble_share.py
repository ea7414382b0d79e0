"""The members of an ensemble that a process samples, where several share them.

Every process knows the past of all members and expects and checks the same; the costly part, the
sampling of the present, it does for its own members. The noise of a member is a function of the
seed, the cycle and its number, so that the ensemble is the same on any number of processes but for
rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stormda.io import EnsembleWriter
from stormda.parallel import Communicator, SelfComm, balanced_sizes, members
from stormda.storm.assimilation_inputs import continued_past
from stormda.storm.prior import Storm


@dataclass(frozen=True)
class EnsembleShare:
    """Which members are whose.

    Examples:
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


def begun(
    prior: Storm, writer: EnsembleWriter | None, initial: Tensor, comm: Communicator
) -> tuple[int, Tensor]:
    """Return how many cycles of a run are done, in whole windows, and every member's past then.

    Args:
        prior: For the length of a past.
        writer: Of the run, on the first process; None on the others.
        initial: The past before the first cycle, (members, history, variables, *grid.shape).
        comm: The processes that share the ensemble.
    """
    stored = 0 if writer is None else len(writer.completed())
    done = stored - stored % prior.config.targets
    done = int(comm.broadcast(torch.tensor(done, device=comm.device)))
    cycles = range(done)[-prior.config.history :]
    newest = [] if writer is None else [writer.read(cycle).fields for cycle in cycles]
    return done, comm.broadcast(continued_past(prior, initial, newest).contiguous())
