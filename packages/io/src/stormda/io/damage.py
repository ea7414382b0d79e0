"""What goes wrong inside the readers of damaged files, as one kind of error that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reported_as_damage(where: str) -> Iterator[None]:
    """Turn whatever a block of reading raises into a `ValueError` that names the place.

    The libraries raise many kinds of errors for damaged bytes, so only calls to them belong in
    such a block.

    Args:
        where: The file, or the variable in it.

    Raises:
        ValueError: If the block raises anything.

    Examples:
        >>> with reported_as_damage("a.nc"):
        ...     {}["ObsValue"]
        Traceback (most recent call last):
        ValueError: a.nc: expected readable values, got truncated or damaged ones ('ObsValue')
    """
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{where}: expected readable values, got truncated or damaged ones ({error})"
        ) from error
