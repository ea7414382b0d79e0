import numpy as np
import pytest
import torch
from scipy.stats import kstest

from stormda.assimilation import Noise


def test_numbers_depend_on_key_member_and_step_only() -> None:
    noise = Noise(11)
    batch = noise.normals((3, 4), members=[5, 0, 7], step=2)
    alone = noise.normals((3, 4), members=[7], step=2)
    assert torch.equal(batch[2], alone[0])
    assert torch.equal(batch[1], Noise(11).normal((3, 4), member=0, step=2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stream_is_philox_with_member_and_step_in_its_counter(dtype) -> None:
    precision = np.float64 if dtype is torch.float64 else np.float32
    philox = np.random.Philox(key=11, counter=[0, 0, 3, 6])
    numbers = np.random.Generator(philox).standard_normal((2, 5), dtype=precision)
    drawn = Noise(11).normals((2, 5), members=[2**40, 6], step=3, dtype=dtype)[1]
    assert torch.equal(drawn, torch.from_numpy(numbers))


def test_streams_differ() -> None:
    draws = [
        Noise(key).normal((16,), member=member, step=step)
        for key in (0, 1, 2**64 - 1)
        for member in (0, 1, 2**40)
        for step in (0, 1)
    ]
    assert len({tuple(d.tolist()) for d in draws}) == len(draws)


def test_neighbouring_streams_are_standard_normal_and_uncorrelated() -> None:
    draws = Noise(3).normals((4000,), members=range(4), step=1, dtype=torch.float64)
    assert min(kstest(d.numpy(), "norm").pvalue for d in draws) > 0.01  # one seed: no chance
    # four standard errors of 4000 products
    torch.testing.assert_close(torch.corrcoef(draws), torch.eye(4).double(), atol=0.063, rtol=0)


def test_data_types() -> None:
    noise = Noise(1)
    single = noise.normal((5,), member=0, step=0)
    assert single.dtype is torch.float32
    half = noise.normal((5,), member=0, step=0, dtype=torch.bfloat16)
    assert torch.equal(half, single.bfloat16())
    assert noise.normal((), member=0, step=0, dtype=torch.float64).dtype is torch.float64


def test_the_key_comes_from_the_callers_generator() -> None:
    a, b = (torch.Generator().manual_seed(4) for _ in range(2))
    assert Noise.drawn_from(a) == Noise.drawn_from(b)
    assert Noise.drawn_from(a).key != Noise.drawn_from(torch.Generator().manual_seed(4)).key


@pytest.mark.parametrize("key", [-1, 2**64])
def test_the_key_has_64_bits(key) -> None:
    with pytest.raises(ValueError, match=rf"^key: expected 0 <= key < 2\*\*64, got {key}$"):
        Noise(key)
