import re
from contextlib import suppress

import pytest

from stormda.io import atomic_path, sha256
from stormda.io.files import expand_paths, open_raw


def opening(path):
    with open_raw(path):
        pass


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a Git-LFS pointer (fetch the file with `git lfs pull`)",
        ),
        (b"\n<!DOCTYPE html><html>", "an HTML page (the download failed)"),
        (b"\x0e\x03\x13\x01", "an HDF4 file (convert it with `h4tonccf`)"),
        (b"\x1f\x8b\x08", "a gzip archive (unpack it first)"),
        (b"PK\x03\x04", "a zip archive (unpack it first)"),
        (
            b"CDF\x05",
            "a NetCDF-3 file with 64-bit data (convert it with `nccopy -k nc4`)",
        ),
        (b"date,lon,lat", "a file that starts with b'date,lon'"),
    ],
)
def test_files_that_are_not_netcdf(tmp_path, content, what):
    path = tmp_path / "file.nc"
    path.write_bytes(content)
    message = f"{path}: expected a NetCDF-3 or NetCDF-4 file, got {what}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        opening(path)


@pytest.mark.parametrize("kept", [10, 0.5, -1])
def test_truncated_netcdf_3(field, kept):
    path = field()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if kept == 0.5 else kept])
    with pytest.raises(
        ValueError, match=r"file\.nc: expected a readable NetCDF file, got a trunc"
    ):
        opening(path)


def test_truncated_netcdf_4(tmp_path, real):
    content = (real / "grid/era5_waves_dutch_20171027-28.nc").read_bytes()
    path = tmp_path / "file.nc"
    path.write_bytes(content[:-100])
    with pytest.raises(
        ValueError, match=r"file\.nc: expected a readable NetCDF file, got a trunc"
    ):
        opening(path)


def test_a_folder_that_is_no_zarr_group(tmp_path):
    message = (
        f"{tmp_path}: expected a file or a Zarr group, got a folder without Zarr metadata "
        "(zarr.json, .zgroup, .zmetadata)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        opening(tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"a\.nc: expected a file, got a path that does not exist$"
    ):
        expand_paths(tmp_path / "a.nc")


def test_pattern_without_a_match(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"\*\.nc: expected a pattern that matches a file, got no match$",
    ):
        expand_paths(f"{tmp_path}/*.nc")


def test_no_file_at_all():
    with pytest.raises(ValueError, match=r"^path: expected at least one file, got an empty list$"):
        expand_paths([])


def test_the_same_file_twice(tmp_path):
    path = tmp_path / "a.nc"
    path.touch()
    with pytest.raises(ValueError, match=r"a\.nc: expected every file once, got it twice$"):
        expand_paths([path, tmp_path / "." / "a.nc"])


def test_a_name_with_brackets_is_no_pattern_if_it_exists(tmp_path):
    path = tmp_path / "a[1].nc"
    path.touch()
    assert expand_paths(path) == [path]


def test_checksum(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_nothing_appears_if_writing_fails(tmp_path):
    path = tmp_path / "out.nc"
    path.write_text("old")
    with suppress(RuntimeError), atomic_path(path, overwrite=True) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.nc"]


def test_an_existing_output_is_refused(tmp_path):
    path = tmp_path / "out.nc"
    path.touch()
    with (
        pytest.raises(
            FileExistsError,
            match=r"out\.nc: expected an output that does not exist yet, got an existing file "
            r"\(pass overwrite=True to replace it\)$",
        ),
        atomic_path(path),
    ):
        pass
