"""A learned prior of Lorenz-96: what a state can be, given the ensemble that was last believed.

    x = mean + S (shift + scale * d),      d ~ p(d | past),      S S^T = taper * cov(ensemble),

with the last analyses' mean and the symmetric root of their covariance, tapered by distance. What
is learned: the shift and the scale of the departure `d` at each point, a denoiser of it that reads
the same features (where the ensemble is sure, where flow and forecast are steep), and the `Model`
that takes `x` to the present. Before any training `d` is white noise: the prior is then the
Gaussian one of an ensemble Kalman filter, and training can only be seen to better it.

`one_stage` draws the past state of each member given what is observed *at present*, through the
model, and the present is what the model makes of it: one step of sampling, no forecast that is
corrected. All networks are circular convolutions: what they learn at one point holds at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from lorenz96_model import CLIMATE_MEAN, CLIMATE_STD, Model
from torch import Tensor, nn
from twin96 import Problem, Twin

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


class Products(nn.Module):
    """Two circular convolutions multiplied, and a third beside them: local and quadratic."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, 2 * width, 5, padding=2, padding_mode="circular")
        self.mix = nn.Conv1d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features `(b, width, points)`."""
        one, two = self.conv(x).chunk(2, 1)
        mixed: Tensor = self.mix(torch.cat([one * torch.tanh(two), one], 1))
        return mixed


class Encoder(nn.Module):
    """Reads the past: shift and scale of the departure, and features for the denoiser."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, width, 1)
        self.blocks = nn.ModuleList([Products(width) for _ in range(2)])
        self.last = nn.Conv1d(width, 2, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return shift and scale `(b, points)` and features `(b, width, points)`."""
        h = self.first(inputs)
        for block in self.blocks:
            h = h + block(nn.functional.layer_norm(h, h.shape[1:]))
        shift, logs = self.last(h).unbind(1)
        return shift, logs.clamp(-2, 2).exp(), h


class Denoiser(nn.Module):
    """The departure, of variance one, out of noise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(width + 1, width, 5, padding=2, padding_mode="circular")
        self.levels = nn.Linear(16, 2 * width)
        self.block = Products(width)
        self.last = nn.Conv1d(width, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, sigma: Tensor, features: Tensor) -> Tensor:
        """Return the expected departures of noisy ones `(b, points)`.

        Source: Karras et al. (2022), eq. 7 and table 1, with data of variance one.
        """
        total = 1 + sigma.reshape(-1, 1) ** 2
        h = torch.cat([(x / total.sqrt())[:, None], features.expand(len(x), -1, -1)], 1)
        h = self.first(h)
        waves = sigma.log().reshape(-1, 1) / 4 * torch.arange(1, 9, device=x.device)
        scale, shift = self.levels(torch.cat([waves.sin(), waves.cos()], -1))[..., None].chunk(
            2, 1
        )
        h = h + self.block(nn.functional.layer_norm(h, h.shape[1:]) * (1 + scale) + shift)
        estimate: Tensor = self.last(h)[:, 0]
        return x / total + sigma.reshape(-1, 1) / total.sqrt() * estimate


@dataclass(frozen=True, eq=False)
class Past:
    """What an ensemble says of a state: its mean, and the root of its tapered covariance."""

    mean: Tensor
    """`(*batch, points)`."""

    root: Tensor
    """Symmetric, `(*batch, points, points)`."""

    @classmethod
    def of(cls, ensemble: Tensor, radius: float) -> Past:
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


class Prior(nn.Module):
    """Model, encoder and denoiser."""

    def __init__(self, model: Model, width: int = 24) -> None:
        super().__init__()
        self.model, self.encoder, self.denoiser = model, Encoder(width), Denoiser(width)

    def read(self, past: Past) -> tuple[Tensor, Tensor, Tensor]:
        """Return shift, scale and features for pasts `(b, points)`."""
        spread = past.root.square().sum(-1).sqrt()
        means = (past.mean, self.model(past.mean))
        inputs = [spread.log(), *((x - CLIMATE_MEAN) / CLIMATE_STD for x in means)]
        read: tuple[Tensor, Tensor, Tensor] = self.encoder(torch.stack(inputs, 1))
        return read

    @torch.no_grad()
    def given(self, past: Past) -> Conditioned:
        """Return p(state | past) for pasts `(b, points)`; b is 1, or the members."""
        shift, scale, features = self.read(past)
        return Conditioned(self.denoiser, past, shift, scale, features)

    @torch.no_grad()
    def forecast(self, x: Tensor) -> Tensor:
        """Return states `(m, points)` an interval later, by the learned model alone."""
        return self.model(x.float()).to(x)


@dataclass(frozen=True, eq=False)
class Conditioned:
    """p(state | past), as `stormda.assimilation.Denoiser` of the departure."""

    network: Denoiser
    past: Past
    shift: Tensor
    scale: Tensor
    features: Tensor

    dtype = torch.float32
    device = torch.device("cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.shift.shape[1:])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the expected departures."""
        estimate: Tensor = self.network(x, sigma, self.features)
        return estimate

    def to_state(self, departure: Tensor) -> Tensor:
        """Return the states that departures mean."""
        away = (self.shift + self.scale * departure)[..., None]
        state: Tensor = self.past.mean + (self.past.root @ away)[..., 0]
        return state


def one_stage(
    problem: Problem, twin: Twin, prior: Prior, settings: Mapping[str, float]
) -> Iterator[Tensor]:
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
    for seen in twin.observations:
        x = spread(x, x)
        past = Past.of(x, settings["radius"])
        noise = past.departure(x)
        conditioned = prior.given(Past(past.mean[None], past.root[None]))
        x = assimilate(
            conditioned,
            Observation(seen.y.float(), compose(prior.model.along, seen.operator), seen.error),
            members=members,
            generator=g,
            guidance=guidance,
            sampler=lambda denoise, _, z=noise: SAMPLER(denoise, lambda step: z),
            transform=conditioned.to_state,
        )
        x = prior.forecast(conditioned.to_state(x))
        yield x
