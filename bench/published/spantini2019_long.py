"""Two methods of `spantini2019` may lose the truth: their error as time goes on.

    python bench/published/spantini2019_long.py [--seed 3000] [--cycles 601] [--dapper]

The ETKF of 60 members and the IEnKS follow the truth for some hundreds of cycles and may then lose
it, for good or for long: the mean of a run says when it did, more than how good the method is.
With `--dapper` DAPPER's own (1.7.1, to be installed by hand, `pip install dapper`) are run beside
ours, on its truths for the same seeds. Writes bench/results/published_spantini2019_long.csv, a
line for each hundred cycles, with machine, versions and commit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from experiment import RESULTS, Method, errors, iterative, transform, write
from spantini2019 import EXPERIMENT

PATH: Path = RESULTS / "published_spantini2019_long.csv"
BLOCK = 100
METHODS = {
    "ETKF N=60 1.10": transform(60, 1.10, rotate=False),
    "IEnKS N=40 1.10 lag 2": iterative(40, 1.10, 2, rotate=False),
}


def ours(method: str, seed: int, cycles: int) -> list[float]:
    """Return the errors of our method's analyses."""
    experiment = replace(EXPERIMENT, cycles=cycles)
    return errors(Method(method, float("nan"), METHODS[method]), experiment, seed).tolist()


def dapper(method: str, seed: int, cycles: int) -> list[float]:
    """Return the errors of DAPPER's analyses, with the settings of its own file."""
    import dapper as dpr
    import dapper.da_methods as da
    from dapper.mods.Lorenz96.spantini2019 import HMM

    dpr.rc.liveplotting = False
    HMM.tseq.Ko = cycles - 1
    dpr.set_seed(seed)
    truth, observations = HMM.simulate()
    if method.startswith("ETKF"):
        run = da.EnKF("Sqrt", N=60, infl=1.10)
    else:
        run = da.iEnKS("Sqrt", N=40, infl=1.10, Lag=2)
    run.assimilate(HMM, truth, observations)
    return list(map(float, run.stats.err.rms.a))


def blocks(found: list[float]) -> list[tuple[int, float]]:
    """Return the first cycle of each whole hundred and the mean error of these."""
    starts = range(0, len(found) - BLOCK + 1, BLOCK)
    return [(k, sum(found[k : k + BLOCK]) / BLOCK) for k in starts]


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", nargs="+", type=int, default=[3000])
    parser.add_argument("--cycles", type=int, default=601)
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--dapper", action="store_true")
    arguments = parser.parse_args()
    programs: dict[str, Callable[[str, int, int], list[float]]] = {"stormda": ours}
    if arguments.dapper:
        programs["DAPPER"] = dapper
    for method in arguments.method:
        for program, run in programs.items():
            for seed in arguments.seed:
                rows: list[dict[str, object]] = [
                    {
                        "program": program,
                        "method": method,
                        "seed": seed,
                        "from_cycle": first,
                        "rmse": f"{value:.4f}",
                    }
                    for first, value in blocks(run(method, seed, arguments.cycles))
                ]
                print(program, method, seed, *(row["rmse"] for row in rows), flush=True)
                write(PATH, rows, append=PATH.exists())


if __name__ == "__main__":
    main()
