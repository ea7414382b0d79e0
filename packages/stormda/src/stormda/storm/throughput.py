"""How fast a run goes, and how much of what its devices can multiply it uses.

The work of a step is three times that of its forward pass, counted once as that of the matrix
products, convolutions and attentions that PyTorch dispatches; what is computed again in the
backward pass is not counted. The peak is the rate of a product of two square matrices in the type
that the run computes in. Kernels that PyTorch does not see are not counted either: where they run,
the share is a lower bound.

Source: model-flops utilisation, Chowdhery et al. (2022), PaLM, appendix B,
https://arxiv.org/abs/2204.02311
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from stormda.io import atomic_path
from stormda.storm.objective import denoising_loss, own_part
from stormda.storm.shared_trunk import Task
from stormda.storm.training import Trainer
from stormda.storm.training_mesh import forget_gathered

HEADER = (
    "step",
    "seconds_per_step",
    "samples_per_second",
    "tokens_per_second",
    "teraflop_per_second_and_device",
    "of_matrix_peak",
)

SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows of the matrices whose product is the measure of a device."""


def matrix_peak(device: torch.device, dtype: torch.dtype, *, rounds: int = 4) -> float:
    """Return the rate of a product of two square matrices, the best of some rounds [flop/s].

    Examples:
        >>> matrix_peak(torch.device("cpu"), torch.float32) > 1e8
        True
    """
    side = SIDE.get(device.type, SIDE["cpu"])
    a = torch.ones(side, side, device=device, dtype=dtype)
    return 2 * side**3 / min(_product_seconds(a) for _ in range(rounds))


def _product_seconds(a: torch.Tensor) -> float:
    begun = time.perf_counter()
    float((a @ a)[0, 0])  # waits until the device is done
    return time.perf_counter() - begun


def work_of_sample(trainer: Trainer, task: Task) -> float:
    """Return the operations of a training step for a sample, over all ranks that share it.

    Args:
        trainer: The run.
        task: Whose sample it is.
    """
    batch = own_part(task.source, 0, task.batch, torch.arange(1), task.network.share)
    sigma, noise = torch.ones(1).to(batch.target), torch.zeros_like(batch.target)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), counter:
        denoising_loss(task.network, task.source.normalization, batch, sigma, noise)
    forget_gathered(task.network)
    sharing = [axis for axis in ("lat", "lon", "tensor") if axis in trainer.mesh.mesh.names]
    own = torch.tensor(float(counter.get_total_flops()), device=trainer.device)
    return 3 * float(trainer.mesh.comm(*sharing).all_reduce(own) if sharing else own)


class Throughput:
    """The clock of a run: follows its steps and notes in a file how fast they were.

    The first step after a start is left out: kernels are chosen and compiled in it.

    Args:
        trainer: The run.
        record: Where rates are noted, a CSV file; what it holds of later steps is dropped.
        every: Steps over which a rate is taken.
    """

    def __init__(self, trainer: Trainer, record: Path, *, every: int = 50) -> None:
        self.trainer, self.record, self.every = trainer, record, every
        self.times: list[float] = []
        self.started = False
        self.work = sum(task.batch * work_of_sample(trainer, task) for task in trainer.tasks)
        dtype = torch.bfloat16 if trainer.config.bfloat16 else torch.float32
        self.peak = matrix_peak(trainer.device, dtype)
        if trainer.mesh.rank == 0:
            self._take_up()

    def follow(self, step: int) -> None:
        """Take note of a step."""
        if not self.started:
            self.started = True
            return
        self.times.append(self.trainer.seconds)
        if step % self.every and step != self.trainer.config.steps:
            return
        if self.trainer.mesh.rank == 0:
            with self.record.open("a", newline="") as file:
                csv.writer(file).writerow([step, *(f"{x:.4g}" for x in self.rates())])
        self.times.clear()

    def rates(self) -> tuple[float, ...]:
        """Return the numbers of a row, but for the step, of the steps since the last."""
        seconds = sum(self.times) / len(self.times)
        tokens = sum(t.batch * t.network.share.whole.tokens() for t in self.trainer.tasks)
        rate = self.work / seconds / self.trainer.mesh.world.size
        samples = self.trainer.config.batch / seconds
        return seconds, samples, tokens / seconds, rate / 1e12, rate / self.peak

    def _take_up(self) -> None:
        rows: list[list[str]] = []
        if self.record.is_file():
            rows = list(csv.reader(self.record.read_text().splitlines()))[1:]
        rows = [row for row in rows if int(row[0]) <= self.trainer.step]
        with atomic_path(self.record, overwrite=True) as path, path.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])
