"""How long does an ensemble of analyses take on one device?

    python bench/ensemble_time.py [--device cuda] [--dtype float32 bfloat16] [--batch 8]
                                  [--members 64] [--steps 80] [--rows 512] [--columns 1024]
                                  [--observed 0.1] [--way none dps mmps]

    python bench/ensemble_time.py --rows 64 --columns 128 --members 4 --batch 4  # CPU: minutes

Published (STORM, https://arxiv.org/abs/2604.16590, its table of ensembles, known here at second
hand): 64 members of the network of 10M parameters, 80 denoising steps each, guided by DPS, in
34.6 s on 64 GPUs, a member on each. So it is the seconds of a member that compare. On which grid
that was is not known here; the default is that of the paper's regional fields, 512 x 1024 cells
with 4 variables: 32,768 tokens of 4 x 4 cells.

Members are drawn a batch at a time, from pasts of noise, the same for every batch, with the
network `ladder("10M")` and the settings of `stormda assimilate` but for the number of steps (there
30), in three ways:

    none    nothing is observed
    dps     a share of all values is observed; diffusion posterior sampling
    mmps    the same is observed; the default guidance

Weights are random: the time does not depend on what they have learned, with one exception. The
solves of the default end when they have converged, with a trained prior often before the last of
their 6 products with the Jacobian; here they go on to the last, so that it is the most that the
default takes. `evaluations`, forward passes, and `products`, backward ones, are summed over the
members; `seconds_per_evaluation` has the products that go with it.

Seconds are those of the clock, from when the device is idle to when it is idle again, for all
members, after two steps of a batch to warm up; conditioning on the past and the noise, drawn on
the CPU, are in them, making past and observations is not. `cpu_seconds` are those of the processor
meanwhile: where it shares its time with other work, they are what counts. The peak is that of what
PyTorch allocates on a GPU; on a CPU it is the process's so far, which no later way lowers. All of
a line was run as it says: nothing is scaled up from fewer members, cells or steps.

Writes bench/results/ensemble_time.csv, or ensemble_time_cuda.csv, with machine, versions and
commit: a table holds one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product

import torch
from measuring import device_name, device_of, table_name
from memory import gigabytes, show, trained
from torch import Tensor
from utilisation import DTYPES

from stormda.assimilation import (
    DiagonalError,
    Guidance,
    Observation,
    Vjp,
    conjugate_gradients,
    dps,
    linearize,
    mmps,
    select,
)
from stormda.assimilation.guidance.cg import Solution
from stormda.grid import PlaneGrid
from stormda.storm import (
    AssimilationConfig,
    Conditioned,
    Normalization,
    Storm,
    StormNetwork,
    ladder,
)
from stormda.storm.filtering import FilterSettings, sample_present

VARIABLES = ("t2m", "u10", "v10", "msl")
WAYS = ("none", "dps", "mmps")
PUBLISHED = "64 members, 10M, 80 steps, dps: 34.6 s on 64 GPUs, 34.6 s for the member of each"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is sampled, and how."""

    rows: int = 512
    columns: int = 1024
    members: int = 64
    batch: int = 8
    steps: int = 80
    observed: float = 0.1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "members", "batch", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 < self.observed <= 1:
            raise ValueError(f"observed: expected a share in (0, 1], got {self.observed}")

    @property
    def batches(self) -> list[list[int]]:
        """Return the numbers of the members that are drawn together."""
        starts = range(0, self.members, self.batch)
        return [list(range(i, min(i + self.batch, self.members))) for i in starts]


# ---- What is sampled


def prior_of(size: Size, device: torch.device) -> Storm:
    """Return a prior with random weights for a region."""
    grid = PlaneGrid((size.rows, size.columns), spacing_m=(5e3, 5e3))
    network = trained(StormNetwork(ladder("10M", VARIABLES), grid))
    one = torch.ones(len(VARIABLES), 1, 1)
    prior = Storm(network, Normalization(0 * one, one, one), step_hours=1.0).to(device)
    prior.network.eval().requires_grad_(False)
    return prior


def pasts(prior: Storm, members: int) -> Tensor:
    """Return pasts of nothing but noise, (members, history, variables, rows, columns)."""
    shape = members, prior.config.history, len(VARIABLES), *prior.grid.shape
    return torch.randn(shape, generator=generator()).to(prior.normalization.mean)


def observation_of(prior: Storm, share: float) -> Observation:
    """Return a share of all values of the fields, at places chosen by chance."""
    device, drawn = prior.normalization.mean.device, generator()
    cells = len(VARIABLES) * prior.grid.shape[0] * prior.grid.shape[1]
    places = torch.randperm(cells, generator=drawn)[: max(1, round(share * cells))].sort().values
    y = torch.randn(len(places), generator=drawn)
    return Observation(y.to(device), select(places.to(device)), DiagonalError(0.5))


def generator() -> torch.Generator:
    """Return the numbers of the only seed."""
    return torch.Generator().manual_seed(1)


# ---- What is counted


