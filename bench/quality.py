"""Which attention does a denoiser need? Small networks of equal size, one table.

    python bench/quality.py [--seed 1 2 3] [--steps 400] [--variant linear full ...]

The task needs both local detail and far teleconnections: fields on a sphere's grid of 32 x 32 are
short-range vortices plus six indices, each of which lifts or lowers one western and one eastern
region together; a fifth of the western points is observed, none of the eastern ones. A network
denoises such fields given the observations (flow matching). Without a global branch it cannot know
the east from the west. All networks have the same local branch, a depthwise 3 x 3 convolution.

Training uses the seeds asked for (1-99), the validation set seed 200. Writes
bench/results/quality.csv: a row for each variant and seed, with machine, versions and commit. Rows
of other variants and seeds that the file already holds stay in it.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import torch
from einops import rearrange
from torch import Tensor, nn
from tqdm import tqdm

from stormda.attention import (
    BlockConfig,
    SharedModulation,
    StormBlock,
    noise_embedding,
    tilewise,
)
from stormda.grid import TileLayout
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results" / "quality.csv"
SIZE, PATCH, WIDTH, HEADS, DEPTH, BATCH = 32, 2, 64, 2, 3, 8
MODES, VALIDATION = 6, 512
BLOCK = BlockConfig(width=WIDTH, heads=HEADS, temporal=False, tile=(4, 4), halo=(1, 1), latents=32)
LAYOUT = TileLayout((SIZE, SIZE), tiles=(2, 2), halo=(4, 4), periodic=True)


# ---- The task


def patterns() -> Tensor:
    """Return the pattern of each index `(modes, lat, lon)`: a western and an eastern region."""
    generator = torch.Generator().manual_seed(200)
    lat, lon = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")

    def bump(row: float, column: float) -> Tensor:
        across = (lon - column + SIZE / 2) % SIZE - SIZE / 2
        return torch.exp(-((lat - row) ** 2 + across**2) / (2 * 3.0**2))

    found = []
    for _ in range(MODES):
        west, east, rows = torch.rand(3, 2, generator=generator).mul(SIZE).unbind()
        rows = 4 + 0.75 * rows
        found.append(
            bump(rows[0], 2 + 0.375 * west[0]) - bump(rows[1], SIZE / 2 + 2 + 0.375 * east[0])
        )
    return torch.stack(found)


def fields(count: int, generator: torch.Generator) -> Tensor:
    """Draw fields `(count, 1, lat, lon)`."""
    kx, ky = torch.fft.fftfreq(SIZE)[:, None], torch.fft.rfftfreq(SIZE)
    k2 = (kx**2 + ky**2) * SIZE**2
    spectrum = torch.exp(-k2 / (2 * 5.0**2)) * (k2 > 0)
    noise = torch.randn(count, SIZE, SIZE, generator=generator)
    vortices = torch.fft.irfft2(torch.fft.rfft2(noise) * spectrum, s=(SIZE, SIZE))
    vortices = 0.5 * vortices / vortices.std()
    index = torch.randn(count, MODES, generator=generator)
    return (vortices + torch.einsum("nm,myx->nyx", index, patterns()))[:, None]


def observed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return noisy values and where they are, `(count, 2, lat, lon)`: in the west alone."""
    mask = torch.rand(x.shape, generator=generator) < 0.2
    mask[..., SIZE // 2 :] = False
    noise = 0.1 * torch.randn(x.shape, generator=generator)
    return torch.cat([(x + noise) * mask, mask], 1)


def place() -> Tensor:
    """Return waves of latitude and longitude `(channels, lat, lon)`, that say where a cell is."""
    turn = 2 * math.pi * torch.arange(SIZE) / SIZE
    waves = torch.cat([f(m * turn)[None] for m in (1, 2, 4) for f in (torch.sin, torch.cos)])
    half = torch.cat([f(m * turn / 2)[None] for m in (1, 2, 4) for f in (torch.sin, torch.cos)])
    lon, lat = waves[:, None, :], half[:, :, None]
    return torch.cat([lon.expand(-1, SIZE, SIZE), lat.expand(-1, SIZE, SIZE)])


def sample(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw noisy fields with what is known of them, times, and the velocities to be learned."""
    x = fields(count, generator)
    known = observed(x, generator)
    t = torch.rand(count, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    noisy = torch.lerp(x, noise, t[:, None, None, None])
    where = place().expand(count, -1, -1, -1)
    return torch.cat([noisy, known, where], 1), t, noise - x


# ---- The networks


class Denoiser(nn.Module):
    """Patches, blocks, patches, under the time of the flow."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        channels = 3 + len(place())
        self.tokens = nn.Linear(channels * PATCH**2, WIDTH)
        self.modulation = SharedModulation(WIDTH)
        self.blocks = nn.ModuleList(StormBlock(config) for _ in range(DEPTH))
        self.fields = nn.Linear(WIDTH, PATCH**2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the velocity `(b, 1, lat, lon)`; the last channel of `x` is the time."""
        x, t = x[:, :-1], x[:, -1, 0, 0]
        condition = noise_embedding(4 * t, WIDTH)
        modulation = self.modulation(condition)
        shape = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        tokens = self.tokens(rearrange(x, "b c (y i) (x j) -> b (y x) (c i j)", i=PATCH, j=PATCH))
        for block in self.blocks:
            tokens = block(tokens, condition, modulation, shape=shape)
        return rearrange(
            self.fields(tokens), "b (y x) (i j) -> b 1 (y i) (x j)", y=shape[0], i=PATCH, j=PATCH
        )


def whole(config: BlockConfig) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """Return a network of the whole field."""
    network = Denoiser(config)
    return network, network


def ungated(config: BlockConfig) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """Return a network whose gates are held open."""
    network = Denoiser(config)
    for block in network.blocks:
        qkvg = block.mix.gated.qkvg
        with torch.no_grad():
            qkvg.weight[3 * WIDTH :] = 0
            qkvg.bias[3 * WIDTH :] = 20.0
        for parameter in (qkvg.weight, qkvg.bias):
            parameter.register_hook(closed)
    return network, network


def closed(gradient: Tensor) -> Tensor:
    """Return the gradient without that of the gate."""
    gradient = gradient.clone()
    gradient[3 * WIDTH :] = 0
    return gradient


def tiled(layout: TileLayout) -> Callable:
    """Return what makes a network that runs tile by tile and is trained so."""

    def make(config: BlockConfig) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
        network = Denoiser(replace(config, periodic=(False, False)))
        return network, tilewise(network, layout, batch=4)

    return make


VARIANTS: dict[str, tuple[Callable, BlockConfig]] = {
    "full": (whole, replace(BLOCK, mixer="full")),
    "linear": (whole, BLOCK),
    # Two more matrices and the gate of the others, given to the MLP instead.
    "local alone": (whole, replace(BLOCK, mixer="none", mlp_ratio=5.5)),
    "tile": (whole, replace(BLOCK, mixer="tile")),
    "tile+linear": (whole, replace(BLOCK, mixer="tile+linear")),
    "latent": (whole, replace(BLOCK, mixer="latent")),
    "linear, no gate": (ungated, BLOCK),
    "tile, no halo": (whole, replace(BLOCK, mixer="tile", halo=(0, 0))),
    "network in tiles, Hann": (tiled(LAYOUT), BLOCK),
    "network in tiles, hard": (tiled(replace(LAYOUT, blend=False)), BLOCK),
    "network in tiles, no halo": (tiled(replace(LAYOUT, halo=(0, 0))), BLOCK),
}
"""How each network is made, and of which blocks; in `network in tiles` nothing sees past 20 x 20
cells at once."""


# ---- Training


def train(variant: str, seed: int, steps: int, note: Callable[[], object]) -> dict[str, object]:
    """Train one network and return its row."""
    make, config = VARIANTS[variant]
    start = time.process_time()
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # initial weights
        network, run = make(config)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        loss = error(run, *sample(BATCH, generator))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        note()
    generator = torch.Generator().manual_seed(200)
    with torch.no_grad():
        losses = [error(run, *sample(64, generator)).item() for _ in range(VALIDATION // 64)]
    return {
        "variant": variant,
        "seed": seed,
        "steps": steps,
        "parameters": sum(p.numel() for p in network.parameters()),
        "loss": f"{mean(losses):.5f}",
        "cpu_seconds": f"{time.process_time() - start:.0f}",
    }


def error(run: Callable[[Tensor], Tensor], x: Tensor, t: Tensor, velocity: Tensor) -> Tensor:
    """Return the mean square error of the velocity."""
    clock = t[:, None, None, None].expand(-1, 1, SIZE, SIZE)
    return (run(torch.cat([x, clock], 1)) - velocity).square().mean()


# ---- The table


def main() -> None:
    """Train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", nargs="+", type=int, choices=range(1, 100), default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    rows = read()
    runs = [(variant, seed) for seed in arguments.seed for variant in arguments.variant]
    with tqdm(total=len(runs) * arguments.steps, unit="step", mininterval=5) as bar:
        for variant, seed in runs:
            row = train(variant, seed, arguments.steps, lambda: bar.update(1)) | record
            rows = [r for r in rows if (r["variant"], int(r["seed"])) != (variant, seed)]
            rows.append(row)
            write(rows)
    print(table(rows))


def read() -> list[dict[str, object]]:
    """Return the rows of the file, if there is one."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def write(rows: list[dict[str, object]]) -> None:
    """Write the rows in the order of the variants."""
    order = list(VARIANTS)
    rows = sorted(rows, key=lambda r: (order.index(str(r["variant"])), int(str(r["seed"]))))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: list[dict[str, object]]) -> str:
    """Return the mean loss over the seeds, its spread, and its ratio to that of `full`."""
    losses = {
        name: [float(str(r["loss"])) for r in rows if r["variant"] == name] for name in VARIANTS
    }
    lines = [f"{'variant':<28}{'seeds':>6}{'loss':>9}{'spread':>9}{'/ full':>9}{'weights':>10}"]
    for name in (name for name in VARIANTS if losses[name]):
        own = losses[name]
        ratio = mean(own) / mean(losses["full"]) if losses["full"] else math.nan
        weights = next(r["parameters"] for r in rows if r["variant"] == name)
        spread = stdev(own) if len(own) > 1 else math.nan
        lines.append(
            f"{name:<28}{len(own):6d}{mean(own):9.4f}{spread:9.4f}{ratio:9.3f}{weights:>10}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
