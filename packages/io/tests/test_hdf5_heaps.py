import re
import struct

import h5py
import pytest

from stormda.io import read_observations
from stormda.io.hdf5_heaps import require_sound_heaps

HEAD = struct.Struct("<HHIQ")


@pytest.fixture
def path(tmp_path):
    """A file with a heap of texts."""
    path = tmp_path / "texts.nc"
    with h5py.File(path, "w") as file:
        file["platform"] = ["one", "another", "a third"]
    return path


def test_a_heap_without_an_end_is_refused_before_the_library_reads_it(path):
    require_sound_heaps(path)
    content = bytearray(path.read_bytes())
    heap = place = content.index(b"GCOL")
    place += 16
    while HEAD.unpack_from(content, place)[0]:
        place += HEAD.size + (HEAD.unpack_from(content, place)[3] + 7) // 8 * 8
    HEAD.pack_into(content, place, 0, 0, 0, 0)
    path.write_bytes(content)
    message = re.escape(
        f"{path}: expected a readable HDF5 file, got a damaged one "
        f"(a heap of texts at byte {heap} has no end)"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_observations(path)


def test_a_heap_that_is_cut_is_left_to_the_library(path):
    content = path.read_bytes()
    for size in (4, 12, 16, 40):
        path.write_bytes(content[: content.index(b"GCOL") + size])
        require_sound_heaps(path)
