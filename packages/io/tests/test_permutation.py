import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from stormda.io import SampleOrder
from stormda.io.permutation import permuted

KEYS = st.integers(0, 2**64 - 1)


@settings(deadline=None)
@given(st.integers(1, 500), KEYS)
def test_a_shuffle_gives_every_number_once_and_back(n, key):
    there = permuted(np.arange(n), n, key)
    assert_array_equal(np.sort(there), np.arange(n))
    assert_array_equal(permuted(there, n, key, inverse=True), np.arange(n))


@settings(deadline=None)
@given(
    samples=st.integers(1, 200),
    block=st.integers(1, 12),
    buffer=st.integers(1, 6),
    seed=KEYS,
    epoch=st.integers(0, 3),
)
def test_every_sample_comes_once(samples, block, buffer, seed, epoch):
    order = SampleOrder(samples=samples, seed=seed, block=block, buffer=buffer)
    assert_array_equal(np.sort(order.sample(np.arange(samples), epoch)), np.arange(samples))


def test_a_buffer_holds_neighbours():
    """Of 6 blocks of 10, the samples of a buffer of 2 come from 2 blocks."""
    order = SampleOrder(samples=60, seed=1, block=10, buffer=2)
    found = order.sample(np.arange(60), 0).reshape(3, 20)
    assert [len(np.unique(row // 10)) for row in found] == [2, 2, 2]
    assert any((np.diff(row) != 1).any() for row in found)


def test_epochs_and_seeds_differ():
    order = SampleOrder(samples=100, seed=1)
    one, two = (order.sample(np.arange(100), epoch) for epoch in (0, 1))
    other = SampleOrder(samples=100, seed=2).sample(np.arange(100), 0)
    assert (one != two).any()
    assert (one != other).any()


def test_places_are_even():
    """Where sample 0 comes is uniform over seeds: chi-squared of 10 bins, 99.9 % quantile 27.9."""
    places = [int(permuted([0], 10, seed)[0]) for seed in range(2000)]
    counts = np.bincount(places, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9


def test_no_memory_of_the_size_of_the_data():
    order = SampleOrder(samples=10**15 + 7, seed=0, block=64, buffer=8)
    found = order.sample([0, 10**15], 5)
    assert ((found >= 0) & (found < 10**15 + 7)).all()


@pytest.mark.parametrize("name", ["samples", "block", "buffer"])
def test_what_is_no_order(name):
    with pytest.raises(ValueError, match=f"^{name}: expected at least 1, got 0$"):
        SampleOrder(**{"samples": 3, "seed": 0, name: 0})
    with pytest.raises(ValueError, match=r"^position: expected 0 to 2, got 3$"):
        SampleOrder(samples=3, seed=0).sample(3, 0)
