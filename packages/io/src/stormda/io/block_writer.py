"""Long runs of bytes, written past the page cache while the next are made.

A copy in the page cache costs the processor as much as a fast disk takes to write it, and is only
on the way to the disk when the file is flushed. Here whole blocks go straight to the disk, from a
thread of their own. The ends of a run, which fill no page, and short runs go the usual way.

That is for a disk of this machine: the file system of a network, or of memory, is left its cache.
"""

from __future__ import annotations

import errno
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

PAGE = 4096
"""Bytes to which a disk is written: the least common multiple of all in use."""

BLOCK = 2**22
"""Bytes that are written together: large pages, which the disk takes in one piece."""

_BLOCKS = 3
"""Blocks in memory: one that is filled, one that is written, and one between."""

_SHORT = 2**18
"""Bytes of a run that are not worth a way of their own."""


class BlockWriter:
    """Writes to places of an open file, in any order; quickly where one follows the other."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Open it a second time.

        Args:
            path: The file.
            descriptor: Where it is open for writing.

        Raises:
            OSError: If the file system knows no other way than through its cache.
        """
        self._descriptor = descriptor
        self._closing = ExitStack()
        self._direct = os.open(path, os.O_WRONLY | os.O_DIRECT)
        self._closing.callback(os.close, self._direct)
        self._thread = self._closing.enter_context(ThreadPoolExecutor(1))
        self._written: list[Future[mmap.mmap]] = []
        self._blocks = 0
        self._block: mmap.mmap | None = None
        self._start = self._end = -1
        self._top = 0

    def write(self, data: memoryview, place: int) -> None:
        """Take bytes, which are written by the time that `wait` returns.

        Args:
            data: The bytes, at least a page of them.
            place: Where they begin in the file.

        Raises:
            OSError: If they, or earlier ones, cannot be written.
        """
        if place < self._top and place != self._end:
            self.wait()  # an older block must not land on it
        if place != self._end:
            self._end_run()
            head = -place % PAGE
            _write_all(self._descriptor, data[:head], place)
            data, self._start = data[head:], place + head
            self._end = self._start
        while len(data):
            block = self._block = self._block or self._free_block()
            filled = self._end - self._start
            some = data[: BLOCK - filled]
            block[filled : filled + len(some)] = some
            data, self._end = data[len(some) :], self._end + len(some)
            if self._end - self._start == BLOCK:
                self._submit(block, BLOCK)
                self._block, self._start = None, self._end
        self._top = max(self._top, self._end)

    def wait(self) -> None:
        """Wait until all bytes are written.

        Raises:
            OSError: If some cannot be.
        """
        self._end_run()
        self._top = 0
        while self._written:
            self._written.pop(0).result()
            self._blocks -= 1

    def close(self) -> None:
        """Let go of the file."""
        self._closing.close()

    def _end_run(self) -> None:
        """Write what is left of a run."""
        block, filled = self._block, self._end - self._start
        self._block, self._end = None, -1
        if block is None:
            return
        whole = filled // PAGE * PAGE if filled >= _SHORT else 0
        _write_all(self._descriptor, memoryview(block)[whole:filled], self._start + whole)
        self._submit(block, whole)

    def _free_block(self) -> mmap.mmap:
        """Return memory that begins with a page, waiting for it where all is in use."""
        if self._blocks < _BLOCKS:
            self._blocks += 1
            block = mmap.mmap(-1, BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with suppress(AttributeError, OSError):  # not every system has large pages
                block.madvise(mmap.MADV_HUGEPAGE)
            return block
        return self._written.pop(0).result()

    def _submit(self, block: mmap.mmap, size: int) -> None:
        self._written.append(self._thread.submit(self._write_block, block, size, self._start))

    def _write_block(self, block: mmap.mmap, size: int, place: int) -> mmap.mmap:
        data, done = memoryview(block)[:size], 0
        try:
            done = os.pwrite(self._direct, data, place) if size else 0
        except OSError as error:
            if error.errno != errno.EINVAL:  # which says that this disk wants another alignment
                raise
        _write_all(self._descriptor, data[done:], place + done)
        return block


def block_writer(path: Path, descriptor: int) -> BlockWriter | None:
    """Return what writes to an open file past the page cache; None where that is no gain.

    Args:
        path: The file.
        descriptor: Where it is open for writing.
    """
    if not hasattr(os, "O_DIRECT") or not os.major(os.fstat(descriptor).st_dev):
        return None
    try:
        return BlockWriter(path, descriptor)
    except OSError:
        return None


def _write_all(descriptor: int, data: memoryview, place: int) -> None:
    while len(data):
        done = os.pwrite(descriptor, data, place)
        data, place = data[done:], place + done
