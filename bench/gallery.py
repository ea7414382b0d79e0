"""The figures of the documentation: an analysis on the globe, and what the theory pages show.

    python bench/gallery.py            writes docs/images/gallery/

Everything is drawn from a run of this repository or from `bench/results`; nothing is painted.
"""

import csv
import io
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from stormda.assimilation import (
    DiagonalError,
    GaussianPrior,
    MixturePrior,
    Observation,
    assimilate,
    heun,
    interpolate,
)
from stormda.attention import linear_attention, spherical_cosine
from stormda.grid import TileLayout, grid, locate
from stormda.storm.maps import Panel, draw_fields

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images" / "gallery"
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"


def save(name: str, figure: Figure) -> None:
    """Write a figure with few colours, so that the repository stays small."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    picture = Image.open(buffer).convert("RGB").quantize(64)
    picture.save(OUT / f"{name}.png", optimize=True)
    print(f"{name}.png {(OUT / f'{name}.png').stat().st_size / 1000:.0f} kB")


def panels(count: int = 1, height: float = 2.8) -> tuple[Figure, list]:
    """Return a figure with panels beside each other."""
    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def globe() -> None:
    """Draw an analysis of a random field on the globe from 150 points, its spread and coverage."""
    generator = torch.Generator().manual_seed(0)
    places = grid("10deg")
    lat, lon = np.meshgrid(np.radians(places.lat), np.radians(places.lon), indexing="ij")
    flat = [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]
    xyz = torch.tensor(np.stack(flat, -1).reshape(-1, 3))
    covariance = torch.exp(-((xyz[:, None] - xyz).norm(dim=-1) ** 2) / (2 * 0.35**2))
    covariance += 1e-6 * torch.eye(len(xyz), dtype=torch.float64)
    prior = GaussianPrior(torch.zeros(len(xyz), dtype=torch.float64), covariance)
    truth = torch.linalg.cholesky(covariance) @ torch.randn(
        len(xyz), generator=generator, dtype=torch.float64
    )
    rng = np.random.default_rng(0)
    points = np.c_[np.degrees(np.arcsin(rng.uniform(0, 1, 150))), rng.uniform(-180, 180, 150)]
    stencil = locate(places, *points.T)
    operator = interpolate(torch.from_numpy(stencil.cells), torch.from_numpy(stencil.weights))
    y = operator(truth[None])[0]
    seen = Observation(y, operator, DiagonalError(0.1))
    x = assimilate(prior, seen, members=32, generator=generator, sampler=heun(steps=24))
    fields = [f.reshape(places.shape).numpy() for f in (truth, x.mean(0), x.std(0))]
    figure = draw_fields(
        places,
        [
            Panel("truth and 150 observed points", fields[0], points=points),
            Panel("analysis: mean of 32 members", fields[1]),
            Panel("error", fields[1] - fields[0], centred=True),
            Panel("spread: small where it was observed", fields[2], own=True),
        ],
        "",
    )
    save("globe", figure)


def theory() -> None:
    """Draw what the theory pages speak of."""
    figure, (left, right) = panels(2)
    n = torch.linspace(0, 2 * torch.pi, 181)[:-1]
    xyz = torch.stack([n.cos(), n.sin(), torch.zeros(180)], -1)
    q = torch.rand(1, 180, 16, generator=torch.Generator().manual_seed(0))
    values = torch.eye(180)[None]
    plain = linear_attention(q[None], q[None], values[None])[0, 0, 60]
    near = linear_attention(
        q[None],
        q[None],
        values[None],
        feature=partial(spherical_cosine, direction=xyz, strength=1),
    )[0, 0, 60]
    left.plot(np.degrees(n), 180 * plain, color=ORANGE, label="relu features")
    left.plot(np.degrees(n), 180 * near, color=BLUE, label="with spherical_cosine")
    left.axhline(1, color="black", linewidth=0.6)
    left.set(xlabel="longitude of the key", ylabel="weight / mean", title="weights of one query")
    left.legend(frameon=False, fontsize=8)
    rows = read("attention.csv")
    for method, colour in (("softmax (SDPA)", ORANGE), ("blocked", BLUE)):
        mine = [r for r in rows if r["method"] == method and r["dtype"] == "float32"]
        mine = sorted({int(r["tokens"]): float(r["both_ns"]) for r in mine}.items())
        right.loglog(*zip(*mine, strict=True), "o-", color=colour, label=method, markersize=3)
    right.set(xlabel="tokens", ylabel="ns a token, both passes", title="bench/results/attention")
    right.legend(frameon=False, fontsize=8)
    save("linear", figure)
    tiles()
    denoising()
    guidance()
    ranks_of_wrong_spread()


def tiles() -> None:
    """Draw the Hann windows of four tiles of a line, and their sum."""
    layout = TileLayout((1, 96), tiles=(1, 4), halo=(0, 8), periodic=(False, True))
    figure, (ax,) = panels(1, 2.2)
    total = np.zeros(96)
    for index in range(4):
        pieces = [
            np.full_like(t, i == index) for i, t in enumerate(layout.split(np.zeros((1, 96))))
        ]
        weight = layout.merge(pieces)[0]
        total += weight
        ax.fill_between(np.arange(96), weight, alpha=0.35, label=f"tile {index + 1}")
    ax.plot(total, "k--", linewidth=1, label="sum")
    ax.set(xlabel="cell, periodic", ylabel="weight", ylim=(0, 1.1))
    ax.legend(frameon=False, fontsize=8, ncols=5, loc="lower center")
    save("tiles", figure)


def denoising() -> None:
    """Draw paths of the sampler from noise to a prior with two modes, without and with a y."""
    prior = MixturePrior(
        torch.tensor([0.5, 0.5]), torch.tensor([[-2.0], [2.0]]), torch.full((2, 1, 1), 0.15)
    )
    figure, axes = panels(2)
    seen = Observation(torch.tensor([1.2]), lambda x: x, DiagonalError(0.7))
    titles = ("prior: two modes", "posterior: y = 1.2 +- 0.7")
    for ax, observation, title in zip(axes, (None, seen), titles, strict=True):
        paths = [
            assimilate(
                prior,
                observation,
                members=40,
                generator=torch.Generator().manual_seed(3),
                sampler=heun(steps=32, sigma_max=10.0, sigma_min=sigma),
            )
            for sigma in np.geomspace(8.0, 0.02, 24)
        ]
        sigmas = np.geomspace(8.0, 0.02, 24)
        ax.semilogx(sigmas, torch.stack(paths)[:, :, 0].numpy(), color=BLUE, linewidth=0.5)
        ax.invert_xaxis()
        ax.set(xlabel="noise sigma (stop)", title=title, ylim=(-4.5, 4.5))
    axes[0].set_ylabel("x")
    save("denoising", figure)


def guidance() -> None:
    """Draw spread over exact spread of every guidance on a linear-Gaussian trajectory."""
    spread, bias = defaultdict(list), defaultdict(list)
    for row in read("calibration_trajectory.csv"):
        spread[row["method"]].append(float(row["spread"]))
        bias[row["method"]].append(float(row["bias"]))
    figure, (left, right) = panels(2, 3.0)
    names = sorted(spread, key=lambda name: abs(np.log(np.mean(spread[name]))))
    colours = [GREEN if name == "exact" else BLUE for name in names]
    left.barh(names, [np.mean(spread[n]) for n in names], color=colours)
    left.axvline(1, color="black", linewidth=0.8)
    left.set(xlabel="spread / exact spread")
    right.barh(names, [np.mean(bias[n]) for n in names], color=colours)
    right.set(xlabel="error of the mean / exact spread", yticks=[])
    save("guidance", figure)


def ranks_of_wrong_spread() -> None:
    """Draw rank histograms of ensembles with too little, honest and too much spread."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20_000)
    figure, axes = panels(3, 2.2)
    for ax, std in zip(axes, (0.6, 1.0, 1.7), strict=True):
        members = std * rng.normal(size=(16, len(truth)))
        counts = np.bincount((members < truth).sum(0), minlength=17)
        ax.bar(np.arange(17), counts / counts.mean(), width=1.0, color=BLUE)
        ax.axhline(1, color="black", linewidth=0.8, linestyle=":")
        ax.set(title=f"spread {std:g} x honest", xlabel="rank of the truth", ylim=(0, 3))
    save("ranks_of_wrong_spread", figure)


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of a result of the benches."""
    with (ROOT / "bench" / "results" / name).open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    theory()
    globe()
