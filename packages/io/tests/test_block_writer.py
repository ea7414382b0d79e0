import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormda.io import block_writer as blocks
from stormda.io.block_writer import PAGE, BlockWriter, block_writer
from stormda.io.guarded_file import guarded_file

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="needs O_DIRECT")

BYTES = np.random.default_rng(0).integers(0, 256, 2**20, dtype=np.uint8).tobytes()


@pytest.fixture
def small(monkeypatch):
    """Blocks of four pages, of which a run of one page is worth writing."""
    monkeypatch.setattr(blocks, "BLOCK", 4 * PAGE)
    monkeypatch.setattr(blocks, "_SHORT", PAGE)


@pytest.fixture
def writer(small, tmp_path):
    """Return a writer to a file, and the file."""
    path = tmp_path / "a"
    with path.open("w+b", buffering=0) as file:
        try:
            made = BlockWriter(path, file.fileno())
        except OSError:
            pytest.skip("the file system has no O_DIRECT")
        yield made, path
        made.close()


def test_a_run_is_written_whole(writer):
    made, path = writer
    for start in range(0, 2**20, 5000):
        made.write(memoryview(BYTES)[start : start + 5000], 100 + start)
    made.wait()
    assert path.read_bytes() == bytes(100) + BYTES


@settings(deadline=None, max_examples=100)
@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 2**17), st.integers(PAGE, 2**16), st.booleans(), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_pieces_in_any_order_are_what_a_plain_file_gets(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("pieces") / "a"
    expected, end = bytearray(), 0
    with pytest.MonkeyPatch.context() as patch, guarded_file(path, "w+b") as file:
        patch.setattr(blocks, "BLOCK", 4 * PAGE)
        patch.setattr(blocks, "_SHORT", PAGE)
        patch.setattr("stormda.io.guarded_file._LONG", 2 * PAGE)
        for start, size, follows, look in pieces:
            place = end if follows else start
            end = place + size
            expected.extend(bytes(max(0, end - len(expected))))
            expected[place:end] = BYTES[start : start + size]
            file.seek(place)
            file.write(memoryview(BYTES)[start : start + size])
            if look:
                file.seek(place // 2)
                assert file.read(2 * PAGE) == expected[place // 2 : place // 2 + 2 * PAGE]
        assert file.seek(0, os.SEEK_END) == len(expected)
    assert path.read_bytes() == expected


def test_a_disk_that_wants_another_alignment_is_written_the_usual_way(writer, monkeypatch):
    made, path = writer
    plain = os.pwrite

    def strict(descriptor, data, place):
        if descriptor == made._direct:
            raise OSError(errno.EINVAL, "Invalid argument")
        return plain(descriptor, data, place)

    monkeypatch.setattr(os, "pwrite", strict)
    made.write(memoryview(BYTES), 0)
    made.wait()
    assert path.read_bytes() == BYTES


def test_a_disk_that_fills_half_way_is_an_error_at_the_end(tmp_path, monkeypatch):
    path, plain, written = tmp_path / "a.h5", os.pwrite, []

    def full(descriptor, data, place):
        if sum(written) > 2**22:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(plain(descriptor, data, place))
        return written[-1]

    monkeypatch.setattr(os, "pwrite", full)
    with path.open("w+b") as file:
        if block_writer(path, file.fileno()) is None:
            pytest.skip("the file system is not on a disk of this machine")
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.h5'"):
        write_much(path)


def write_much(path):
    with guarded_file(path, "w+b") as raw, h5py.File(raw, "w") as file:
        for name in "abcd":
            file[name] = np.zeros(2**19)


def test_memory_is_left_its_cache():
    memory = Path("/dev/shm")
    if not memory.is_dir() or os.major(memory.stat().st_dev):
        pytest.skip("no file system in memory")
    path = memory / f"stormda-{os.getpid()}"
    try:
        with path.open("w+b") as file:
            assert block_writer(path, file.fileno()) is None
    finally:
        path.unlink(missing_ok=True)
