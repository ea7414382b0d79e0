"""A request to stop, remembered until the loop is at a place where it can.

    with Interruption(comm) as interrupted:
        while not finished and not interrupted():
            advance()
    save()

The first SIGINT (Ctrl-C) or SIGTERM (a scheduler that wants its node back) is only noted; a second
one acts as it would have without this module.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import torch

from stormda.parallel.communicator import Communicator, SelfComm

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Turns signals into an answer that the loop asks for at every step boundary.

    Only the main thread of a process can enter it.

    Args:
        comm: The ranks that stop together, whichever of them got the signal: all of them ask at
            the same boundaries. None for one process.

    Examples:
        >>> with Interruption() as interrupted:
        ...     before = interrupted()
        ...     signal.raise_signal(signal.SIGTERM)
        ...     before, interrupted()
        (False, True)
    """

    def __init__(self, comm: Communicator | None = None) -> None:
        self._comm = comm or SelfComm()
        self._requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Return whether any rank has been asked to stop."""
        asked = torch.tensor(int(self._requested), device=self._comm.device)
        return bool(self._comm.all_reduce(asked))

    def __enter__(self) -> Interruption:
        """Start to take note of signals."""
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Let signals act as they did before."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
