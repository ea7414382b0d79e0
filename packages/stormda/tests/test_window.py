"""Several frames sampled together: a window is what frame after frame would be, and smooths."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stormda.assimilation import (
    DiagonalError,
    Observation,
    kalman_smoother,
    kalman_update,
    select,
)
from stormda.assimilation.classical.kalman import Gaussian, kalman_forecast
from stormda.grid import PlaneGrid
from stormda.io import (
    ObservationTable,
    open_store,
    read_ensemble,
    read_observations,
    write_observations,
)
from stormda.storm import AssimilationConfig, FileRecipe, Normalization, Storm, StormConfig
from stormda.storm.assimilation_run import assimilate_files
from stormda.storm.disturbance import HistoryError
from stormda.storm.filtering import FilterSettings, OneStageFilter, sample_present
from stormda.storm.following import Follower, follow
from stormda.storm.forecasting import ForecastConfig, forecast_files
from stormda.storm.inbox import Inbox, Sources
from stormda.storm.inspection import describe_prior
from stormda.storm.network import StormNetwork
from stormda.storm.objective import Batch, denoising_loss, loss_weight
from stormda.storm.prior_training import train_on_files
from stormda.storm.real_observations import as_observation, observation_of_window
from stormda.storm.real_recipes import downscaling
from stormda.storm.training_data import load_training_data
from stormda.storm.trial import Trial, TrialConfig
from stormda.storm.window import from_increments, to_increments

CPU, HOUR = torch.device("cpu"), np.timedelta64(3600, "s")
PLANE = PlaneGrid((4, 4), spacing_m=(1.0, 1.0), periodic=(True, True))
CONFIG = StormConfig(
    variables=("u", "h"), targets=3, patch=(2, 2), width=16, heads=2, encoder_depth=1, depth=1
)
QUICK = FilterSettings(steps=3, cohesion=0.0)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_all_weights(config: StormConfig) -> StormNetwork:
    torch.manual_seed(0)
    network = StormNetwork(config, PLANE).double()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return network


def test_increments_equal_the_slow_definition() -> None:
    z, last, increment = normal(2, 6, 4, 4), normal(2, 2, 4, 4, seed=2), 0.5 + normal(2, 1, 1) ** 2
    w = to_increments(z, last, increment)
    before = last
    for t in range(3):
        frame = z[:, 2 * t : 2 * t + 2]
        assert_close(w[:, 2 * t : 2 * t + 2], (frame - before) / increment)
        before = frame
    assert_close(from_increments(w, last, increment), z)


def test_the_loss_is_the_mean_over_frames() -> None:
    """The slow twin takes increment after increment out of the window."""
    network, batch = with_all_weights(CONFIG), 2
    one = torch.ones(2, 1, 1, dtype=torch.float64)
    normalization = Normalization(0 * one, one, 0.5 * one)
    history, target = normal(batch, 2, 2, 4, 4), normal(batch, 6, 4, 4, seed=2)
    level, sigma, noise = normal(batch, 2).abs(), normal(batch).exp(), normal(batch, 6, 4, 4)
    known = normal(batch, 6, 4, 4, seed=4) > -1
    weight = loss_weight(PLANE, 2, area=False, by_variable=(1.0, 2.0))
    loss = denoising_loss(
        network,
        normalization,
        Batch(history, target, level, None, known),
        sigma,
        noise,
        weight=torch.cat([weight] * 3),
    )
    past = network.encode(history, level)
    for b in range(batch):
        total = mass = 0.0
        w, before = [], history[b, -1]
        for t in range(3):
            frame = target[b, 2 * t : 2 * t + 2]
            w.append((frame - before) / 0.5)
            before = frame
        d = torch.cat(w) - past.forecast[b]
        noisy = torch.zeros(batch, 6, 4, 4, dtype=torch.float64)
        noisy[b] = d + sigma[b] * noise[b]
        estimate = network(noisy, sigma, past)[b]
        s = past.size[b]
        for channel in range(6):
            fit = (estimate[channel] - d[channel]) ** 2 * (1 / s**2 + 1 / sigma[b] ** 2)
            each = fit + d[channel] ** 2 / s**2
            count = known[b, channel] * (1.0 if channel % 2 == 0 else 2.0)
            total, mass = total + (each * count).sum(), mass + count.sum()
        assert_close(loss[b], total / mass)


def test_a_window_is_the_kalman_smoother_where_all_is_gaussian() -> None:
    """A new network is a random walk with the covariance of its modes; each frame is seen."""
    config = replace(CONFIG, variables=("u",), modes=2)
    network = StormNetwork(config, PLANE).double().eval().requires_grad_(False)
    assert network.modes is not None
    basis = torch.linalg.qr(normal(16, 2)).Q.mT
    network.modes.basis.copy_(basis.reshape(2, 1, 4, 4))
    network.modes.own.copy_(torch.tensor([4.0, 1.0, 0.2]))
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    prior = Storm(network, Normalization(3 * one, 2 * one, 0.5 * one), 6.0)
    past = 3 + 2 * normal(1, 2, 1, 4, 4).expand(400, -1, -1, -1, -1)
    places, error = [torch.tensor(p) for p in ([0, 5], [], [3, 5, 9, 14])], 0.3
    y = [torch.tensor([4.0, 1.0]), torch.zeros(0), torch.tensor([2.0, 4.0, 3.0, 5.0])]
    y = [values.double() for values in y]

    cov = basis.mT @ torch.diag(torch.tensor([3.8, 0.8]).double()) @ basis + 0.2 * torch.eye(16)
    noise, eye = cov * (2 * 0.5) ** 2, torch.eye(16, dtype=torch.float64)
    state, known = Gaussian(past[0, -1].flatten(), 0 * eye), []
    for where, values in zip(places, y, strict=True):
        state = kalman_forecast(state, eye, noise)
        if len(where):
            h = eye[where]
            state = kalman_update(state, values - h @ state.mean, h, torch.tensor(error**2))
        known.append(state)
    expected = kalman_smoother(known, eye, noise)

    index = torch.cat([where.long() + 16 * t for t, where in enumerate(places)])
    sampled = sample_present(
        prior.given(past, error=torch.zeros(1, dtype=torch.float64)),
        Observation(torch.cat(y), select(index), DiagonalError(error)),
        members=400,
        settings=FilterSettings(steps=24, sigma_max=40.0, tolerance=1e-6, iterations=40),
        generator=torch.Generator().manual_seed(5),
    ).reshape(400, 3, 16)
    for t, gaussian in enumerate(expected):
        std = gaussian.covariance.diagonal().sqrt()
        off = (sampled[:, t].mean(0) - gaussian.mean) / (std / 20)
        assert off.abs().max() < 4  # standard errors of 400 members, of 16 places
        ratio = sampled[:, t].std(0) / std
        assert 0.85 < ratio.min() < ratio.max() < 1.15
    filtered = (known[0].mean - expected[0].mean) / expected[0].covariance.diagonal().sqrt()
    assert filtered.abs().max() > 0.5  # what comes later is told to the first frame


def test_a_new_window_goes_into_the_past_frame_by_frame() -> None:
    one = torch.ones(2, 1, 1)
    prior = Storm(StormNetwork(CONFIG, PLANE), Normalization(0 * one, one, one), 6.0)
    state = OneStageFilter(prior, torch.zeros(4, 2, 4, 4), QUICK, torch.Generator())
    window = normal(4, 6, 4, 4)
    state.push(window)
    assert_close(state.past, torch.stack([window[:, 2:4], window[:, 4:]], 1))


@pytest.fixture(scope="module")
def windows(recipe: FileRecipe) -> FileRecipe:
    return replace(recipe, network=replace(recipe.network, targets=3))


@pytest.fixture(scope="module")
def smoother(case, windows: FileRecipe, tmp_path_factory) -> Storm:
    recipe = replace(windows, split=replace(windows.split, validation_hours=0.0))
    folder = tmp_path_factory.mktemp("windows")
    prior = train_on_files(recipe, open_store(case.fields), folder, device=CPU)
    assert prior is not None
    return prior


def test_samples_hold_the_frames_after_the_history(case, windows: FileRecipe) -> None:
    source = load_training_data(
        replace(windows, error=HistoryError(exact=1.0)), open_store(case.fields), CPU
    ).training
    assert len(source.targets) == len(source.z) - 2 - 2
    batch = source.samples(torch.tensor([2, 7]), torch.Generator().manual_seed(0))
    for i, first in enumerate((2, 7)):
        assert_close(batch.history[i], source.z[first - 2 : first])
        assert_close(batch.target[i], source.z[first : first + 3, 0])


def test_a_trial_takes_window_after_window(case, windows: FileRecipe) -> None:
    """Four cycles are two windows, of which the second goes on beyond the last."""
    config = TrialConfig(every=2, cycles=4, runs=1, members=3, observed=0.5, filter=QUICK)
    long = replace(windows, split=replace(windows.split, validation_hours=10.0))
    data = load_training_data(long, open_store(case.fields), CPU)
    assert data.validation is not None
    torch.manual_seed(0)
    network = StormNetwork(windows.network, data.grid)
    trial = Trial(config, network, data.validation, step_hours=1.0, seed=1)
    frames = [frame for frame, _ in trial._run(trial.starts[0])]
    assert frames == list(range(trial.starts[0], trial.starts[0] + 4))
    assert trial.starts == [2]
    assert trial() == trial()
    sure = replace(config, observed=1.0, error=0.01)
    assert Trial(sure, network, data.validation, step_hours=1.0, seed=1)()[1] < 0.05


def run(case, prior: Storm, out, *, until: int = 99, table=None, **settings):
    done = [0]
    assimilate_files(
        prior,
        open_store(case.fields),
        read_observations(case.observations) if table is None else table,
        out,
        AssimilationConfig(members=3, start="2020-01-02T06", filter=QUICK, **settings),
        observed={"t2m": "t2m"},
        inputs={},
        progress=lambda cycle, *_: done.__setitem__(0, cycle),
        interrupted=lambda: done[0] >= until,
    )
    return read_ensemble(out) if out.exists() else None


def test_a_run_that_was_killed_within_a_window_goes_on(case, smoother: Storm, tmp_path) -> None:
    """Five cycles: the second window is cut at the end, and one of its frames is lost."""
    whole = run(case, smoother, tmp_path / "whole.nc", end="2020-01-02T10")
    assert whole is not None
    assert whole.fields["t2m"].shape == (3, 5, 7, 9)
    out = tmp_path / "again.nc"
    assert run(case, smoother, out, until=3, end="2020-01-02T10") is None
    parts = sorted((tmp_path / "again.nc.parts").glob("cycle-*"))
    assert len(parts) == 3
    parts[-1].unlink()
    again = run(case, smoother, out, end="2020-01-02T10")
    assert again is not None
    np.testing.assert_array_equal(again.fields["t2m"], whole.fields["t2m"])


def follow_files(case, prior: Storm, folder, tables, **settings) -> int:
    """Deliver files one after the other, and follow each time with a service that starts anew."""
    (folder / "inbox").mkdir(parents=True, exist_ok=True)
    sources = Sources(folder=folder / "inbox", observed={"t2m": "t2m"}, patience=0.0)
    config = AssimilationConfig(members=3, start="2020-01-02T06", filter=QUICK, **settings)
    done = 0
    for name, table in tables.items():
        write_observations(folder / "inbox" / name, table)
        service = Follower(prior, open_store(case.fields), folder / "out", config, inputs={})
        done = follow(service, Inbox(prior, sources, lambda _: None), once=True, poll=0.01)
    return done


def of_windows(case) -> dict[str, ObservationTable]:
    """Return the observations of the first and of the second three hours."""
    table, first = read_observations(case.observations), np.datetime64("2020-01-02T06", "s")
    border = first + 2.5 * HOUR
    return {
        "a.nc": table.where(table.time <= border, "later"),
        "b.nc": table.where((table.time > border) & (table.time < first + 5.5 * HOUR), "other"),
    }


def followed(folder) -> np.ndarray:
    paths = sorted(p for p in folder.glob("analysis_*.nc") if "feedback" not in p.name)
    return np.concatenate([read_ensemble(p).fields["t2m"] for p in paths], 1)


@pytest.mark.parametrize("end", ["2020-01-02T11", "2020-01-02T10"])
def test_a_service_that_follows_makes_window_after_window(
    case, smoother: Storm, tmp_path, end
) -> None:
    """The numbers are those of one run, also where the end cuts the last window."""
    whole = run(case, smoother, tmp_path / "whole.nc", end=end)
    count = follow_files(case, smoother, tmp_path, of_windows(case), end=end)
    assert count == (6 if end.endswith("11") else 5)
    np.testing.assert_array_equal(followed(tmp_path / "out"), whole.fields["t2m"])


def test_a_service_that_was_killed_between_two_files_of_a_window(
    case, smoother: Storm, tmp_path
) -> None:
    """What was ready is moved, what was begun is made again; no window is ever there in part."""
    first, second = of_windows(case).items()
    out = tmp_path / "out"
    assert follow_files(case, smoother, tmp_path, dict([first])) == 3
    ready = out / ".window_analysis_20200102T060000"
    ready.mkdir()
    for path in out.glob("*T08*"):
        path.replace(ready / path.name)
    begun = out / ".window_analysis_20200102T090000.part"
    begun.mkdir()
    (begun / "analysis_20200102T090000.nc").write_text("half")
    assert follow_files(case, smoother, tmp_path, dict([second])) == 6
    assert not list(out.glob(".window_*"))
    whole = run(case, smoother, tmp_path / "whole.nc", end="2020-01-02T11")
    np.testing.assert_array_equal(followed(out), whole.fields["t2m"])


def test_what_is_seen_later_tells_of_frames_before(case, smoother: Storm, tmp_path) -> None:
    table = read_observations(case.observations)
    first = np.datetime64("2020-01-02T06", "s")
    early = table.where(table.time <= first + HOUR / 2, "later")
    late = table.where(table.time <= first + 2.5 * HOUR, "later")
    given = [run(case, smoother, tmp_path / f"{i}.nc", table=some, end="2020-01-02T08")
             for i, some in enumerate((early, late))]  # fmt: skip
    before, after = (one.fields["t2m"][:, 0] for one in given)
    assert np.abs(after - before).max() > 0.01


def test_the_first_window_is_sampled_from_all_its_observations(case, smoother: Storm) -> None:
    """The joint operator sees in every frame what the operator of that frame sees."""
    table = read_observations(case.observations).within(smoother.grid)
    hours = np.datetime64("2020-01-02T06", "s") + HOUR * np.arange(3)
    tables = [table.window(t - HOUR / 2, t + HOUR / 2) for t in hours]
    assert min(map(len, tables)) > 0
    joint = observation_of_window(tables, smoother.grid, ["t2m"])
    assert joint is not None
    x, found = normal(2, 3, 7, 9), []
    for t, rows in enumerate(tables):
        seen = as_observation(rows, smoother.grid, ["t2m"])
        assert seen is not None
        found.append(seen.operator(x[:, t : t + 1]))
    assert_close(joint.operator(x), torch.cat(found, 1))
    assert (
        observation_of_window([table.window(hours[0], hours[0])] * 3, smoother.grid, ["t2m"])
        is None
    )


def test_forecasts_come_window_by_window(case, smoother: Storm, tmp_path) -> None:
    store, config = open_store(case.fields), ForecastConfig(steps=4, members=2, filter=QUICK)
    assert forecast_files(smoother, store, tmp_path / "fc.nc", config, inputs={}) == 4
    longer = replace(config, steps=6)
    assert forecast_files(smoother, store, tmp_path / "fc6.nc", longer, inputs={}) == 6
    four, six = (read_ensemble(tmp_path / name).fields["t2m"] for name in ("fc.nc", "fc6.nc"))
    assert four.shape == (2, 4, 7, 9)
    np.testing.assert_array_equal(six[:, :4], four)
    assert not np.array_equal(four[:, 0], four[:, 1])


def test_a_prior_of_windows_is_saved_and_described(smoother: Storm, tmp_path) -> None:
    smoother.save(tmp_path / "prior.safetensors")
    again = Storm.load(tmp_path / "prior.safetensors")
    assert again.config.targets == 3
    assert describe_prior(again).splitlines()[0].endswith("every 1 h, 3 sampled together")
    past = 280 + normal(2, 2, 1, 7, 9).float()
    clock = torch.zeros(6)
    a, b = (p.given(past, error=torch.ones(1), clock=clock) for p in (smoother, again))
    assert a.shape == (3, 7, 9)
    x = normal(2, 3, 7, 9).float()
    assert torch.equal(a(x, 1.0), b(x, 1.0))
    size = a.uncertainty()
    assert_close(size[2] / size[0], torch.full((7, 9), 3**0.5))


def test_errors(case, smoother: Storm, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"^targets: expected at least 1, got 0$"):
        replace(CONFIG, targets=0)
    start = downscaling(("t2m",))
    with pytest.raises(ValueError, match=r"^network.targets: expected 1 for downscaling, got 2$"):
        replace(start, network=replace(start.network, targets=2))
    one = torch.ones(2, 1, 1)
    batch = Batch(torch.zeros(1, 2, 2, 4, 4), torch.zeros(1, 2, 4, 4), torch.zeros(1, 2))
    message = "target: expected 6 channels, variables of every frame, got 2"
    with pytest.raises(ValueError, match=f"^{message}$"):
        denoising_loss(
            StormNetwork(CONFIG, PLANE),
            Normalization(0 * one, one, one),
            batch,
            torch.ones(1),
            torch.zeros(1, 2, 4, 4),
        )
