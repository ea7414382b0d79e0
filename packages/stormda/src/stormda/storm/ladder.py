"""The network at the published sizes, and the ways in which its tokens may mix.

    10M     256 features    4 + 4 blocks     a laptop
    200M    1024 features   4 + 6 blocks     a GPU
    10B     3072 features   20 + 44 blocks   a machine

blocks of the encoder, which run once per analysis, and of the trunk, which run at every denoising
step. Widths are those of STORM, https://arxiv.org/abs/2604.16590, whose 6, 8 and 40 layers have
another make; here depths are chosen so that the numbers of parameters are those of the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from stormda.storm.config import StormConfig

SIZES: MappingProxyType[str, Mapping[str, Any]] = MappingProxyType(
    {
        "10M": {"width": 256, "heads": 4, "encoder_depth": 4, "depth": 4},
        "200M": {"width": 1024, "heads": 16, "encoder_depth": 4, "depth": 6},
        "10B": {"width": 3072, "heads": 24, "encoder_depth": 20, "depth": 44},
    }
)
"""Widths, heads and depths by the name of the size."""

MODES: MappingProxyType[str, Mapping[str, Any]] = MappingProxyType(
    {
        "linear": {"mixer": "linear"},
        "hybrid": {"mixer": "tile+linear"},
        "full": {"mixer": "full"},
        "storm": {"mixer": "full", "network_tiles": (2, 4)},
    }
)
"""How tokens mix, by name: globally at linear cost; this beside exact attention in tiles; exactly
and globally, at quadratic cost, a reference; and, as in the paper, exactly in tiles that the whole
network takes one by one."""


def ladder(size: str, variables: tuple[str, ...], *, mode: str = "linear") -> StormConfig:
    """Return the network of a size.

    Args:
        size: One of `SIZES`.
        variables: The fields.
        mode: One of `MODES`.

    Raises:
        ValueError: If there is no such size or mode.

    Examples:
        >>> config = ladder("200M", ("t2m", "msl"), mode="storm")
        >>> config.width, config.depth, config.network_tiles
        (1024, 6, (2, 4))
    """
    if size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    return replace(StormConfig(variables=variables, clock=True), **SIZES[size], **MODES[mode])
