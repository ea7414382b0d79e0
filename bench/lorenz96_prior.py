"""A learned prior of Lorenz-96: what a state can be, given what a filter believed a moment before.

    x ~ p(present | mean and spread of the last two analyses)

Two parts, as in STORM: an encoder that reads the past once and says where the present is expected
and how uncertainly, and a small denoiser of the departure from that, in units of its uncertainty.
The encoder holds a model of its own, a learned rate of change, integrated over the interval; the
classical filters can run on it, so that the value of the model and that of the analysis are
told apart. All layers are circular convolutions: what they learn at one point holds at all.

The past of a training sample is that of an LETKF with the true model, with its errors as they are
and up to three times larger. It takes a minute or two on one core; the weights go to a file and
are read again. The recipe lives here and not in `stormda`: nobody but the benchmarks assimilates a
ring of 40 points, and `stormda`'s own recipes train STORM's network on fields.

    python bench/lorenz96_prior.py --problem spantini2019 arctan
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from twin96 import PROBLEMS, Problem, follow, letkf_update

from stormda.assimilation import FilterDiverged
from stormda.assimilation.systems import nature_run, runge_kutta

WEIGHTS = Path(__file__).parent / "priors"
CLIMATE_MEAN, CLIMATE_STD = 2.3, 3.6
"""Of Lorenz-96 with a forcing of 8: the units that networks like."""

HISTORY = 2
"""Past analyses that a prior looks at."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a prior is trained. Seeds 1-99 are for training."""

    width: int = 32
    """Channels."""

    cycles: int = 800
    """Analyses of the filter whose errors the past has."""

    model_steps: int = 250
    """Steps of training of the model."""

    steps: int = 500
    """Steps of training of the prior."""

    batch: int = 64
    """Samples of a step."""

    learning_rate: float = 3e-3
    """The largest."""

    widest: float = 3.0
    """The largest factor on the errors of the past."""

    seed: int = 1
    """Of everything random."""


class Products(nn.Module):
    """Two circular convolutions multiplied, and a third beside them: local and quadratic."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, 2 * outputs, 5, padding=2, padding_mode="circular")
        self.mix = nn.Conv1d(2 * outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features `(b, outputs, points)` of `(b, inputs, points)`."""
        one, two = self.conv(x).chunk(2, 1)
        mixed: Tensor = self.mix(torch.cat([one * torch.tanh(two), one], 1))
        return mixed


class Model(nn.Module):
    """A learned rate of change: quadratic, of two points to each side."""

    def __init__(self, width: int, interval: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2 * width, 5, padding=2, padding_mode="circular")
        self.mix = nn.Conv1d(3 * width, 1, 1)
        self.steps = max(1, round(interval / 0.05))
        self.dt = interval / self.steps

    def forward(self, x: Tensor) -> Tensor:
        """Return states `(b, points)` an interval later."""
        return runge_kutta(self._rate, x, self.dt, self.steps)

    def _rate(self, x: Tensor) -> Tensor:
        features = self.conv((x[:, None] - CLIMATE_MEAN) / CLIMATE_STD)
        one, two = features.chunk(2, 1)
        rate: Tensor = CLIMATE_STD * self.mix(torch.cat([one * two, features], 1))[:, 0]
        return rate


