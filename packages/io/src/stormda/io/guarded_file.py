"""A file for HDF5 to write that fails cleanly when the disk is full.

The HDF5 library may crash the process if a write fails while it closes a file. Here it never
learns of that: the first error is kept, later writes go nowhere, and the error is raised once the
library has closed the file, which is then thrown away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType

from stormda.io.block_writer import BlockWriter, block_writer

_LONG = 2**16
"""Bytes that are worth writing in blocks."""


@contextmanager
def guarded_file(path: Path, mode: str) -> Iterator[GuardedFile]:
    """Yield a file for `h5py.File`, and raise at the end what went wrong with writing it.

    Args:
        path: The file.
        mode: `"w+b"` for a new one, `"r+b"` for one that is there.

    Raises:
        OSError: If the disk is full, or the file cannot be written.

    Examples:
        >>> import h5py, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with guarded_file(Path(folder, "a.h5"), "w+b") as raw, h5py.File(raw, "w") as file:
        ...         file["x"] = 1.0
        ...     float(h5py.File(Path(folder, "a.h5"))["x"][()])
        1.0
    """
    with GuardedFile(path, mode) as file:
        try:
            yield file
        finally:
            file.require_written()


class GuardedFile:
    """An open file that remembers its first error instead of raising it."""

    def __init__(self, path: Path, mode: str) -> None:
        self.error: OSError | None = None
        """What went wrong first; None if nothing did."""
        self._path = path
        self._raw = FileIO(path, mode)
        self._place = 0
        self._blocks: BlockWriter | None = None
        self._asked = False

    def __enter__(self) -> GuardedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._blocks is not None:
            self._blocks.close()
        self._raw.close()

    def require_written(self) -> None:
        """Raise what went wrong with writing.

        Raises:
            OSError: If the disk is full, or the file cannot be written.
        """
        self._wait()
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, also beyond the end."""
        if whence == os.SEEK_END:
            self._wait()
            offset = self._raw.seek(offset, whence)
        self._place = offset
        return offset

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return bytes of the file."""
        self._wait()
        self._raw.seek(self._place)
        found = self._raw.read(size) or b""
        self._place += len(found)
        return found

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer from the file."""
        self._wait()
        self._raw.seek(self._place)
        count = self._raw.readinto(buffer) or 0
        self._place += count
        return count

    def write(self, data: memoryview) -> int:
        """Write all of the data; after an error, nothing."""
        left = memoryview(data).cast("B")
        size, place = len(left), self._place
        self._place += size
        if self.error is not None:
            return size
        with self._noting_error():
            blocks = self._block_writer() if size >= _LONG else None
            if blocks is not None:
                blocks.write(left, place)
                return size
            self._wait()
            self._raw.seek(place)
            while len(left):
                left = left[self._raw.write(left) or 0 :]
        return size

    def truncate(self, size: int) -> int:
        """Set the size; after an error, keep it."""
        self._wait()
        with self._noting_error():
            if self.error is None:
                self._raw.truncate(size)
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def _block_writer(self) -> BlockWriter | None:
        if not self._asked:
            self._asked = True
            self._blocks = block_writer(self._path, self._raw.fileno())
        return self._blocks

    def _wait(self) -> None:
        """Wait until nothing is on its way to the file."""
        if self._blocks is not None and self.error is None:
            with self._noting_error():
                self._blocks.wait()

    @contextmanager
    def _noting_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.error is None:
                self.error = OSError(error.errno, error.strerror, str(self._path))
