"""Scores of fields, events, innovations and scales, against other libraries and closed forms."""

import math
import re

import pytest
import torch

from stormda.assimilation import (
    anomaly_correlation,
    brier_score,
    coherence,
    crps_beyond,
    crps_fair,
    desroziers,
    energy_score,
    mae,
    power_spectrum,
    reliability,
    variogram_score,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def test_energy_and_variogram_equal_scoringrules() -> None:
    sr = pytest.importorskip("scoringrules")
    x, y = draw(7, 5), draw(5, seed=1)
    fair = energy_score(x, y).item()
    biased = float(sr.es_ensemble(y.numpy(), x.numpy(), m_axis=0, v_axis=1))
    pairs = torch.pdist(x).sum().item()
    assert fair == pytest.approx(biased + pairs / 49 - pairs / 42)
    expected = float(sr.vs_ensemble(y.numpy(), x.numpy(), m_axis=0, v_axis=1, p=0.5))
    assert variogram_score(x, y).item() == pytest.approx(expected)


def test_the_energy_score_of_a_number_is_the_crps() -> None:
    x, y = draw(9, 1), draw(1, seed=1)
    torch.testing.assert_close(energy_score(x, y), crps_fair(x, y)[0])
    weights = torch.tensor([4.0]).double()
    torch.testing.assert_close(energy_score(x, y, weights), 2 * crps_fair(x, y)[0])


def test_weights_of_pairs_choose_pairs() -> None:
    x, y = draw(4, 3), draw(3, seed=1)
    only = torch.zeros(3, 3).double()
    only[0, 1] = 1
    torch.testing.assert_close(
        variogram_score(x, y, weights=only), variogram_score(x[:, :2], y[:2]) / 2
    )


def test_anomalies_are_correlated_without_their_means_removed() -> None:
    a, b, c = draw(3, 50)
    weights = draw(50, seed=1).square()
    x, y, w = a - c, b - c, weights / weights.sum()
    expected = (w * x * y).sum() / ((w * x * x).sum() * (w * y * y).sum()).sqrt()
    torch.testing.assert_close(anomaly_correlation(a, b, c, weights), expected)


def test_the_brier_score_is_fair() -> None:
    """Its mean does not depend on the number of members: that of the true probability."""
    truth = draw(200_000)
    p = 0.5 * math.erfc(0.7 / math.sqrt(2))
    for members in (2, 8):
        score = brier_score(draw(members, 200_000, seed=members), truth, 0.7)
        assert score.item() == pytest.approx(p * (1 - p), abs=0.003)


def test_the_tail_alone_is_scored() -> None:
    x, y = draw(6, 40), draw(40, seed=1)
    torch.testing.assert_close(crps_beyond(x, y, -100.0), crps_fair(x, y))
    below = torch.where(x < 0.5, x - 3, x)
    torch.testing.assert_close(crps_beyond(below, y, 0.5), crps_beyond(x, y, 0.5))


def test_the_tail_equals_the_integral_of_brier_scores() -> None:
    x, y = draw(5, 1), draw(1, seed=1)
    levels = torch.linspace(0.2, 6, 20_001).double()
    scores = torch.stack([brier_score(x, y, level) for level in levels])
    assert torch.trapezoid(scores, levels).item() == pytest.approx(
        crps_beyond(x, y, 0.2).item(), abs=1e-3
    )


def test_an_honest_ensemble_lies_on_the_diagonal() -> None:
    centre = draw(100_000)
    x, y = centre + draw(40, 100_000, seed=1), centre + draw(100_000, seed=2)
    diagram = reliability(x, y, 0.5, bins=5)
    assert diagram.count.sum() == 100_000
    # 40 members say a probability to 0.08, which blurs the classes at the ends
    torch.testing.assert_close(diagram.said, diagram.happened, rtol=0, atol=0.03)


def test_desroziers_finds_what_is_wrong() -> None:
    """A believed error of 1 where it is 2: the residuals of the gain used do not close."""
    p, m = 100_000, 50
    truth = draw(p)
    background = truth + draw(p, seed=1) + draw(m, p, seed=2)
    background = background - background.mean(0) + truth + draw(p, seed=1)
    y = truth + draw(p, seed=3)
    analysis = background + 0.5 * (y - background.mean(0))
    honest = desroziers(y, background, analysis, torch.tensor(1.0))
    assert honest.ratio == pytest.approx(1, abs=0.02)
    assert honest.error == pytest.approx(1, abs=0.02)
    assert honest.background == pytest.approx(1, abs=0.02)
    vague = truth + 2 * draw(p, seed=3)
    wrong = desroziers(
        vague, background, background + 0.5 * (vague - background.mean(0)), torch.tensor(1.0)
    )
    assert wrong.ratio == pytest.approx(math.sqrt(5 / 2), abs=0.03)
    assert wrong.error > 1.5


def test_spectra_hold_all_variance() -> None:
    x = draw(3, 12, 16)
    torch.testing.assert_close(power_spectrum(x).sum(-1), x.square().mean((-2, -1)))
    flipped = power_spectrum(x.mT)
    torch.testing.assert_close(flipped, power_spectrum(x))


def test_coherence_knows_chance_from_agreement() -> None:
    x, other = draw(200, 16, 16), draw(200, 16, 16, seed=1)
    assert (coherence(x, other)[1:] < 0.05).all()
    torch.testing.assert_close(coherence(x, -3 * x), torch.ones(9).double())
    assert coherence(x, x + other)[4].item() == pytest.approx(0.5, abs=0.05)


def test_the_mean_absolute_error() -> None:
    x, y = draw(2, 30)
    weights = draw(30, seed=2).square()
    torch.testing.assert_close(mae(x, y, weights), ((x - y).abs() * weights).sum() / weights.sum())


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            lambda: energy_score(torch.zeros(1, 2), torch.zeros(2)),
            "ensemble: expected shape (m, *(2,)) with m >= 2, got (1, 2)",
        ),
        (
            lambda: brier_score(torch.zeros(1, 2), torch.zeros(2), 0.0),
            "ensemble: expected at least 2 members, got 1",
        ),
        (
            lambda: power_spectrum(torch.zeros(3)),
            "fields: expected shape (*batch, ny, nx), got (3,)",
        ),
        (
            lambda: coherence(torch.zeros(1, 4, 4), torch.zeros(2, 4, 4)),
            "others: expected the shape of fields (1, 4, 4), got (2, 4, 4)",
        ),
        (
            lambda: desroziers(
                torch.zeros(3), torch.zeros(2, 3), torch.zeros(2, 4), torch.tensor(1.0)
            ),
            "analysis: expected the shape of background with at least 2 members, "
            "got (2, 4) and (2, 3)",
        ),
    ],
)
def test_bad_arguments_are_refused(run, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run()
