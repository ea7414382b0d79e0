from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from stormda.io.whole_chunks import chunked_array, write_part

SHAPE, CHUNKS = (5, 200, 150), (2, 100, 100)
"""The last chunks along each dimension are longer than what is left of it, but in the second."""

TYPES = ["<f4", ">f4", "<f8", "<i2", ">i4", "u1"]


def numbers(dtype="<f4", shape=SHAPE):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        yield file


def stored(file, dtype="<f4", name="x", **options):
    """Return a variable that HDF5 wrote."""
    options = {"chunks": CHUNKS, "fletcher32": True} | options
    return file.create_dataset(name, data=numbers(dtype), **options)


def without_hdf5(array):
    """Return an array that cannot read but by whole chunks."""
    return replace(array, dataset=SimpleNamespace(id=array.dataset.id))


WHOLE = [
    (slice(0, 2), slice(0, 100), slice(0, 100)),
    (slice(None), slice(None), slice(None)),
    (slice(4, 5), slice(100, 200), slice(100, 150)),
    (slice(2, 5), slice(100, 200), slice(None)),
]
PARTS = [
    (slice(0, 2), slice(0, 99), slice(0, 100)),
    (slice(1, 3), slice(0, 100), slice(0, 100)),
    (3, slice(0, 100), slice(0, 100)),
    (slice(None), slice(None, None, 2), -1),
]


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("key", [*WHOLE, *PARTS], ids=str)
def test_what_is_read_is_what_hdf5_reads(file, key, dtype, checksum):
    x = stored(file, dtype, fletcher32=checksum, chunks=(2, 200, 100))
    array, expected = chunked_array(x), x[key]
    found = array[key]
    assert found.dtype == expected.dtype
    assert_array_equal(found, expected)


@pytest.mark.parametrize("key", WHOLE, ids=str)
def test_whole_chunks_pass_by_the_cache(file, key):
    x = stored(file)
    assert_array_equal(without_hdf5(chunked_array(x))[key], x[key])


def test_a_number_drops_its_dimension(file):
    x = stored(file, chunks=(1, 100, 100))
    found = without_hdf5(chunked_array(x))[3, slice(None), slice(None)]
    assert_array_equal(found, x[3])


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_any_part_is_what_hdf5_reads(data):
    key = tuple(
        data.draw(st.slices(n).filter(lambda s, n=n: (s.step or 1) > 0 and len(range(n)[s])))
        for n in SHAPE
    )
    with h5py.File("any", "w", driver="core", backing_store=False) as file:
        x = stored(file)
        assert_array_equal(chunked_array(x)[key], x[key])


def test_a_chunk_that_was_never_written_is_filled(file):
    x = file.create_dataset("x", SHAPE, "f4", chunks=CHUNKS, fletcher32=True, fillvalue=7)
    x[0:2, 0:100, 0:100] = 1
    assert_array_equal(chunked_array(x)[:, :, :], x[...])
    assert x[4, 0, 0] == 7


def test_a_chunk_that_is_too_short_is_refused(file):
    x = file.create_dataset("x", SHAPE, "f4", chunks=CHUNKS, fletcher32=True)
    x.id.write_direct_chunk((0, 0, 0), numbers(shape=CHUNKS).tobytes())
    with pytest.raises(OSError, match="filter returned failure"):
        chunked_array(x)[0:2, 0:100, 0:100]


def test_a_chunk_of_which_a_filter_was_skipped_is_left_to_hdf5(file):
    x = file.create_dataset("x", SHAPE, "f4", chunks=CHUNKS)
    chunk = numbers(shape=CHUNKS)
    x.id.write_direct_chunk((0, 0, 0), chunk.tobytes(), filter_mask=1)
    assert_array_equal(chunked_array(x)[0:2, 0:100, 0:100], chunk)


def test_a_damaged_chunk_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        place = stored(file).id.get_chunk_info_by_coord((2, 100, 0)).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[place + 1234] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with h5py.File(tmp_path / "a.h5") as file:
        array = chunked_array(file["x"])
        assert_array_equal(array[0:2, :, :], numbers()[0:2])
        with pytest.raises(OSError, match="filter returned failure"):
            array[2:4, 100:200, 0:100]


def test_what_is_left_to_hdf5(file):
    assert chunked_array(file.create_dataset("whole", data=numbers())) is None
    assert chunked_array(stored(file, name="packed", compression="gzip")) is None
    assert chunked_array(stored(file, name="small", chunks=(1, 20, 20))) is None
    assert chunked_array(stored(file, name="odd", dtype="u1", chunks=(1, 199, 149))) is None
    assert chunked_array(stored(file, name="truth", dtype="?")) is None


@pytest.mark.parametrize("options", [{}, {"fletcher32": False}, {"compression": "gzip"}], ids=str)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("key", [*WHOLE, *PARTS, (), (2,)], ids=str)
def test_what_is_written_is_what_hdf5_writes(file, key, dtype, options):
    options = {"chunks": (2, 200, 100), "fletcher32": True, "dtype": dtype, **options}
    fast, slow = (file.create_dataset(name, SHAPE, **options) for name in ("fast", "slow"))
    values = np.ascontiguousarray(numbers(dtype)[key])
    write_part(fast, key, values)
    slow[key] = values
    assert_array_equal(fast[...], slow[...])


def test_the_stored_bytes_are_those_of_hdf5(file):
    fast, slow = (
        file.create_dataset(name, SHAPE, "<f4", chunks=CHUNKS, fletcher32=True, fillvalue=np.nan)
        for name in ("fast", "slow")
    )
    write_part(fast, (), numbers())
    slow[...] = numbers()
    file.flush()
    assert fast.id.get_num_chunks() == slow.id.get_num_chunks() == 12
    for i in range(12):
        place = slow.id.get_chunk_info(i).chunk_offset
        assert fast.id.read_direct_chunk(place) == slow.id.read_direct_chunk(place)


def test_a_part_of_a_chunk_beside_whole_ones(file):
    x = file.create_dataset("x", SHAPE, "f4", chunks=CHUNKS, fletcher32=True)
    write_part(x, (), numbers())
    write_part(x, (slice(0, 2), slice(0, 50), slice(0, 100)), np.ones((2, 50, 100), np.float32))
    expected = numbers()
    expected[0:2, 0:50, 0:100] = 1
    assert_array_equal(x[...], expected)
    assert_array_equal(chunked_array(x)[0:2, 0:100, 0:100], expected[0:2, 0:100, 0:100])
