"""A prior of Lorenz-96 with a learned model: the present, given the ensemble that was believed.

    present = model(x),      x = mean + S d,      d ~ N(0, I),      S S^T = taper * cov(ensemble),

with the last analyses' mean and the symmetric root of their covariance, tapered by distance. The
state before is Gaussian, the present is not: it is whatever the learned model makes of it.

`one_stage` draws each member's past state given what is observed *at present*, through the model,
and the present is what the model makes of it: one step of sampling, no forecast that is corrected.
The past may be more than one interval ago (`window`): its ensemble has then been drawn given the
observations before, as in the IEnKS.

A network for the shape of the departures, trained on a few hundred pasts, did no better on truths
that were held out, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from lorenz96_model import Model
from torch import Tensor
from twin96 import Twin

from stormda.assimilation import (
    Observation,
    Spread,
    assimilate,
    compose,
    dpmpp_2m,
    gaspari_cohn,
    mmps,
    periodic_distance,
)

SAMPLER = dpmpp_2m(steps=6, sigma_min=0.05, sigma_max=8.0)
"""For departures of variance one."""


@dataclass(frozen=True, eq=False)
class Prior:
    """What an ensemble says of a state, as `stormda.assimilation.Denoiser` of departures."""

    mean: Tensor
    """`(*batch, points)`."""

    root: Tensor
    """Symmetric, `(*batch, points, points)`."""

    @classmethod
    def of(cls, ensemble: Tensor, radius: float) -> Prior:
        """Summarise `(members, points)`; covariances reach zero at `radius` points."""
        n = ensemble.shape[1]
        place = torch.arange(n, dtype=torch.float64)[:, None]
        far = periodic_distance(place, place, torch.tensor([float(n)]))
        covariance = gaspari_cohn(far, radius).to(ensemble) * ensemble.mT.cov()
        values, vectors = torch.linalg.eigh(covariance)
        # A taper that is cut to a ring is not quite positive.
        values = values.clamp_min(1e-6 * values[-1].item())
        return cls(ensemble.mean(0), vectors * values.sqrt() @ vectors.mT)

    def departure(self, x: Tensor) -> Tensor:
        """Return states `(*batch, points)` as departures from the mean in units of the root."""
        away = (x - self.mean)[..., None]
        units: Tensor = torch.linalg.solve(self.root, away)[..., 0]
        return units

    dtype = torch.float32
    device = torch.device("cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.mean.shape[-1:])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the expected departures of noisy ones."""
        return x / (1 + sigma**2)

    def to_state(self, departure: Tensor) -> Tensor:
        """Return the states that departures `(members, points)` mean."""
        state: Tensor = self.mean + (self.root @ departure[..., None])[..., 0]
        return state


def one_stage(twin: Twin, model: Model, settings: Mapping[str, float]) -> Iterator[Tensor]:
    """Yield the ensemble of each analysis.

    A member's noise is its own departure, not a fresh draw: the flow from noise to samples then
    carries each member from what it was to what is now believed, as a square root filter does, and
    without an observation leaves it where it was.
    """
    g = torch.Generator().manual_seed(0)
    members = int(settings["members"])
    spread = Spread(inflation=settings["inflation"])
    guidance = mmps(
        tolerance=1e-2, max_iterations=15, linearizations=int(settings["linearizations"])
    )
    x = twin.start[:members].float()
    for number, seen in enumerate(twin.observations, start=1):
        intervals = min(number, int(settings["window"]))
        x = spread(x, x)
        prior = Prior.of(x, settings["radius"])
        noise = prior.departure(x)
        x = assimilate(
            prior,
            Observation(
                seen.y.float(),
                compose(*[model.along] * intervals, seen.operator),
                seen.error,
            ),
            members=members,
            generator=g,
            guidance=guidance,
            sampler=lambda denoise, _, z=noise: SAMPLER(denoise, lambda step: z),
            transform=prior.to_state,
        )
        course = [prior.to_state(x)]
        for _ in range(intervals):
            course.append(model(course[-1]))
        yield course[-1]
        x = course[1] if number >= settings["window"] else course[0]
