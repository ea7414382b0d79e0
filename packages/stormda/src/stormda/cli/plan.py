"""`stormda plan`: what a training would need on a machine that need not be there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from stormda.cli.options import json_option, parse_sizes
from stormda.cli.output import result
from stormda.io import open_store
from stormda.storm.planning import (
    AXES,
    MACHINES,
    Plan,
    make_plan,
    model_of,
    strong_scaling,
    summary,
    tokens_of,
)


@click.command(
    epilog="\b\nExamples:\n"
    "  stormda plan --grid 721x1440 --model 10M --machine laptop --devices 2 --batch 2\n"
    "  stormda plan --grid 2160x4320 --model 10B --machine frontier --devices 32768 --batch 8192\n"
    "  stormda plan --grid FIELDS.nc --model 200M --machine h200 --devices 8 --batch 64 --json"
)
@click.option("--grid", required=True, help="Rows x columns such as 721x1440, or a NetCDF file.")
@click.option("--patch", default="4,4", show_default=True, help="Rows and columns of a patch.")
@click.option("--history", default=2, show_default=True, help="Frames of history.")
@click.option(
    "--model", default="10M", show_default=True, help="Size of the ladder: 10M, 200M or 10B."
)
@click.option("--machine", type=click.Choice(list(MACHINES)), default="laptop", show_default=True)
@click.option("--devices", default=1, show_default=True, help="Devices that take part.")
@click.option("--batch", default=16, show_default=True, help="Samples of a step, on all devices.")
@click.option("--mesh", help="Sizes such as replica=4,shard=8; by default the quickest that fits.")
@json_option
def plan(
    grid: str,
    patch: str,
    history: int,
    model: str,
    machine: str,
    devices: int,
    batch: int,
    mesh: str | None,
    as_json: bool,
) -> None:
    """Predict tokens, memory and time of a training step, and how it scales.

    Nothing is allocated. The numbers of the machines are in stormda.parallel.cost, the assumed
    ones marked there.
    """
    tokens = tokens_of(_shape(grid), _pair("--patch", patch, ","))
    made = make_plan(
        MACHINES[machine],
        model_of(model, tokens),
        devices=devices,
        batch=batch,
        history=history,
        mesh=None if mesh is None else parse_sizes(mesh),
    )
    values, scaling = summary(made), strong_scaling(made)
    text = "\n".join([*_lines(values), "", *_table(scaling), "", _command(made)])
    result(text, {**values, "strong_scaling": scaling}, as_json=as_json)


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{name.replace('_', ' '):<24}{_number(value)}" for name, value in values.items()]


def _table(scaling: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = [f"{'devices':>8}  {'division':<48}{'step [s]':>10}{'efficiency':>12}"]
    for row in scaling:
        division = " x ".join(f"{axis} {row[axis]}" for axis in AXES if row[axis] > 1) or "alone"
        numbers = f"{row['seconds']:>10.3g}{row['efficiency']:>12.2f}"
        lines.append(f"{row['devices']:>8}  {division:<48}{numbers}")
    return lines


def _command(made: Plan) -> str:
    """Return how such a training is started."""
    model, devices = made.run.model, made.run.devices
    nodes = -(-devices // made.machine.devices_per_node)
    start = f"torchrun --nnodes {nodes} --nproc-per-node {min(devices, devices // nodes)}"
    return (
        f"{start} -m stormda train FIELDS.nc --variables NAMES --out DIR "
        f"--mesh {_sizes(made)} "
        f"--set network.width={model.width} --set network.heads={model.heads} "
        f"--set network.depth={model.depth} --set training.batch={int(made.run.batch)}"
    )


def _sizes(made: Plan) -> str:
    """Return the division as `stormda train` takes it: a sequence is cut into rectangles."""
    run = made.run
    lat = 2 ** (run.sequence.bit_length() // 2)
    lon = run.sequence // lat if run.sequence % lat == 0 else 1
    sizes = {"replica": run.replica, "shard": run.shard, "lat": run.sequence // lon, "lon": lon}
    sizes["tensor"] = run.tensor
    return ",".join(f"{axis}={n}" for axis, n in sizes.items() if n > 1 or axis == "replica")


def _shape(text: str) -> tuple[int, int]:
    if "x" in text and all(part.isdigit() for part in text.split("x")):
        return _pair("--grid", text, "x")
    rows, cols = open_store(text).grid.shape
    return rows, cols


def _pair(option: str, text: str, separator: str) -> tuple[int, int]:
    parts = text.split(separator)
    if len(parts) != 2 or not all(part.strip().isdigit() and int(part) for part in parts):
        raise ValueError(
            f"{option}: expected two positive numbers such as 4{separator}4, got {text!r}"
        )
    return int(parts[0]), int(parts[1])


def _number(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
