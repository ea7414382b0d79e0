"""Reading ahead in one thread, never more than so many bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def prefetched(
    source: Iterator[Item], max_bytes: int, size: Callable[[Item], int]
) -> Iterator[Item]:
    """Yield the items of an iterator that a thread advances while earlier ones are in use.

    The thread waits while what it has read holds `max_bytes` or more. What it raises is raised
    here; when this iterator is closed, the thread ends.

    Args:
        source: What is read.
        max_bytes: Bytes that may wait; one item may always.
        size: The bytes of an item.

    Raises:
        ValueError: If `max_bytes` is not positive.

    Examples:
        >>> list(prefetched(iter([1, 2, 3]), max_bytes=2, size=lambda _: 1))
        [1, 2, 3]
    """
    if max_bytes < 1:
        raise ValueError(f"max_bytes: expected a positive number, got {max_bytes}")
    shelf: _Shelf[Item] = _Shelf(max_bytes, size)
    thread = threading.Thread(target=shelf.fill, args=(source,), daemon=True)
    thread.start()
    try:
        yield from shelf.drain()
    finally:
        shelf.close()
        thread.join()


class _Shelf(deque[Item]):
    """What was read and not yet used."""

    def __init__(self, max_bytes: int, size: Callable[[Item], int]) -> None:
        super().__init__()
        self._most, self._size = max_bytes, size
        self._bytes, self._done, self._closed = 0, False, False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def fill(self, source: Iterator[Item]) -> None:
        """Take all that there is, as room allows."""
        try:
            for item in source:
                with self._changed:
                    self.append(item)
                    self._bytes += self._size(item)
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._closed or self._bytes < self._most)
                    if self._closed:
                        return
        except BaseException as error:  # raised again where the items are used
            self._error = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def drain(self) -> Iterator[Item]:
        """Yield what there is, and then raise what went wrong."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self) or self._done)
                if not self:
                    break
                item = self.popleft()
                self._bytes -= self._size(item)
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread that fills."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
