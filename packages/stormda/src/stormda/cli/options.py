"""Options that several commands share, and how settings are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from stormda.cli.output import LOG
from stormda.parallel import Mesh
from stormda.storm.config import to_dict
from stormda.storm.settings import to_toml

set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change one setting, such as network.width=96; may be given several times.",
)

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace an output that exists already."
)

prior_option = click.option(
    "--prior",
    "prior_path",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of a training, or a prior's file.",
)

history_option = click.option(
    "--history", required=True, help="NetCDF file with the frames before the start."
)

error_option = click.option(
    "--error", type=float, help="Standard deviation of observations that state none [SI units]."
)

observed_option = click.option(
    "--observed",
    multiple=True,
    metavar="VARIABLE=NAME",
    help="What a variable of the prior is called among the observations, if not the same.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object, for scripts."
)

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu"]),
    default="auto",
    show_default=True,
    help="Where to compute: on the accelerator if there is one, or on the CPU.",
)


mesh_option = click.option(
    "--mesh",
    "mesh_sizes",
    metavar="AXIS=N,...",
    help="How processes share the work, such as lat=2,lon=2,tensor=4: fields and heads; the rest "
    "shares batches (replica) or members (member). A training also knows shard: parameters.",
)


def parse_sizes(text: str) -> dict[str, int]:
    """Return the sizes of the axes of a mesh, by name.

    Raises:
        ValueError: Where the text is something else, or a size is not positive.

    Examples:
        >>> parse_sizes("replica=4,shard=8")
        {'replica': 4, 'shard': 8}
    """
    items = [item.partition("=") for item in text.split(",")]
    if not all(sign and size.strip().isdigit() and int(size) for _, sign, size in items):
        raise ValueError(f"--mesh: expected sizes such as replica=4,shard=8, got {text!r}")
    return {axis.strip(): int(size) for axis, _, size in items}


def parse_mesh(text: str | None, axes: tuple[str, ...]) -> Mesh:
    """Return a mesh of some axes: what is not named is 1, but for the first, which fills it.

    Raises:
        ValueError: Where the text names another axis, or is something else.

    Examples:
        >>> parse_mesh("tensor=2,lat=2", ("replica", "lat", "lon", "tensor")).filled(8).sizes
        (2, 2, 1, 2)
    """
    named = {} if text is None else parse_sizes(text)
    unknown = sorted(set(named) - set(axes))
    if unknown:
        raise ValueError(f"--mesh: expected axes among {', '.join(axes)}, got {unknown}")
    return Mesh(dict.fromkeys(axes, 1) | {axes[0]: -1} | named)


def parse_assignments(items: Sequence[str]) -> dict[str, str]:
    """Return fields and values from texts such as "network.width=96".

    Raises:
        ValueError: Where a text has no "=".

    Examples:
        >>> parse_assignments(["network.width=96", "seed=3"])
        {'network.width': '96', 'seed': '3'}
    """
    for item in items:
        if "=" not in item:
            raise ValueError(f"--set: expected FIELD=VALUE, got {item!r}")
    return dict(item.split("=", 1) for item in items)


def parse_names(text: str, option: str) -> tuple[str, ...]:
    """Return names that commas separate.

    Raises:
        ValueError: Where there is none.

    Examples:
        >>> parse_names("u10, v10", "--variables")
        ('u10', 'v10')
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError(f"{option}: expected names separated by commas, got {text!r}")
    return names


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to write where something is.

    Raises:
        FileExistsError: Where the path exists and `--overwrite` was not given.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path}: expected an output that does not exist yet, got an existing one "
            "(pass --overwrite to replace it)"
        )


def show_settings(settings: Any, *, as_json: bool = False) -> None:  # noqa: ANN401
    """Print a dataclass of settings as TOML: on stdout, or in the log if that is kept for JSON."""
    text = to_toml(to_dict(settings))
    if as_json or quiet():
        LOG.debug(text)
    else:
        click.echo(text)


def quiet() -> bool:
    """Return whether the command was asked to print nothing but results."""
    context = click.get_current_context(silent=True)
    return bool(context and context.find_root().params.get("quiet"))
