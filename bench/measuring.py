"""Time and memory of a piece of work, on a processor or a GPU, for the benches that take both."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable

import torch
from memory import peak
from torch.profiler import ProfilerActivity, profile

from stormda.attention import empty_cache

Work = Callable[[], object]


def seconds_of(work: Work, device: torch.device) -> float:
    """Return what a call takes [s]: of the processor, or by the clock on a GPU."""
    if device.type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


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


def name_of(device: torch.device) -> str:
    """Return what a device is called, in one word for the names of files."""
    if device.type == "cpu":
        return platform.machine()
    return torch.cuda.get_device_name(device).replace(" ", "-")
