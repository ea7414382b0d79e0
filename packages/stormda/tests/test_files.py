"""Samples from files: what belongs together, what must never meet, and what is repeatable."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from stormda.grid import LatLonGrid
from stormda.io import open_store, write_fields
from stormda.storm.disturbance import HistoryError, coloured
from stormda.storm.files import FileHistories, Split, fit_normalization, shuffled, window_targets
from stormda.storm.frames import Frames, clock_features, read_frames

HOUR = np.timedelta64(3600, "s")


def frames(count: int = 30, *, missing: float = 0.0) -> Frames:
    g = torch.Generator().manual_seed(0)
    values = 280 + torch.randn(count, 1, 4, 6, generator=g)
    valid = torch.rand(count, 1, 4, 6, generator=g) >= missing
    return Frames(
        variables=("t2m",),
        units=("K",),
        grid=LatLonGrid(np.linspace(50, 53, 4), np.linspace(0, 5, 6)),
        times=np.datetime64("2020-01-01T00", "s") + HOUR * np.arange(count),
        values=torch.where(valid, values, 0.0),
        valid=valid,
    )


def source(some: Frames, *, error: HistoryError | None = None, seed: int = 1) -> FileHistories:
    return FileHistories(
        some,
        2,
        fit_normalization(some, 1.0),
        error=error,
        step_hours=1.0,
        clock=True,
        season=False,
        seed=seed,
    )


def test_windows_equal_the_slow_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        hours = np.sort(rng.choice(30, 18, replace=False))
        times = np.datetime64("2020-01-01T00", "s") + HOUR * hours
        expected = [
            i
            for i in range(3, len(hours))
            if all(hours[i - k] == hours[i] - k for k in range(1, 4))
        ]
        np.testing.assert_array_equal(window_targets(times, 1.0, 3), expected)


def test_no_training_frame_is_within_the_embargo_of_validation_or_after_the_end() -> None:
    times = frames(100).times
    split = Split(train_end="2020-01-04T00", embargo_hours=5.0, validation_hours=12.0)
    training, validation = times[split.training(times)], times[split.validation(times)]
    assert len(validation) == 12
    assert validation.max() < np.datetime64("2020-01-04T00")
    assert validation.min() - training.max() > 5 * HOUR
    assert len(split.training(times)) == 72 - 12 - 5


def test_without_a_validation_period_everything_before_the_end_is_learned_from() -> None:
    times = frames(100).times
    assert len(Split(train_end="2020-01-02T00").training(times)) == 24
    assert len(Split().training(times)) == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_end": "soon"}, "train_end: expected a date such as 2019-03-13T00, got 'soon'"),
        (
            {"embargo_hours": -1.0},
            "embargo_hours: expected a number that is not negative, got -1.0",
        ),
        (
            {"validation_hours": -2.0},
            "validation_hours: expected a number that is not negative, got -2.0",
        ),
    ],
)
def test_a_split_refuses_nonsense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Split(**arguments)


def test_statistics_are_those_of_the_known_values_weighted_by_area() -> None:
    some = frames(40, missing=0.2)
    n = fit_normalization(some, 1.0)
    x, valid = some.values.double().numpy()[:, 0], some.valid.numpy()[:, 0]
    area = np.broadcast_to(some.grid.area, x.shape)
    mean = np.array([[x[valid[:, r, c], r, c].mean() for c in range(6)] for r in range(4)])
    np.testing.assert_allclose(n.mean[0].numpy(), mean, rtol=1e-6)  # stored in float32
    departure = (x - mean) ** 2
    std = np.sqrt((departure * area)[valid].sum() / area[valid].sum())
    both = valid[1:] & valid[:-1]
    change = np.sqrt((np.diff(x, axis=0) ** 2 * area[1:])[both].sum() / area[1:][both].sum())
    np.testing.assert_allclose(float(n.std), std, rtol=1e-6)
    np.testing.assert_allclose(float(n.increment * n.std), change, rtol=1e-6)


def test_a_constant_field_is_refused() -> None:
    some = replace(frames(), values=torch.ones(30, 1, 4, 6))
    message = "t2m: expected a field that changes in time, got a constant one"
    with pytest.raises(ValueError, match=f"^{message}$"):
        fit_normalization(some, 1.0)


def test_an_exact_history_is_the_frames_before_the_target() -> None:
    some = frames()
    batch = source(some).samples(torch.tensor([7, 20]), torch.Generator())
    z = fit_normalization(some, 1.0).to_z(some.values)
    torch.testing.assert_close(batch.history, torch.stack([z[5:7], z[18:20]]))
    torch.testing.assert_close(batch.target, z[[7, 20]])
    assert not batch.level.any()
    assert batch.valid is None


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    error = HistoryError()
    one, other = source(frames(), error=error), source(frames(), error=error)
    for _ in range(3):
        other.batch(0, 4)
    torch.testing.assert_close(one.batch(5, 4).history, other.batch(5, 4).history, rtol=0, atol=0)
    different = source(frames(), error=error, seed=2).batch(5, 4)
    assert not torch.equal(different.history, one.batch(5, 4).history)


def test_an_epoch_uses_every_sample_once() -> None:
    order = torch.cat([shuffled(torch.arange(4 * k, 4 * k + 4), 10, seed=3) for k in range(5)])
    assert order[:10].sort().values.tolist() == list(range(10))
    assert order[10:].sort().values.tolist() == list(range(10))
    assert order[:10].tolist() != order[10:].tolist()


def test_missing_values_are_zero_in_the_history_and_do_not_count_in_the_target() -> None:
    some = frames(missing=0.3)
    batch = source(some, error=HistoryError(exact=0.0)).samples(
        torch.tensor([9]), torch.Generator().manual_seed(1)
    )
    assert not batch.history[0][~some.valid[7:9]].any()
    assert batch.valid is not None
    torch.testing.assert_close(batch.valid[0], some.valid[9] & some.valid[8])


def test_a_period_without_a_whole_sample_is_refused() -> None:
    message = (
        "history: expected at least 3 frames 1 h apart in the training period, "
        "got 2 frames from 2020-01-01T00:00:00 to 2020-01-01T01:00:00"
    )
    short = frames().select(np.arange(2))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        source(short)


def test_the_season_can_be_withheld() -> None:
    times = np.array(["2020-03-01T06", "2020-07-01T06"], "datetime64[s]")
    with_season = clock_features(times, frames().grid, season=True)
    without = clock_features(times, frames().grid, season=False)
    torch.testing.assert_close(without[0], without[1])
    assert not torch.equal(with_season[0], with_season[1])


def test_frames_of_a_period_are_read_and_others_refused(case) -> None:
    store = open_store(case.fields)
    some = read_frames(store, ["t2m"], start=store.times[3], end=store.times[5])
    values, _ = store.read("t2m", time=slice(3, 6))
    np.testing.assert_array_equal(some.values[:, 0].numpy(), values)
    message = (
        f"{case.fields}: expected frames between 2021-01-01 and the end, got none "
        "(it has 40 frames from 2020-01-01T00:00:00 to 2020-01-02T15:00:00)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_frames(store, ["t2m"], start=np.datetime64("2021-01-01"))


def test_a_single_frame_has_no_step(tmp_path) -> None:
    grid = LatLonGrid([50.0, 51.0], [0.0, 1.0])
    write_fields(
        tmp_path / "one.nc",
        {"t2m": np.full((1, 2, 2), 280.0)},
        times=np.array(["2020-01-01"], "datetime64[s]"),
        grid=grid,
        attributes={"t2m": {"units": "K"}},
    )
    with pytest.raises(ValueError, match=r"^times: expected at least 2 frames, got 1$"):
        read_frames(open_store(tmp_path / "one.nc"), ["t2m"]).step_hours()


def test_errors_have_the_size_that_the_network_is_told() -> None:
    error = HistoryError(smallest=0.3, largest=0.3, exact=0.25, longest=3.0)
    drawn, level = error.draw((400, 3, 1, 12, 12), torch.Generator().manual_seed(0))
    told = level[:, 0] > 0
    assert 0.15 < 1 - told.float().mean() < 0.35  # 400 draws of a chance of a quarter
    torch.testing.assert_close(level[told], torch.full_like(level[told], 0.3))
    assert not drawn[~told].any()
    rms = drawn[told].square().mean().sqrt()
    torch.testing.assert_close(rms, torch.tensor(0.3), rtol=0.05, atol=0)  # a random sample


def test_a_longer_correlation_makes_neighbours_more_alike() -> None:
    white = torch.randn(300, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    alike = []
    for length in (0.01, 1.0, 4.0):
        field = coloured(white, torch.full((300,), length))
        torch.testing.assert_close(field.square().mean(), torch.tensor(1.0), rtol=0.1, atol=0)
        alike.append(float((field[..., 1:] * field[..., :-1]).mean()))
    assert abs(alike[0]) < 0.02  # white
    assert alike[0] < alike[1] < alike[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"smallest": 0.6},
            "smallest: expected 0 < smallest <= largest=0.5, got 0.6",
        ),
        ({"exact": 1.5}, "exact: expected a share in [0, 1], got 1.5"),
        ({"longest": 0.0}, "longest: expected a positive length, got 0.0"),
    ],
)
def test_history_errors_refuse_nonsense(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        HistoryError(**arguments)