class Encoder(nn.Module):
    """Reads the past: the expected present, its uncertainty, and features for the denoiser."""

    def __init__(self, width: int, interval: float) -> None:
        super().__init__()
        self.model = Model(width, interval)
        self.first = nn.Conv1d(2 * HISTORY + 2, width, 1)
        self.blocks = nn.ModuleList([Products(width, width) for _ in range(3)])
        self.last = nn.Conv1d(width, 2, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, means: Tensor, spreads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return expectation and uncertainty `(b, points)` and features `(b, width, points)`.

        Args:
            means: Of the last analyses, the oldest first, with shape `(b, history, points)`.
            spreads: Their standard deviations, with the same shape.
        """
        run = torch.stack([self.model(means[:, k]) for k in range(HISTORY)], 1)
        surprise = (means[:, 1:] - run[:, :-1]) / spreads[:, 1:]
        inputs = [(means - CLIMATE_MEAN) / CLIMATE_STD, spreads.log(), surprise]
        expected = run[:, -1]
        inputs.append(((expected - CLIMATE_MEAN) / CLIMATE_STD)[:, None])
        h = self.first(torch.cat(inputs, 1))
        for block in self.blocks:
            h = h + block(nn.functional.layer_norm(h, h.shape[1:]))
        correction, logs = self.last(h).unbind(1)
        scale = spreads[:, -1] * logs.clamp(-4, 4).exp()
        return expected + scale * correction, scale, h


class Denoiser(nn.Module):
    """The departure from the expected present, of variance one, out of noise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(width + 1, width, 5, padding=2, padding_mode="circular")
        self.levels = nn.Linear(16, 4 * width)
        self.blocks = nn.ModuleList([Products(width, width) for _ in range(2)])
        self.last = nn.Conv1d(width, 1, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, sigma: Tensor, features: Tensor) -> Tensor:
        """Return the expected departures of noisy ones `(b, points)`.

        Source: Karras et al. (2022), eq. 7 and table 1, with data of variance one.
        """
        total = 1 + sigma.reshape(-1, 1) ** 2
        h = torch.cat([(x / total.sqrt())[:, None], features.expand(len(x), -1, -1)], 1)
        h = self.first(h)
        waves = sigma.log().reshape(-1, 1) / 4 * torch.arange(1, 9, device=x.device)
        scales = self.levels(torch.cat([waves.sin(), waves.cos()], -1))
        for block, gate in zip(self.blocks, scales[..., None].chunk(2, 1), strict=True):
            scale, shift = gate.chunk(2, 1)
            h = h + block(nn.functional.layer_norm(h, h.shape[1:]) * (1 + scale) + shift)
        estimate: Tensor = self.last(h)[:, 0]
        return x / total + sigma.reshape(-1, 1) / total.sqrt() * estimate


class Prior(nn.Module):
    """Encoder and denoiser."""

    def __init__(self, width: int, interval: float) -> None:
        super().__init__()
        self.encoder, self.denoiser = Encoder(width, interval), Denoiser(width)

    @torch.no_grad()
    def given(self, means: Tensor, spreads: Tensor) -> Conditioned:
        """Return p(present | past) for a past `(b, history, points)`; b is 1, or the members."""
        expected, scale, features = self.encoder(means.float(), spreads.float())
        return Conditioned(self.denoiser, expected, scale, features)

    @torch.no_grad()
    def forecast(self, x: Tensor) -> Tensor:
        """Return states `(m, points)` an interval later, by the learned model alone."""
        return self.encoder.model(x.float()).to(x)


@dataclass(frozen=True, eq=False)
class Conditioned:
    """p(present | past), as `stormda.assimilation.Denoiser` of the departure."""

    network: Denoiser
    expected: Tensor
    scale: Tensor
    features: Tensor

    dtype = torch.float32
    device = torch.device("cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.expected.shape[1:])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the expected departures."""
        estimate: Tensor = self.network(x, sigma, self.features)
        return estimate

    def to_state(self, departure: Tensor) -> Tensor:
        """Return the states that departures mean."""
        return self.expected + self.scale * departure


@dataclass(frozen=True, eq=False)
class Library:
    """A truth and what a filter with the true model believed of it, `(time, points)` each."""

    truth: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def make(cls, problem: Problem, cycles: int, seed: int) -> Library:
        """Run the LETKF with the settings of the problem; where it diverges, start it anew."""
        g = torch.Generator().manual_seed(seed)
        update = letkf_update(problem, problem.letkf)
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        while len(rows) < cycles:
            twin = problem.twin(
                cycles - len(rows) + 10, int(torch.randint(2**40, (), generator=g))
            )
            analyses = follow(twin, update, problem.experiment.forecast)
            try:
                for truth, x in islice(zip(twin.truths, analyses, strict=True), 10, None):
                    rows.append((truth, x.mean(0), x.std(0)))
            except FilterDiverged:
                rows = rows[:-5]
        return cls(*(torch.stack(column).float() for column in zip(*rows, strict=True)))

    def draw(self, count: int, widest: float, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return present truths `(count, points)`, past means and past spreads."""
        last = torch.randint(HISTORY, len(self.truth), (count,), generator=g)
        return self.at(last, widest, g)

    def at(self, last: Tensor, widest: float, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same at given times, the errors of the past scaled by a random factor."""
        past = last[:, None] + torch.arange(-HISTORY, 0)
        factor = (torch.rand(len(last), 1, 1, generator=g) * math.log(widest)).exp()
        truth = self.truth[past]
        means = truth + factor * (self.mean[past] - truth)
        return self.truth[last], means, factor * self.spread[past]


def train(problem: Problem, recipe: Recipe) -> Prior:
    """Train model, encoder and denoiser."""
    torch.manual_seed(recipe.seed)
    prior = Prior(recipe.width, problem.interval)
    g = torch.Generator().manual_seed(recipe.seed)
    fit(
        prior.encoder.model, model_losses(prior.encoder.model, problem, recipe), recipe.model_steps
    )
    prior.encoder.model.requires_grad_(False)
    library = Library.make(problem, recipe.cycles, recipe.seed)

    def losses() -> Iterator[Tensor]:
        while True:
            x, means, spreads = library.draw(recipe.batch, recipe.widest, g)
            expected, scale, features = prior.encoder(means, spreads)
            departure = ((x - expected) / scale).detach()
            likelihood = (scale.log() + ((x - expected) / scale).square() / 2).mean()
            sigma = (1.2 * torch.randn(recipe.batch, generator=g) - 0.8).exp()
            noise = torch.randn(x.shape, generator=g)
            noisy = departure + sigma[:, None] * noise
            error = prior.denoiser(noisy, sigma, features) - departure
            weight = (1 + sigma[:, None] ** 2) / sigma[:, None] ** 2
            yield likelihood + (weight * error.square()).clamp(max=1e3).mean()

    fit(prior, losses(), recipe.steps, recipe.learning_rate)
    return prior.eval().requires_grad_(False)


def model_losses(model: Model, problem: Problem, recipe: Recipe) -> Iterator[Tensor]:
    """Yield mean square errors of one interval, on states of the attractor."""
    system, steps = problem.experiment.system, problem.experiment.steps
    g = torch.Generator().manual_seed(recipe.seed + 1)
    points = system.shape[0]
    x = 8 + torch.randn(recipe.batch, points, generator=g)
    run = nature_run(system, system.forecast(x, steps=20 * steps), steps=steps)
    x = next(run)
    for later in run:
        yield (model(x) - later).square().mean()
        x = later


def fit(network: nn.Module, losses: Iterator[Tensor], steps: int, rate: float = 3e-3) -> None:
    """Lower losses by AdamW, with a warm-up, a cosine and clipped gradients."""
    weights = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=1e-4)
    for step, loss in enumerate(islice(losses, steps)):
        share = min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate * share
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if step % max(1, steps // 10) == 0:
            print(f"  step {step:5}  loss {loss.item():.4f}", flush=True)


def load(name: str, recipe: Recipe | None = None) -> Prior:
    """Return the prior of a problem: from its file, or trained now."""
    recipe, path = recipe or Recipe(), WEIGHTS / f"{name}.safetensors"
    problem = PROBLEMS[name]
    if path.exists():
        prior = Prior(recipe.width, problem.interval)
        prior.load_state_dict(load_file(path))
        return prior.eval().requires_grad_(False)
    began = time.perf_counter()
    prior = train(problem, recipe)
    print(f"{name}: trained in {time.perf_counter() - began:.0f} s")
    WEIGHTS.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in prior.state_dict().items()}, path)
    return prior


def main() -> None:
    """Train what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    for name in parser.parse_args().problem:
        load(name)


if __name__ == "__main__":
    main()
