"""Train the demo prior.

    python tools/train_sqg.py --out DIR [--set field=value]

Simulates an archive, fits the prior and writes prior.safetensors, climatology.safetensors and
training.csv. Run again, it goes on.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

from stormda.parallel import Interruption
from stormda.storm.config import override
from stormda.storm.network import StormNetwork, parameter_count
from stormda.storm.recipes import sqg
from stormda.storm.twin.training import sqg_grid, train_sqg


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    recipe = override(sqg(), dict(item.split("=", 1) for item in arguments.set))
    print(json.dumps(dataclasses.asdict(recipe), indent=1))
    size = parameter_count(StormNetwork(recipe.network, sqg_grid(recipe)))
    print(f"{size:,} parameters")
    begun = time.time()
    recent: list[float] = []

    def report(step: int, loss: float) -> None:
        recent.append(loss)
        if step % 200 == 0:
            mean = sum(recent[-200:]) / len(recent[-200:])
            print(f"step {step:6d}  loss {mean:.4f}  {time.time() - begun:7.1f} s", flush=True)

    with Interruption() as interrupted:
        train_sqg(recipe, arguments.out, progress=report, interrupted=interrupted)


if __name__ == "__main__":
    main()
