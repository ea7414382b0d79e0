"""Where a number came from: settings, versions, commit, machine; stored in every file we write."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("stormda", "torch", "numpy")
"""Distributions whose versions are recorded."""


def provenance(settings: Any = None, **extra: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a JSON-able record of this run.

    Args:
        settings: A dataclass, stored field by field.
        extra: Further entries, such as seeds and checksums of inputs.

    Examples:
        >>> sorted(provenance(seed=3))
        ['commit', 'created', 'machine', 'seed', 'versions']
    """
    record: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": commit(),
        "machine": machine(),
    }
    if settings is not None:
        record["settings"] = dataclasses.asdict(settings)
    return record | extra


def commit() -> str:
    """Return the commit of the source tree that runs, or "unknown" outside of one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def machine() -> str:
    """Return the processor, or the accelerator, that computes here."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