class Counted:
    """A prior that was given pasts, and how often it was evaluated and differentiated.

    Args:
        given: The prior, conditioned on the past of each member.
    """

    def __init__(self, given: Conditioned) -> None:
        self.given, self.evaluations, self.products = given, 0, 0
        self.shape, self.dtype, self.device = given.shape, given.dtype, given.device
        self.to_physical, self.shrink = given.to_physical, given.shrink

    def __call__(self, x: Tensor, sigma: Tensor, **context: object) -> Tensor:
        """Return the expected departure."""
        self.evaluations += len(x)
        return self.given(x, sigma, **context)

    def linearize(self, x: Tensor, sigma: Tensor, **context: object) -> tuple[Tensor, Vjp]:
        """Return the expected departure and the product with the transposed Jacobian."""
        self.evaluations += len(x)
        x_hat, vjp = linearize(self.given, x, sigma, context)

        def counted(v: Tensor) -> Tensor:
            self.products += len(v)
            return vjp(v)

        return x_hat, counted


def to_the_end(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    diagonal: Tensor,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Solve by conjugate gradients, with as many products as if no system had converged."""
    taken = 0

    def counted(v: Tensor) -> Tensor:
        nonlocal taken
        taken += 1
        return apply(v)

    solution = conjugate_gradients(
        counted, b, diagonal=diagonal, tolerance=tolerance, max_iterations=max_iterations
    )
    for _ in range(max_iterations - taken):
        apply(b)
    return solution


# ---- What is measured


def guidance_of(way: str, settings: FilterSettings) -> Guidance:
    """Return a guidance by its name; the default with all the products that it may take."""
    if way == "dps":
        return dps()
    return mmps(tolerance=settings.tolerance, max_iterations=settings.iterations, solve=to_the_end)


def analysed(
    prior: Storm,
    past: Tensor,
    members: list[int],
    observation: Observation | None,
    settings: FilterSettings,
    guidance: Guidance,
) -> tuple[int, int]:
    """Sample some members, each from its own past; return the evaluations and products."""
    error, clock = 0.1 * prior.normalization.std.flatten(), past.new_zeros(6)
    now = Counted(prior.given(past[: len(members)], error=error, clock=clock))
    sample_present(
        now,
        observation,
        members=members,
        settings=settings,
        generator=generator(),
        guidance=guidance,
    )
    return now.evaluations, now.products


def measured(prior: Storm, way: str, size: Size) -> dict[str, object]:
    """Return a row: an ensemble that is drawn in one way."""
    device, past = prior.normalization.mean.device, pasts(prior, min(size.batch, size.members))
    observation = None if way == "none" else observation_of(prior, size.observed)
    settings = replace(AssimilationConfig().filter, steps=size.steps)
    few, guidance = replace(settings, steps=min(2, size.steps)), guidance_of(way, settings)
    with torch.autocast(device.type, torch.bfloat16, enabled=size.dtype == "bfloat16"):
        analysed(prior, past, size.batches[0], observation, few, guidance)
        with Clock(device) as clock:
            counts = [
                analysed(prior, past, members, observation, settings, guidance)
                for members in size.batches
            ]
    evaluations, products = (sum(each) for each in zip(*counts, strict=True))
    return {
        "way": way,
        **asdict(size),
        "observed": 0 if observation is None else len(observation.y),
        "device": device_name(device),
        "evaluations": evaluations,
        "products": products,
        "seconds": clock.seconds,
        "seconds_per_member": clock.seconds / size.members,
        "seconds_per_evaluation": clock.seconds / evaluations,
        "cpu_seconds": clock.cpu_seconds,
        "peak_gigabytes": clock.peak_gigabytes,
    }


class Clock:
    """The times and the memory of what is done inside it, once the device has done its work.

    Args:
        device: Where it is done.
    """

    seconds: float
    cpu_seconds: float
    peak_gigabytes: float

    def __init__(self, device: torch.device) -> None:
        self.device, self.gpu = device, device.type == "cuda"

    def __enter__(self) -> Clock:
        """Begin, with the peak of the memory forgotten."""
        if self.gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        self.start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        if self.gpu:
            torch.cuda.synchronize(self.device)
        self.seconds = time.perf_counter() - self.start[0]
        self.cpu_seconds = time.process_time() - self.start[1]
        self.peak_gigabytes = (
            torch.cuda.max_memory_allocated(self.device) / 1e9 if self.gpu else gigabytes()
        )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("rows", "columns", "members", "batch", "steps"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Size, name))
    parser.add_argument("--observed", type=float, default=Size.observed, help="share of values")
    parser.add_argument("--way", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=[Size.dtype])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = vars(parser.parse_args())
    ways, dtypes, device = given.pop("way"), given.pop("dtype"), device_of(given.pop("device"))
    size = Size(**given)
    prior = prior_of(size, device)
    show(
        table_name("ensemble_time", device),
        [measured(prior, way, replace(size, dtype=dtype)) for dtype, way in product(dtypes, ways)],
    )
    print(f"published: {PUBLISHED}")


if __name__ == "__main__":
    main()
