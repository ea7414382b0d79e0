"""Which files are meant, their checksums, and how to open one without decoding anything.

NetCDF-4 and HDF5 are read by h5netcdf, NetCDF-3 by scipy, Zarr by zarr. GRIB needs cfgrib, and
references and URLs need fsspec: what is missing is named when such a file is opened.
"""

from __future__ import annotations

import glob
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from stormda.io.formats import NETCDF_MAGIC, Format, Location, format_of, head_of, is_url
from stormda.io.hdf5_heaps import SoundFile

if TYPE_CHECKING:
    import xarray as xr
    import zarr

Source = str | Path | Sequence[str | Path]
"""One file or folder, a pattern, a URL, or a list of these."""


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, or of a folder's files, as 64 hexadecimal digits.

    That of a folder is the SHA-256 of the lines "digest  name" of its files, sorted by name.

    Args:
        path: The file or folder.

    Examples:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     sha256(file.name)[:16]
        'e3b0c44298fc1c14'
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = (f"{sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expand_locations(source: Source) -> list[Location]:
    """Return the existing files and the URLs that a path, pattern, URL or list of them names.

    Examples:
        >>> expand_locations("s3://bucket/era5.zarr")
        ['s3://bucket/era5.zarr']
    """
    if isinstance(source, str) and is_url(source):
        return [source]
    if isinstance(source, str | Path):
        return [*expand_paths(source)]
    urls: list[Location] = [str(path) for path in source if is_url(path)]
    local = [path for path in source if not is_url(path)]
    if len(set(urls)) < len(urls):
        raise ValueError(f"path: expected every URL once, got {urls}")
    return [*urls, *(expand_paths(local) if local or not urls else [])]


def expand_paths(source: Source) -> list[Path]:
    """Return the existing files that a path, a glob pattern or a list of paths names.

    A pattern's matches are sorted by name; a list keeps its order.

    Args:
        source: One path, one pattern with `*`, `?` or `[...]`, or a list of paths.

    Raises:
        FileNotFoundError: If a file is not there or a pattern matches nothing.
        ValueError: If the list is empty or names a file twice.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.nc").write_bytes(b"")
        ...     [path.name for path in expand_paths(f"{folder}/*.nc")]
        ['a.nc']
    """
    if isinstance(source, str | Path):
        paths = [Path(source)] if Path(source).exists() else _matches(str(source))
    else:
        paths = [Path(path) for path in source]
    if not paths:
        raise ValueError("path: expected at least one file, got an empty list")
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected a file, got a path that does not exist")
        if path.resolve() in seen:
            raise ValueError(f"{path}: expected every file once, got it twice")
        seen.add(path.resolve())
    return paths


def _matches(pattern: str) -> list[Path]:
    """Return the sorted matches of a pattern; what is no pattern stands for itself."""
    if not glob.has_magic(pattern):
        return [Path(pattern)]
    found = sorted(glob.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{pattern}: expected a pattern that matches a file, got no match")
    return [Path(match) for match in found]


def is_netcdf(path: Path) -> bool:
    """Tell whether a file starts like NetCDF-3 or HDF5."""
    return path.is_file() and head_of(path).startswith(NETCDF_MAGIC)


@contextmanager
def open_raw(path: Location) -> Iterator[xr.Dataset]:
    """Open a file lazily with every value as it is stored: no masks, scales or times.

    It is opened for one reading and closed again, so nothing open is shared between processes.

    Args:
        path: The file, folder or URL.

    Raises:
        ImportError: If the format needs a package that is not installed.
        ValueError: If the format is not known, or the file is truncated or damaged.
    """
    with ExitStack() as closing:
        yield _open(path, closing)


def lazy_hdf5(path: Path, closing: ExitStack, group: str | None = None) -> xr.Dataset:
    """Open an HDF5 file, or a group of it, lazily, with every value as it is stored.

    Args:
        path: The file.
        closing: What closes it.
        group: The path of the group; None for the root.
    """
    h5py.File(path, "r").close()  # h5netcdf leaves a mess where this fails
    raw = closing.enter_context(SoundFile(path))
    dataset = _lazily(raw, "h5netcdf", phony_dims="access", group=group)
    closing.callback(dataset.close)
    return dataset


def open_group(location: Location) -> zarr.Group:
    """Open a Zarr group, or references to one, for reading.

    Raises:
        ImportError: If fsspec is needed and not installed.
    """
    import zarr  # long to import

    if isinstance(location, Path) and location.is_dir():
        return zarr.open_group(location, mode="r")
    require("fsspec", location, "remote")
    if isinstance(location, str):
        return zarr.open_group(location, mode="r")
    return zarr.open_group(_references(location), mode="r", zarr_format=2)


def require(module: str, location: Location, extra: str) -> None:
    """Raise unless an optional package is installed.

    Raises:
        ImportError: With what to type.
    """
    if find_spec(module) is None:
        raise ImportError(
            f"{location}: expected the package {module}: pip install 'stormda-io[{extra}]'"
        )


def _open(path: Location, closing: ExitStack) -> xr.Dataset:
    kind = format_of(path)
    try:
        if kind is Format.HDF5:
            return lazy_hdf5(Path(path), closing)
        dataset = _open_as(kind, path)
    except ImportError:
        raise
    except Exception as error:  # the readers raise many kinds for damaged bytes
        what = "NetCDF" if kind in (Format.HDF5, Format.NETCDF3) else kind.value
        raise ValueError(
            f"{path}: expected a readable {what} file, got a truncated or damaged one ({error})"
        ) from error
    closing.callback(dataset.close)
    return dataset


def _open_as(kind: Format, path: Location) -> xr.Dataset:
    if kind is Format.NETCDF3:
        return _lazily(path, "scipy")
    if kind is Format.GRIB:
        require("cfgrib", path, "grib")
        return _lazily(path, "cfgrib", backend_kwargs={"indexpath": ""})
    store = open_group(path).store
    return _lazily(store, "zarr", backend_kwargs={"consolidated": False})


def _lazily(source: object, engine: str, **options: Any) -> xr.Dataset:  # noqa: ANN401
    import xarray as xr  # long to import, and only open files need it

    with warnings.catch_warnings():
        # a variable that has one dimension twice is never a field
        warnings.filterwarnings("ignore", "Duplicate dimension names")
        opened: xr.Dataset = xr.open_dataset(
            source,  # type: ignore[arg-type]  # a Zarr store, too
            engine=engine,
            decode_cf=False,
            cache=False,
            **options,
        )
    return opened


def _references(path: Path) -> Any:  # noqa: ANN401
    """Return the Zarr store that a file of references stands for.

    Places without a scheme are files beside it.
    """
    import json

    from fsspec.implementations.reference import ReferenceFileSystem
    from zarr.storage import FsspecStore

    content = json.loads(path.read_bytes())
    refs = {key: _beside(path, value) for key, value in content.get("refs", content).items()}
    files = ReferenceFileSystem(refs, remote_protocol="file", asynchronous=True)
    return FsspecStore(files, read_only=True, path="")


def _beside(path: Path, reference: Any) -> Any:  # noqa: ANN401
    """Return a reference to bytes with the file's whole path."""
    if not isinstance(reference, list) or is_url(str(reference[0])):
        return reference
    return [str(path.parent / reference[0]), *reference[1:]]
