import re

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stormda.io.fletcher import fletcher32


def word_by_word(data):
    """Return the checksum as it is defined."""
    s1 = s2 = 0
    for i in range(0, len(data), 2):
        s1 += data[i] << 8 | data[i + 1]
        s2 += s1
    fold = [(s - 1) % 65535 + 1 if s else 0 for s in (s2, s1)]
    return fold[0] << 16 | fold[1]


def random_bytes(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


@given(st.binary(max_size=2000).filter(lambda data: len(data) % 2 == 0))
@example(b"")
@example(bytes(1024))
@example(b"\xff" * 1026)
@settings(deadline=None)
def test_it_is_the_sum_of_words(data):
    assert fletcher32(np.frombuffer(data, np.uint8)) == word_by_word(data)


@pytest.mark.parametrize("size", [2, 512, 2**17, 2**17 + 514, 2**22 + 2**17 + 38])
@pytest.mark.parametrize("kind", ["random", "zeros", "ones"])
def test_it_is_what_hdf5_stores(size, kind):
    data = {
        "random": random_bytes(size),
        "zeros": np.zeros(size, np.uint8),
        "ones": np.full(size, 255, np.uint8),
    }[kind]
    with h5py.File(f"{kind}{size}", "w", driver="core", backing_store=False) as file:
        x = file.create_dataset("x", data=data, chunks=data.shape, fletcher32=True)
        file.flush()
        _, stored = x.id.read_direct_chunk((0,))
    assert fletcher32(data) == int.from_bytes(stored[-4:], "little")


def test_a_changed_bit_changes_it():
    data = random_bytes(4096)
    before = fletcher32(data)
    for place in range(0, 4096, 97):
        data[place] ^= 4
        assert fletcher32(data) != before
        data[place] ^= 4


def test_an_odd_number_of_bytes():
    message = "data: expected an even number of bytes, got 3"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fletcher32(np.zeros(3, np.uint8))
