"""Which of a file's variables are read, and what it means that one is not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class VariableNotFound(ValueError):
    """A variable that was asked for is not among those of a file of observations.

    Args:
        message: What was expected, what came.
        available: The names of those that are there.

    Examples:
        >>> try:
        ...     require_among(["swh"], ["hs", "wind"])
        ... except VariableNotFound as error:
        ...     print(error, error.available)
        variable: expected one of ['hs', 'wind'], got 'swh' ('hs', 'wind')
    """

    def __init__(self, message: str, available: Sequence[str]) -> None:
        super().__init__(message)
        self.available = tuple(available)


def require_among(chosen: Sequence[str] | None, names: Sequence[str], where: str = "") -> None:
    """Raise unless all that is chosen is there.

    Args:
        chosen: What shall be read; None for whatever there is.
        names: What is there.
        where: What it is in, for the message.

    Raises:
        VariableNotFound: If a name is not there.
    """
    kind = f"one of the columns of {where}," if where else "one of"
    for name in chosen or ():
        if name not in names:
            raise VariableNotFound(
                f"variable: expected {kind} {[*names]}, got {name!r}", available=names
            )


def in_file(error: ValueError, path: Path) -> ValueError:
    """Return the same error with the name of its file before it."""
    message = f"{path}: {error}"
    if isinstance(error, VariableNotFound):
        return VariableNotFound(message, error.available)
    return ValueError(message)
