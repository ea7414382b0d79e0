"""Withheld satellite passes: the known numbers, and no pass leaks into its own estimate."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

DATA = os.environ.get("STORMDA_DATA")
METHODS = Path(__file__).parents[1] / "bench" / "waves_methods.py"

pytestmark = pytest.mark.skipif(not DATA, reason="STORMDA_DATA is not set")


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("waves_methods", METHODS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["waves_methods"] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["waves_methods"]


@pytest.fixture(scope="module")
def record(bench: ModuleType):
    return bench.read_record(Path(str(DATA)))


def first_hours(record, count: int):
    """Return a record that ends early."""
    rows = record.hour < count
    return replace(
        record,
        frames=record.frames.select(np.arange(count)),
        table=record.table.where(rows, "later"),
        **{name: getattr(record, name)[rows] for name in ("number", "hour", "model")},
    )


def raised(record, rows):
    """Return a record in which some observations say a metre more."""
    return replace(record, table=replace(record.table, value=record.table.value + rows))


def test_the_model_against_the_altimeters(bench, record) -> None:
    error = record.error(record.model)
    assert len(error) == 252
    assert error.mean() == pytest.approx(-0.066, abs=5e-4)
    assert bench.root_mean_square(error) == pytest.approx(0.322, abs=5e-4)
    assert [int(rows.sum()) for rows in record.passes] == [29, 67, 9, 9, 2, 23, 52, 61]


def test_interpolation_sees_neither_the_pass_nor_what_comes_later(bench, record) -> None:
    settings = {"length_km": 200.0, "hours": 6.0, "error_ratio": 0.3}
    before = bench.oi(record, settings)
    for mine in record.passes:
        after = bench.oi(raised(record, mine), settings)
        earlier = record.hour < record.hour[mine][0]
        np.testing.assert_array_equal(after[mine | earlier], before[mine | earlier])
        assert (after != before).any() or mine[-1]  # nothing is read after the last pass


@pytest.mark.slow
def test_a_cycled_ensemble_does_not_see_the_pass(bench, record, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "MEMBERS", 3)
    early = first_hours(record, 14)
    priors = [bench.trained(record, block, tmp_path / str(block), 1) for block in range(2)]
    settings = {"model_error": 0.5, "altimeter_error": 0.3, "inflation": 1.0}
    before = bench.storm(early, priors, settings)
    first, second = early.passes
    after = bench.storm(raised(early, first), priors, settings)
    np.testing.assert_array_equal(after[first], before[first])
    assert (after[second] != before[second]).any()  # it is remembered two hours later
    after = bench.storm(raised(early, second), priors, settings)
    np.testing.assert_array_equal(after, before)


def test_a_prior_does_not_learn_the_hours_that_it_is_cycled_through(
    bench, record, tmp_path
) -> None:
    values = record.frames.values.clone()
    values[12 - 3 : 24 + 3] += 1.0
    other = replace(record, frames=replace(record.frames, values=values))
    one, two = (
        bench.trained(r, 1, tmp_path / name, 1) for r, name in ((record, "a"), (other, "b"))
    )
    torch.testing.assert_close(one.normalization.mean, two.normalization.mean, rtol=0, atol=0)
    for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
