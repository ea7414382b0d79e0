import re
import struct

import h5py
import numpy as np
import pytest

from stormda.io import open_store, read_observations
from stormda.io.hdf5_heaps import SoundFile

HEAD = struct.Struct("<HHIQ")


@pytest.fixture
def path(tmp_path):
    """A file with a heap of texts."""
    path = tmp_path / "texts.nc"
    with h5py.File(path, "w") as file:
        file["platform"] = ["one", "another", "a third"]
    return path


def unend(path):
    """Take the end of the first heap away; return where that begins."""
    with path.open("r+b") as file:
        content = file.read()
        heap = place = content.index(b"GCOL")
        place += 16
        while HEAD.unpack_from(content, place)[0]:
            place += HEAD.size + (HEAD.unpack_from(content, place)[3] + 7) // 8 * 8
        file.seek(place)
        file.write(HEAD.pack(0, 0, 0, 0))
    return heap


def test_observations_with_a_heap_that_has_no_end_are_refused(path):
    heap = unend(path)
    message = f"the heap of texts at byte {heap} has no end"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: expected .*{message}"):
        read_observations(path)


def test_fields_of_any_size_with_such_a_heap_are_refused(tmp_path):
    path = tmp_path / "large.nc"
    with h5py.File(path, "w") as file:
        file["t2m"] = np.zeros((9, 1024, 1024), np.float32)  # 36 MiB
        file["t2m"].attrs["units"] = "K"
        file["t2m"].attrs["history"] = ["one", "another"]
    heap = unend(path)
    message = (
        f"{path}: expected a readable NetCDF file, got a truncated or damaged one "
        f"({{}}the heap of texts at byte {heap} has no end)"
    )
    with pytest.raises(ValueError, match="expected a readable") as caught:
        open_store(path)
    assert str(caught.value).endswith(message.split("{}")[1])
    assert str(caught.value).startswith(message.split("({}")[0])


def test_a_heap_is_known_whose_first_bytes_are_asked_for_in_two_readings(path):
    heap = unend(path)
    for first in range(1, 8):
        with SoundFile(path) as file:
            file.seek(heap - 50)
            with pytest.raises(OSError, match=f"byte {heap} has no end"):
                file.readinto(bytearray(50 + first))


def test_what_is_not_asked_for_is_not_looked_at(path):
    heap = unend(path)
    with SoundFile(path) as file:
        assert file.readinto(bytearray(heap - 8)) == heap - 8


def test_a_sound_heap_is_read(path):
    with SoundFile(path) as raw, h5py.File(raw, "r") as file:
        assert [text.decode() for text in file["platform"][()]] == ["one", "another", "a third"]


def test_a_heap_that_is_cut_is_left_to_the_library(path):
    content = path.read_bytes()
    for size in (4, 12, 16, 40):
        path.write_bytes(content[: content.index(b"GCOL") + size])
        with SoundFile(path) as file:
            assert file.readinto(bytearray(len(content))) == path.stat().st_size
