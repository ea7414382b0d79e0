"""What the benchmarks of turbulence compute beside their runs."""

import csv
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from calibration import modes
from forecast_floor import floor
from one_stage_sqg import Operations
from sbc_sqg import functionals


def test_operations_are_those_counted_by_hand() -> None:
    x = torch.randn(2, 64, 64)
    with Operations() as transforms:
        torch.fft.irfft2(torch.fft.rfft2(x))
    assert transforms.total == 2 * 2 * 2.5 * 64**2 * math.log2(64**2)
    with Operations() as others:
        torch.randn(3, 4, 5) @ torch.randn(5, 6)
        torch.linalg.eigh(torch.eye(10))
    assert others.total == 2 * 3 * 4 * 5 * 6 + 9 * 10**3


def test_operations_of_derivatives_at_inner_points_count() -> None:
    a = torch.randn(4, 5, requires_grad=True)
    b = 2 * a
    with Operations() as counted:
        torch.autograd.grad((b @ torch.randn(5, 6)).sum(), b)
    assert counted.total == 2 * 2 * 4 * 5 * 6


def test_the_floor_of_white_errors_is_that_of_one_number() -> None:
    g = torch.Generator().manual_seed(0)
    error = 2 * torch.randn(400, 2, 16, 16, generator=g)
    assert floor(error) == pytest.approx(math.sqrt(4 / 5), rel=0.01)  # 400 samples of each wave
    assert floor(0 * error) == 0


def test_the_floor_is_lower_where_errors_are_of_few_waves() -> None:
    wave = torch.zeros(1, 1, 16, 16)
    wave[..., :] = 2**0.5 * 2 * torch.cos(2 * math.pi * torch.arange(16) / 16)
    assert floor(wave) == pytest.approx(math.sqrt(2 / 256), rel=0.01)


def test_the_power_of_a_wave_is_in_its_band() -> None:
    place = 2 * math.pi * torch.arange(64) / 64
    looked = functionals(torch.cos(5 * place).expand(2, 64, 64))
    power = {what: float(v.sum()) for what, v in looked.items() if what.startswith("waves")}
    assert max(power, key=power.__getitem__) == "waves 4-7"
    assert sum(power.values()) == pytest.approx(power["waves 4-7"], rel=1e-6)
    assert looked["value"].shape == looked["gradient"].shape == (8,)
    assert looked["mean"].shape == (2,)


def test_errors_of_modes_are_compared_for_the_same_seeds(tmp_path: Path) -> None:
    path, names = tmp_path / "mixture.csv", ("method", "d", "observations", "seed", "mode_error")
    lines = [("mmps", 8, 1, 200, 0.2), ("mmps", 8, 1, 201, 0.4), ("mmps", 8, 1, 202, 9.0)]
    lines += [("smc", 8, 1, 200, 0.1), ("smc", 8, 1, 201, 0.2), ("mmps", 80, 1, 200, 0.2)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([names, *lines])
    (row,) = modes(path)
    assert (row["d"], row["observations"], row["seeds"]) == (8, 1, 2)
    assert row["ratio"] == pytest.approx(0.5)
