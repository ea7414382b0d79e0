"""The arrays in files as they are stored, open for as long as they are needed.

Opening a file costs more than reading a tile of it, so the last few stay open: at most 32, by
process. A process that was forked or spawned opens its own, and a file that was replaced since is
opened again. One that was rewritten in place is closed before that: as long as anybody has it
open, HDF5 would show what it was.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from stormda.io.anemoi import anemoi_fields, is_anemoi
from stormda.io.files import open_group, open_raw
from stormda.io.formats import Format, Location, format_of
from stormda.io.whole_chunks import chunked_array
from stormda.io.zarr_file import require_complete

if TYPE_CHECKING:
    import xarray as xr

MOST_OPEN = 32
"""Files that are held open by one process."""

_CHUNK_CACHE = 16 * 2**20
"""Bytes of unpacked chunks that HDF5 keeps for each variable."""

Key = tuple[slice | int | NDArray[np.int64], ...]


class StoredArray(Protocol):
    """A variable of a file, undecoded; slices of it are read when it is indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size along every dimension."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type it is stored as."""

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """The sizes of the pieces that are stored, and unpacked, together; None for none."""

    def __getitem__(self, key: Any, /) -> Any:  # noqa: ANN401
        """Return a part, in memory."""


def stored_array(location: Location, name: str) -> StoredArray:
    """Return a variable of a file; the file stays open for the next call.

    Args:
        location: The file, folder or URL.
        name: The variable's name.

    Raises:
        ValueError: If the file cannot be opened or has no such variable.
    """
    try:
        return _POOL.get(location)(name)
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:  # the readers raise many kinds for damaged bytes
        raise ValueError(
            f"{location}: expected a readable variable {name!r}, got a truncated or damaged file "
            f"({error})"
        ) from error


def close_all() -> None:
    """Forget every file that this process holds open."""
    _POOL.clear()


_Identity = tuple[int, int, int, int] | None


class _Opened(NamedTuple):
    """An open file."""

    identity: _Identity
    """What it was when it was opened."""

    find: Callable[[str], StoredArray]
    """What finds its variables."""

    close: Callable[[], None]
    """What closes it for everybody."""


class _Pool:
    """The files that were used last, by process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: OrderedDict[Location, _Opened] = OrderedDict()
        self._process = os.getpid()

    def get(self, location: Location) -> Callable[[str], StoredArray]:
        """Return what finds a file's variables, opening it if need be."""
        identity = _identity(location)
        with self._lock:
            if self._process != os.getpid():  # what a parent opened is not ours to read
                self._opened, self._process = OrderedDict(), os.getpid()
            known = self._opened.get(location)
            if known is None or known.identity != identity:
                self._close_former(identity)
                find, close = _open(location)
                known = _Opened(identity, cache(find), close)  # a variable keeps its chunks
                self._opened[location] = known
            self._opened.move_to_end(location)
            while len(self._opened) > MOST_OPEN:
                self._opened.popitem(last=False)
            return known.find

    def close_rewritten(self, location: Location) -> None:
        """Close a file that was rewritten in place since it was opened."""
        identity = _identity(location)
        with self._lock:
            if self._process == os.getpid():
                self._close_former(identity)

    def _close_former(self, identity: _Identity) -> None:
        """Close what is the same file in the file system, with other bytes."""
        for place, known in list(self._opened.items()):
            same = identity and known.identity and identity[:2] == known.identity[:2]
            if same and identity != known.identity:
                known.close()
                del self._opened[place]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._opened.clear()


_POOL = _Pool()


def close_rewritten(location: Location) -> None:
    """Close a file that was rewritten in place since it was opened, before it is opened anew.

    Args:
        location: The file, folder or URL, which is there.
    """
    _POOL.close_rewritten(location)


def _identity(location: Location) -> _Identity:
    """Return device, number, size and time of a file, which tell when it is replaced."""
    if isinstance(location, str):
        return None
    status = os.stat(location)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _nothing() -> None:
    """Close nothing: whoever reads the bytes anew sees them as they are."""


def _open(location: Location) -> tuple[Callable[[str], StoredArray], Callable[[], None]]:
    """Open a file and return what finds its variables, and what closes it."""
    kind = format_of(location)
    if kind in (Format.ZARR, Format.REFERENCES):
        group = open_group(location)
        if kind is Format.ZARR and isinstance(location, Path):
            require_complete(location, group)
        if is_anemoi(group, group.attrs):
            return anemoi_fields(group), _nothing
        return lambda name: group[name], _nothing  # type: ignore[return-value]  # an array
    if kind is Format.GRIB:
        return lambda name: _Lazy(location, name), _nothing
    path = Path(location)
    if kind is Format.NETCDF3:
        return _mapped_arrays(path).__getitem__, _nothing
    file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
    return lambda name: _dataset(file, name), file.close


def _dataset(file: h5py.File, name: str) -> StoredArray:
    """Return a variable; NetCDF-4 renames those that are called like a dimension they lack."""
    found: h5py.Dataset = file[name if name in file else f"_nc4_non_coord_{name}"]
    if found.is_virtual:
        _require_sources(Path(file.filename), found)
    return chunked_array(found) or found


def _require_sources(path: Path, virtual: h5py.Dataset) -> None:
    """Raise where a part of a virtual variable is not there: HDF5 would read it as missing."""
    for source in virtual.virtual_sources():
        if source.file_name != "." and not (path.parent / source.file_name).exists():
            raise ValueError(f"expected the part {source.file_name}, got none")


class _Lazy:
    """A variable that xarray's own reader decodes; each reading opens the file."""

    chunks = None

    def __init__(self, location: Location, name: str) -> None:
        self._location, self._name = location, name
        with open_raw(location) as dataset:
            self.shape, self.dtype = dataset[name].shape, dataset[name].dtype

    def __getitem__(self, key: Any, /) -> NDArray[Any]:  # noqa: ANN401
        with open_raw(self._location) as dataset:
            variable: xr.Variable = dataset[self._name].variable[key]
            return np.asarray(variable.values)


class _Mapped:
    """A variable of a NetCDF-3 file, mapped into memory."""

    chunks = None

    def __init__(self, array: NDArray[Any]) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key: Any, /) -> NDArray[Any]:  # noqa: ANN401
        return np.array(self._array[key])


def _mapped_arrays(path: Path) -> dict[str, _Mapped]:
    """Return every variable of a NetCDF-3 file as a view of its bytes.

    SciPy reads where they are; the map is our own, since its may not outlive its file object.
    """
    from scipy.io import netcdf_file  # long to import

    with netcdf_file(path, "r", mmap=True, maskandscale=False) as file:
        start = file._mm_buf.__array_interface__["data"][0]
        places = {
            name: (
                v.data.__array_interface__["data"][0] - start,
                v.data.dtype,
                v.data.shape,
                v.data.strides,
            )
            for name, v in file.variables.items()
        }
        file.variables.clear()
    whole = np.memmap(path, np.uint8, "r")
    return {
        name: _Mapped(np.ndarray(shape, dtype, whole, offset, strides))
        for name, (offset, dtype, shape, strides) in places.items()
    }
