"""Is a one-stage analysis with a learned prior better than tuned classical filters? Turbulence.

    python bench/one_stage_sqg.py [--network linear-dense linear-sparse arctan-shocks]
                                  [--method storm letkf letkf-storm oi] [--seed 200 201]

Three networks after the experiments of Bao et al. (2025): every point (1 K, linear), one in twenty
(1 K, linear), and half of them through an arctan, while the truth jumps now and then by noise that
no model knows of. The shipped prior, the LETKF with the true model and with the prior's forecasts,
and optimal interpolation, with the settings that `tools/tune_sqg.py` found on seeds 100-101; 16
members, 30 cycles of 12 hours, of which 20 are scored. Seeds 200-299 are for evaluation alone.

Beside the scores stand the seconds of an analysis and its floating-point operations, counted in
one analysis, the tenth: matrix products, Fourier transforms (5 n log2 n, Cooley and Tukey's) and
eigenvalues (9 n^3, Golub and Van Loan's, section 8.3); what goes point by point is not counted.
They are counted for the first seed.
A line is written to bench/results/one_stage_sqg.csv when its run is done, and replaces the same
case's; with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from stormda.assimilation.systems import SQGConfig
from stormda.io import atomic_path
from stormda.storm.demo import FIRST_SEED, run_method
from stormda.storm.provenance import commit, machine, provenance
from stormda.storm.scores import score
from stormda.storm.twin.case import Case, TwinConfig, make_case
from stormda.storm.twin.methods import METHODS, Equipment, load_equipment

PATH = Path(__file__).parent / "results" / "one_stage_sqg.csv"
CASES = ("linear-dense", "linear-sparse", "arctan-shocks")
COMPARED = ("storm", "letkf", "letkf-storm", "oi")
KEY = ("network", "method", "seed")
COUNTED = 10
"""The analysis whose operations are counted: the last before those that are scored."""


def transforms(x: Sequence[int], dims: Sequence[int], *_: object, **__: object) -> int:
    """Return the operations of complex Fourier transforms over some dimensions."""
    return round(5 * math.prod(x) * math.log2(math.prod(x[d] for d in dims)))


def real_transforms(
    x: Sequence[int], dims: Sequence[int], *_: object, out_shape: Sequence[int]
) -> int:
    """Return the operations of transforms from or to real fields: half of the complex ones."""
    fields = max(x, out_shape, key=math.prod)
    return transforms(fields, dims) // 2


def eigenvalues(x: Sequence[int], *_: object, **__: object) -> int:
    """Return the operations of the eigenvalues and vectors of symmetric matrices."""
    return 9 * math.prod(x) * x[-1]


aten = torch.ops.aten
FORMULAS: dict[object, Callable[..., int]] = {
    aten._fft_c2c: transforms,
    aten._fft_r2c: real_transforms,
    aten._fft_c2r: real_transforms,
    aten._linalg_eigh: eigenvalues,
}
"""What PyTorch's formulas, which are of matrix products, leave out."""


class Operations(TorchDispatchMode):
    """Counts floating-point operations, those of derivatives too.

    PyTorch's `FlopCounterMode` cannot be used with derivatives at inner points of a graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self,
        op: OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run an operation, and count it if it has a formula."""
        out, packet = op(*args, **(kwargs or {})), op.overloadpacket
        if packet in FORMULAS:
            shapes = [x.shape if isinstance(x, Tensor) else x for x in args]
            first = out[0] if isinstance(out, tuple) else out
            self.total += FORMULAS[packet](*shapes, out_shape=first.shape)
        elif packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        return out


def operations(method: str, case: Case, equipment: Equipment) -> float:
    """Return the operations of the `COUNTED`-th analysis of a case [10^9]."""
    analyses = METHODS[method](case, equipment)
    for _ in range(COUNTED - 1):
        next(analyses)
    with Operations() as counted:
        next(analyses)
    return counted.total / 1e9


def line(method: str, case: Case, equipment: Equipment) -> dict[str, Any]:
    """Run a method on a case, and return its scores and seconds."""
    config = case.config
    run, seconds = run_method(METHODS[method], case, equipment, lambda done: None)
    scored = run.after(config.discarded)
    truth = case.truth[1 + config.discarded :]
    row = score(scored, truth, network=config.network, method=method, seconds=seconds)
    return {
        "network": config.network,
        "method": method,
        "seed": config.seed,
        "cycles": config.cycles,
        "members": row.members,
        "rmse": row.rmse,
        "crps": row.crps,
        "spread_skill": row.spread_skill,
        "coverage90": row.coverage90,
        "seconds_per_analysis": seconds / config.cycles,
    }


def kept() -> list[dict[str, str]]:
    """Return the lines of the file, if there is one."""
    if not PATH.exists():
        return []
    with PATH.open(newline="") as file:
        return list(csv.DictReader(file))


def keep(row: Mapping[str, Any]) -> None:
    """Write a line to the file, in place of the one of its network, method and seed."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    new = {k: f"{v:.4f}" if isinstance(v, float) else str(v) for k, v in row.items()} | record
    rows = [new, *(r for r in kept() if any(r[k] != new[k] for k in KEY))]
    rows.sort(key=lambda r: (CASES.index(r["network"]), COMPARED.index(r["method"]), r["seed"]))
    with atomic_path(PATH, overwrite=True) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(new))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    seeds = range(FIRST_SEED, 300)
    parser.add_argument("--network", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--method", nargs="+", choices=COMPARED, default=COMPARED)
    parser.add_argument("--seed", nargs="+", type=int, choices=seeds, default=[200, 201])
    parser.add_argument("--cycles", type=int, default=30)
    parser.add_argument("--members", type=int, default=16)
    arguments = parser.parse_args()
    equipment = load_equipment(SQGConfig())
    config = TwinConfig(
        cycles=arguments.cycles, members=arguments.members, discarded=arguments.cycles // 3
    )
    counts: dict[tuple[str, str], float] = {}
    for seed in arguments.seed:
        for network in arguments.network:
            case = make_case(replace(config, network=network, seed=seed), equipment.model)
            for method in arguments.method:
                row = line(method, case, equipment)
                if (network, method) not in counts:
                    counts[network, method] = operations(method, case, equipment)
                row["gigaflop_per_analysis"] = counts[network, method]
                print(
                    *(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()), flush=True
                )
                keep(row)


if __name__ == "__main__":
    main()
