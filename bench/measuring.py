"""Time and memory of a piece of work, on a processor or a GPU, for the benches that take both."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import torch
from memory import peak
from torch.profiler import ProfilerActivity, profile

from stormda.attention import empty_cache

Work = Callable[[], object]


def seconds_of(work: Work, device: torch.device) -> float:
    """Return the time of one call: the processor's, or on a GPU that of the clock."""
    start = clock(device)
    work()
    return clock(device) - start


def clock(device: torch.device) -> float:
    """Return the processor's time; of a GPU that of the clock, once it has done its work [s]."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_of(work: Work, device: torch.device) -> int:
    """Return the most memory that PyTorch has allocated at once in a call [B]."""
    if device.type == "cpu":
        empty_cache()  # what is kept for results would not be allocated again
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            work()
        return peak(record)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def process_peak(device: torch.device) -> int:
    """Return the most memory that this process has held so far, or PyTorch on a GPU [B]."""
    if device.type == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated(device)


def device_of(name: str) -> torch.device:
    """Return a device by its name.

    Raises:
        ValueError: There is no GPU, and one is asked for.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: expected cpu, as PyTorch sees no GPU here, got {name}")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def table_name(name: str, device: torch.device) -> str:
    """Return the name of a table; measurements on a GPU have one of their own."""
    return name if device.type == "cpu" else f"{name}_{device.type}"
