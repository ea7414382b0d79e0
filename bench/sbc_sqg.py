"""Is the shipped prior of turbulence honest? Simulation-based calibration on other truths.

    python bench/sbc_sqg.py DIR [--cases 40]

Each case is a sample of what the prior was trained on, from truths and errors of seed 210: a past
that is wrong by so much, which the prior is told wave by wave, and the present. What is observed
of the present, an arctan of 10 % of the points, is drawn too; 15 members are drawn without and
with the observations. If prior, guidance and sampler are right, the rank of the truth among the
members is uniform, whatever is looked at (Talts et al., 2018, arXiv:1804.06788):

- values, and gradients along x, at four places of each boundary, ten thousand km apart;
- the mean of each boundary, which the flow keeps almost: what is less than the sampler's last
  noise cannot be right;
- the power of its waves, in four bands of the wavenumber.

The test is chi-square over the 16 ranks in 8 pairs. The archive is made in DIR, if it is not
there. Writes bench/results/sbc_sqg.csv after every ten cases: p-values, mean rank (7.5), the share
in the outermost two ranks (0.125), and the counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from ablations import Row, finished, write
from sbc import statistics_of
from torch import Tensor

from stormda.assimilation import DiagonalError, Observation, rank_histogram
from stormda.assimilation.systems import SQG, SQGConfig
from stormda.storm.filtering import sample_present
from stormda.storm.objective import error_after
from stormda.storm.recipes import sqg
from stormda.storm.streams import stream
from stormda.storm.twin.archive import ArchiveConfig, kept_archive, make_archive
from stormda.storm.twin.case import NETWORKS, observe
from stormda.storm.twin.methods import Equipment, load_equipment
from stormda.storm.twin.samples import ArchivedSamples

PATH = Path(__file__).parent / "results" / "sbc_sqg.csv"
SEED = 210
ARCHIVE = ArchiveConfig(runs=8, every_hours=12.0, seed=SEED)
"""Runs as long as those that the prior was trained on: flows and their shadows age."""

NETWORK = "arctan-sparse"
MEMBERS = 15
BANDS = ((1, 4), (4, 8), (8, 16), (16, 33))
"""Wavenumbers from and below."""


def functionals(x: Tensor) -> dict[str, Tensor]:
    """Return what is looked at of states (*batch, 2, 64, 64), each (*batch, numbers)."""
    spectrum = torch.fft.rfft2(x).abs().square()
    k = torch.hypot(64 * torch.fft.fftfreq(64)[:, None], 64 * torch.fft.rfftfreq(64))
    looked = {
        "value": x[..., ::32, ::32].flatten(-3),
        "gradient": (x.roll(-1, -1) - x.roll(1, -1))[..., ::32, ::32].flatten(-3),
        "mean": x.mean((-2, -1)),
    }
    for low, high in BANDS:
        inside = (k >= low) & (k < high)
        looked[f"waves {low}-{high - 1}"] = spectrum[..., inside].sum(-1)
    return looked


def draws(
    equipment: Equipment, source: ArchivedSamples, case: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield members (15, 2, 64, 64) [K] of prior and posterior of a case, and its truth."""
    prior, settings = equipment.prior, equipment.tuned[NETWORK].storm
    batch, n, network = source.batch(case, 1), prior.normalization, prior.network
    history = n.to_x(batch.history).expand(MEMBERS, -1, -1, -1, -1)
    course = network.course(batch.history)
    assert course is not None
    now = prior.given(history, spectrum=error_after(network, course, batch.target))
    truth, sensors = n.to_x(batch.target)[0], NETWORKS[NETWORK]
    seen = observe(truth, sensors, stream(SEED, 1, case))
    observation = Observation(seen.y, sensors.operator(seen.index), DiagonalError(sensors.std))
    for name, given in (("prior", None), ("posterior", observation)):
        g = stream(SEED, 2, case)
        x = sample_present(now, given, members=MEMBERS, settings=settings, generator=g)
        yield name, x, truth


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="for the archive")
    parser.add_argument("--cases", type=int, default=40)
    arguments = parser.parse_args()
    recipe, equipment = sqg(), load_equipment(SQGConfig())
    prior = equipment.prior
    make = partial(make_archive, ARCHIVE, SQG(recipe.model))
    archive = kept_archive(ARCHIVE, arguments.folder, make)
    source = ArchivedSamples(
        archive, prior.normalization, recipe.errors, history=prior.config.history, seed=SEED
    )
    counts: dict[tuple[str, str], Tensor] = {}
    for case in range(arguments.cases):
        for name, x, truth in draws(equipment, source, case):
            members, true = functionals(x), functionals(truth)
            for what, values in members.items():
                ranks = rank_histogram(values, true[what])
                counts[name, what] = counts.get((name, what), 0) + ranks
        if (case + 1) % 10 == 0 or case + 1 == arguments.cases:
            rows: list[Row] = [
                {"draws": name, "what": what, "cases": case + 1} | statistics_of(found)
                for (name, what), found in sorted(counts.items(), reverse=True)
            ]
            write(PATH, [finished(one) for one in rows])
            print(f"--- {case + 1} cases")
            for one in rows:
                print(*list(one.values())[:8], flush=True)


if __name__ == "__main__":
    main()
