"""What a command says, and where: results on stdout, everything else on stderr and in a log file.

| | stdout | stderr | log file |
|---|---|---|---|
| by default | settings, results | notes, progress | all with times, tracebacks |
| `--quiet` | results | errors | the same |
| `--verbose` | settings, results | notes, progress, details, tracebacks | the same |
| `--json` | one JSON object | notes, progress | the same |

Progress is a bar on a terminal and, into a pipe or a file, a line at every tenth of the way.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import click

LOG = logging.getLogger("stormda")
"""What every command says beside its results."""

SHARES = 10
"""Lines of progress that a whole run puts into a pipe."""


class _Stderr(logging.Handler):
    """Messages without decoration, on the stderr of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


@contextmanager
def reporting(
    *, quiet: bool = False, verbose: bool = False, file: Path | None = None
) -> Iterator[None]:
    """Send the messages of `LOG` to stderr and, if asked for, to a file; undone at the end.

    Args:
        quiet: Errors only on stderr.
        verbose: Details and tracebacks on stderr.
        file: Gets everything, appended, with times.

    Raises:
        ValueError: Where both `quiet` and `verbose` are given.
    """
    if quiet and verbose:
        raise ValueError("--quiet, --verbose: expected one of them, got both")
    screen = _Stderr(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    handlers: list[logging.Handler] = [screen]
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before, LOG.level = LOG.level, logging.DEBUG
    LOG.propagate, handed_on = False, LOG.propagate
    for handler in handlers:
        LOG.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOG.removeHandler(handler)
            handler.close()
        LOG.setLevel(before)
        LOG.propagate = handed_on


def note(text: str) -> None:
    """Say something that is no result."""
    LOG.info(text)


def result(text: str, values: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what a command found: as text for people or as one JSON object for scripts.

    Args:
        text: For people.
        values: The same for scripts; paths and times become texts.
        as_json: Which of them.

    Examples:
        >>> result("2 cycles", {"cycles": 2, "out": Path("an.nc")}, as_json=True)
        {"cycles": 2, "out": "an.nc"}
    """
    click.echo(json.dumps(values, default=str) if as_json else text)


class Steps:
    """Progress through a number of steps; a context manager.

    Args:
        total: How many there are.
        unit: What they are called.
        shown: Whether this process is the one that tells.
    """

    def __init__(self, total: int, unit: str, *, shown: bool = True) -> None:
        self.total, self.unit, self.shown, self.done = total, unit, shown, 0
        self._bar: Any = None

    def __enter__(self) -> Steps:
        quiet = all(handler.level > logging.INFO for handler in LOG.handlers)
        if self.shown and not quiet and sys.stderr.isatty():
            from tqdm import tqdm  # type: ignore[import-untyped]

            self._bar = tqdm(total=self.total, unit=self.unit, dynamic_ncols=True, mininterval=1.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def to(self, done: int, what: str = "", *, total: int | None = None) -> None:
        """Say that `done` steps are finished.

        Args:
            done: Steps so far.
            what: What is going on.
            total: How many there are, where that has become known.
        """
        self.total = self.total if total is None else total
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(what, refresh=False)
            self._bar.update(done - self._bar.n)
        elif self.shown and SHARES * done // self.total > SHARES * self.done // self.total:
            note(f"{self.unit} {done} of {self.total} {what}".rstrip())
        self.done = done
