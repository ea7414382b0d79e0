"""What was observed since tells of a state before: against one analysis with all of it at once."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stormda.assimilation import DiagonalError, Observation, observed_along, select
from stormda.assimilation.randomness import Noise
from stormda.grid import PlaneGrid
from stormda.storm.config import StormConfig
from stormda.storm.filtering import given_pasts, run_storm, sample_present
from stormda.storm.lookback import LookbackFilter, LookbackSettings, run_lookback
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.prior import Storm
from stormda.storm.transport import Law, knots

POINTS = 8
CONFIG = StormConfig(
    variables=("lower", "upper"),
    patch=(2, 2),
    width=16,
    heads=2,
    encoder_depth=1,
    depth=1,
    waves=True,
    transport=4,
)
SETTINGS = LookbackSettings(
    steps=4, sigma_max=5.0, covariance="told", tolerance=1e-5, iterations=200, cohesion=0.0
)
KEPT = 0.5
"""What an interval leaves of every wave."""


def prior(config: StormConfig = CONFIG, wind: float = 0.0) -> Storm:
    """Return a new prior, a Gaussian one, whose law lets fields decay and carries them."""
    torch.manual_seed(1)
    plane = PlaneGrid((POINTS, POINTS), spacing_m=(1e5, 1e5), periodic=(True, True))
    network = StormNetwork(config, plane).eval().requires_grad_(False)
    if network.transport is not None:
        number = len(knots(POINTS, POINTS))
        rate = torch.tensor(KEPT).log() * torch.eye(2).expand(number, 2, 2)
        winds = wind * torch.randn(number, 2, 2)
        network.transport.set(Law(winds, rate, torch.zeros(2, POINTS)))
    one = torch.ones(2, 1, 1)
    return Storm(network, Normalization(0 * one, 2 * one, 0.5 * one), 6.0)


def start(members: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(members, 2, POINTS, POINTS, generator=generator)


def seen(seed: int, count: int, std: float) -> Observation:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(2 * POINTS**2, generator=generator)[:count]
    return Observation(torch.randn(count, generator=generator), select(index), DiagonalError(std))


def run(observations: list[Observation | None], **changes: object) -> list[Tensor]:
    settings = replace(SETTINGS, **changes)
    generator = torch.Generator().manual_seed(7)
    return list(
        run_lookback(prior(), start(), observations, settings=settings, generator=generator)
    )


@pytest.mark.parametrize("covariance", ["told", "network"])
def test_without_a_lag_it_is_the_filter(covariance: str) -> None:
    settings = replace(SETTINGS, covariance=covariance)
    observations = [seen(1, 9, 0.3), None, seen(2, 20, 0.5)]
    expected = run_storm(
        prior(), start(), iter(observations), settings=settings,
        generator=torch.Generator().manual_seed(7),
    )  # fmt: skip
    for found, one in zip(run(observations, covariance=covariance), expected, strict=True):
        assert torch.equal(found, one)


def test_two_observations_are_one_of_the_state_before() -> None:
    """The second is predicted by the law, which halves every field in an interval here."""
    first, second = seen(1, 30, 0.3), seen(2, 40, 0.5)
    _, found = run([first, second], lag=1)
    both = Observation(
        torch.cat([first.y, second.y]),
        lambda x: torch.cat([first.operator(x), second.operator(KEPT * x)], -1),
        DiagonalError(torch.cat([torch.full((30,), 0.3), torch.full((40,), 0.5)])),
    )
    generator = torch.Generator().manual_seed(7)
    Noise.drawn_from(generator)  # that of the cycle before
    made, x = prior(), start()
    now = given_pasts(made, torch.stack([x] * CONFIG.history, 1), SETTINGS)
    before = sample_present(now, both, members=len(x), settings=SETTINGS, generator=generator)
    torch.testing.assert_close(found, KEPT * before, rtol=0, atol=1e-4)


def test_what_a_new_network_implies_is_what_it_was_told() -> None:
    """It is the Gaussian whose spectrum it is told: both covariances are one."""
    observations = [seen(1, 30, 0.3), seen(2, 40, 0.5)]
    told, implied = (run(observations, lag=1, covariance=c) for c in ("told", "network"))
    for one, other in zip(told, implied, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_a_past_has_not_seen_what_its_window_sees() -> None:
    """The fourth analysis starts from those of the first and second, and sees two observations."""
    *_, third, fourth = observations = [seen(i, 30, 0.3) for i in range(4)]
    analyses = run(observations, lag=1)
    generator = torch.Generator().manual_seed(7)
    for _ in range(3):
        Noise.drawn_from(generator)
    past = torch.stack(analyses[:2], 1)
    before = sample_present(
        given_pasts(prior(), past, SETTINGS),
        observed_along([third, fourth], lambda x: [x, KEPT * x]),
        members=len(past),
        settings=SETTINGS,
        generator=generator,
    )
    torch.testing.assert_close(analyses[3], KEPT * before, rtol=0, atol=1e-4)


def test_where_nothing_was_observed_it_forecasts() -> None:
    forecasts = run([None, None, None], lag=1)
    assert all(x.isfinite().all() for x in forecasts)
    assert torch.equal(run([None], lag=2)[0], run([None])[0])


@pytest.mark.parametrize(
    ("config", "lag", "message"),
    [
        (replace(CONFIG, transport=0), 1, "lag: expected 0 where .*, got 1 with transport=0"),
        (replace(CONFIG, targets=2), 2, "lag: expected 0 where .*, got 2 with .* targets=2"),
    ],
)
def test_without_a_law_it_cannot_look_back(config: StormConfig, lag: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        LookbackFilter(
            prior(config), start(), replace(SETTINGS, lag=lag), torch.Generator().manual_seed(1)
        )


def test_a_lag_is_not_negative() -> None:
    with pytest.raises(ValueError, match=r"^lag: expected a number >= 0, got -1"):
        LookbackSettings(lag=-1)


def test_a_second_observation_brings_the_analysis_nearer_to_the_truth() -> None:
    """Each tells of other places; fields are carried by winds of their own."""
    made = prior(wind=0.3)
    truth = start(1)
    law, n = made.network.transport, made.normalization
    assert law is not None
    frames = n.to_x(law(n.to_z(truth), 2))[0, 1:]
    observations = []
    for number, frame in enumerate(frames):
        one = seen(5 + number, 40, 0.05)
        observations.append(replace(one, y=one.operator(frame[None])[0]))
    errors = []
    for lag in (0, 1):
        initial = truth + 0.5 * start(40)
        settings = replace(SETTINGS, lag=lag, smallest_error=0.05)
        generator = torch.Generator().manual_seed(2)
        *_, last = run_lookback(
            made, initial, observations, settings=settings, generator=generator
        )
        errors.append((last.mean(0) - frames[-1]).square().mean().sqrt())
    assert errors[1] < errors[0]
