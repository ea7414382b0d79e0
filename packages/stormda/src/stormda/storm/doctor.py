"""What a machine offers: packages, processors, backends, and what would make it faster."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from stormda.attention import backend_report

OURS = (
    "stormda",
    "stormda-grid",
    "stormda-attention",
    "stormda-parallel",
    "stormda-assimilation",
    "stormda-io",
)
"""Our distributions."""

NEEDED = ("torch", "numpy", "scipy", "xarray", "h5py", "h5netcdf", "matplotlib")
"""What the commands cannot do without."""

EXTRAS: Mapping[str, str] = {
    "zarr": "Zarr stores",
    "pyarrow": "observations in Parquet",
    "dask": "xarray objects larger than memory",
    "mpi4py": "communicators over MPI",
    "triton": "fused kernels on an accelerator",
}
"""What more can be installed, and what it is for."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found on a machine."""

    packages: Mapping[str, str]
    """Versions by distribution; "not installed" where there is none."""

    machine: Mapping[str, str]
    """Processor, threads, memory, accelerators."""

    attention: Mapping[str, str]
    """What each backend of linear attention says of itself."""

    distributed: Mapping[str, str]
    """Which collectives work, and what starts processes."""

    advice: tuple[str, ...]
    """What would make it faster, or would be needed for more."""

    @property
    def text(self) -> str:
        """Return all of it for people."""
        blocks = []
        for title in ("packages", "machine", "attention", "distributed"):
            entries: Mapping[str, str] = getattr(self, title)
            width = max(map(len, entries))
            blocks.append(
                f"{title}\n" + "\n".join(f"  {k:{width}}  {v}" for k, v in entries.items())
            )
        advice = [f"  - {line}" for line in self.advice] or ["  nothing"]
        return "\n\n".join([*blocks, "advice\n" + "\n".join(advice)])

    @property
    def values(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return asdict(self)


def examine() -> Diagnosis:
    """Look at this machine; nothing is built, downloaded or changed.

    Examples:
        >>> found = examine()
        >>> found.attention["plain"], sorted(found.values)
        ('ready', ['advice', 'attention', 'distributed', 'machine', 'packages'])
    """
    packages = {name: _version(name) for name in (*OURS, *NEEDED, *EXTRAS)}
    machine, attention, distributed = _machine(), backend_report(), _distributed()
    return Diagnosis(
        packages, machine, attention, distributed, tuple(_advice(packages, attention))
    )


def _machine() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "processor": f"{cores} cores, torch uses {torch.get_num_threads()} threads",
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if sys.platform == "linux":
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found["memory"] = f"{pages / 2**30:.1f} GiB"
    built = torch.version.cuda and f"CUDA {torch.version.cuda}"
    built = built or (torch.version.hip and f"ROCm {torch.version.hip}")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            found[f"accelerator {number}"] = (
                f"{device.name}, {device.total_memory / 2**30:.0f} GiB, {built}"
            )
    else:
        found["accelerator"] = f"none (this torch is built for {built or 'processors only'})"
    return found


def _distributed() -> dict[str, str]:
    there = torch.distributed.is_available()
    found = {
        "gloo": _answer(there and torch.distributed.is_gloo_available()),
        "nccl": _answer(there and torch.distributed.is_nccl_available()),
        "mpi (mpi4py)": _version("mpi4py"),
    }
    starters = ("torchrun", "mpiexec", "srun")
    return found | {name: _answer(shutil.which(name) is not None) for name in starters}


def _advice(packages: Mapping[str, str], attention: Mapping[str, str]) -> list[str]:
    lines = []
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if "OMP_NUM_THREADS" in os.environ and threads < cores:
        lines.append(f"torch uses {threads} of {cores} cores: unset or raise OMP_NUM_THREADS")
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi") or shutil.which("rocm-smi"):
            lines.append(
                "an accelerator's tools are here, but this torch cannot use one: see pytorch.org"
            )
        else:
            lines.append("no accelerator: large networks will be slow")
    if attention["native"] != "ready":
        lines.append(
            "bfloat16 attention in C++ is not built: "
            "python -c 'from stormda.attention import native; native.build()'"
        )
    for name, purpose in EXTRAS.items():
        if packages[name] == "not installed" and (name != "triton" or torch.cuda.is_available()):
            lines.append(f"{name} is not installed ({purpose}): pip install {name}")
    return lines


def _answer(works: bool) -> str:
    return "available" if works else "not here"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
