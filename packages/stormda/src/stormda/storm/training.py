"""Fit a prior: warm-up and cool-down, an exponential moving average, exact resumption.

Everything random in step k is a function of (seed, k), drawn for the global batch and then shared
out, so that a run that was killed, or that runs on another mesh of ranks, sees the same numbers:

    replica     samples of a batch
    shard       samples likewise, and parameters, gradients and moments (FSDP2)
    lat, lon    cells of every field
    tensor      heads and hidden features of every block
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stormda.parallel import (
    Part,
    PartsCheckpoint,
    StartedMesh,
    clip_gradients,
    local_of,
    module_parts,
    open_parts,
    optimizer_options,
    part_of,
    recompute,
    reduce_gradients,
    restore_training,
    save_parts,
    splits,
    training_parts,
    whole_gradient_norm,
)
from stormda.storm.network import StormNetwork
from stormda.storm.objective import AnySource, Batch, denoising_loss, own_part
from stormda.storm.optimizer import optimizer_of
from stormda.storm.shared_trunk import SharedTrunk, Task, tasks_of
from stormda.storm.streams import stream
from stormda.storm.training_config import TrainingConfig
from stormda.storm.training_mesh import (
    divides,
    forget_gathered,
    samples_comm,
    shard_network,
)

_NOISE = 1
"""What a stream of the training is for (`streams`): its noise."""

AVERAGE = "average/"
"""How the names of averaged weights begin in a checkpoint."""

Progress = Callable[[int, float], None]
"""Called with (step, loss) after every optimiser step."""


class Divergence(RuntimeError):
    """The loss or a gradient is no longer finite; the last checkpoint is still good."""


class Trainer:
    """One training run in a directory that holds its checkpoints and its log.

    Args:
        network: The network, on its device and, if ranks share it, made for `mesh`, or those of
            several sources; the weights are the start.
        source: Samples; of several sources by name, with how many each has in a batch.
        config: The settings.
        directory: For checkpoints and `training.csv`; None keeps nothing.
        mesh: The ranks that train it together, with axes among those of the module; None for one
            process.
        metadata: JSON-able description stored in every checkpoint.

    Raises:
        ValueError: If the network was not made for the mesh, or there are fewer samples in a batch
            than passes over all ranks.
    """

    def __init__(
        self,
        network: StormNetwork | SharedTrunk,
        source: AnySource | Mapping[str, tuple[AnySource, int]],
        config: TrainingConfig,
        *,
        directory: Path | None = None,
        mesh: StartedMesh | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.module, self.config = network, config
        self.tasks = tasks_of(network, source, config)
        self.network, self.source = self.tasks[0].network, self.tasks[0].source
        self.directory, self.metadata = directory, metadata or {}
        self.device = next(network.parameters()).device
        self.mesh = StartedMesh.alone(self.device) if mesh is None else mesh
        if divides(self.mesh) and network.mesh is not self.mesh:
            raise ValueError(f"network: expected one made for the mesh {self.mesh.mesh}")
        least = config.passes * samples_comm(self.mesh).size
        if min(task.batch for task in self.tasks) < least:
            raise ValueError(
                f"batch: expected at least {least}, a sample for each of {config.passes} passes "
                f"of {samples_comm(self.mesh).size} ranks, "
                f"got {', '.join(str(task.batch) for task in self.tasks)}"
            )
        if config.recompute:
            recompute(network.blocks)
        if config.compile:
            network.compile_blocks()
        shard_network(network, self.mesh)
        self.parameters: list[Tensor] = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = optimizer_of(self.parameters, config, self.mesh)
        self.weight = self.tasks[0].weight
        self.average = [local_of(p).detach().clone() for p in self.parameters]
        self.step = 0
        self.seconds = 0.0
        """What the last step took [s]."""

    def run(
        self,
        *,
        progress: Progress | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        enough: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the last step, or to the next step boundary once `interrupted` is true.

        Args:
            progress: Called after every step.
            interrupted: Polled after every step.
            enough: Polled before every step; a run that has trained enough is done.

        Returns:
            Whether the run is done; False where it was interrupted.

        Raises:
            Divergence: Where the loss is no longer finite.
        """
        while self.step < self.config.steps and not enough():
            begun = time.perf_counter()
            loss = self._advance()
            self.seconds = time.perf_counter() - begun
            if progress is not None:
                progress(self.step, loss)
            stop = interrupted()
            if stop or self.step % self.config.checkpoint_every == 0:
                self.save()
            if stop:
                return False
        self.save()
        return True

    def averaged(self) -> StormNetwork:
        """Put the averaged weights into the network and return it, ready for use.

        Of several sources it is that of the first; the others have the averaged weights too.
        """
        with torch.no_grad():
            for parameter, mean in zip(self.parameters, self.average, strict=True):
                local_of(parameter).copy_(mean)
        self.module.eval().requires_grad_(False)
        return self.network

    @contextmanager
    def averaging(self) -> Iterator[None]:
        """Let the network have the averaged weights for as long as the context lasts."""
        own = [local_of(p).detach() for p in self.parameters]
        kept = [x.clone() for x in own]
        torch._foreach_copy_(own, self.average)
        try:
            yield
        finally:
            torch._foreach_copy_(own, kept)
            forget_gathered(self.network)

    def averaged_parts(self) -> dict[str, Part]:
        """Return this rank's parts of the averaged weights, by the names of the parameters."""
        names = [name for name, p in self.module.named_parameters() if p.requires_grad]
        parts, declared = module_parts(self.module), splits(self.module)
        found = {}
        for name, mean in zip(names, self.average, strict=True):
            fused = name in declared and declared[name].blocks > 1
            found[name] = part_of(mean, declared[name]) if fused else parts[name].like(mean)
        return found

    def save(self) -> None:
        """Write a checkpoint, where there is a directory."""
        if self.directory is None:
            return
        parts = training_parts(self.module, self.optimizer)
        parts |= {f"{AVERAGE}{name}": part for name, part in self.averaged_parts().items()}
        state = {
            "optimizer": optimizer_options(self.optimizer),
            "source": self.source.state_dict(),
            "others": [task.source.state_dict() for task in self.tasks[1:]],
        }
        save_parts(
            self.directory / "checkpoints", self.step, parts, state, self.metadata, mesh=self.mesh
        )

    def resume(self) -> int:
        """Load the newest intact checkpoint, if there is one, and return the step it is at.

        Raises:
            DamagedCheckpoint: Where there are checkpoints and none is intact.
        """
        if self.directory is None or not (self.directory / "checkpoints").is_dir():
            return 0
        try:
            checkpoint = self.checkpoint()
        except FileNotFoundError:
            return 0
        restore_training(checkpoint, self.module, self.optimizer, checkpoint.state["optimizer"])
        checkpoint.fill({f"{AVERAGE}{n}": part for n, part in self.averaged_parts().items()})
        states = [checkpoint.state["source"], *checkpoint.state.get("others", [])]
        for task, state in zip(self.tasks, states, strict=True):
            task.source.load_state_dict(state)
        self.step = checkpoint.step
        self._drop_log_after(self.step)
        return self.step

    def checkpoint(self) -> PartsCheckpoint:
        """Open the newest intact checkpoint of the run.

        Raises:
            FileNotFoundError: Where there is none.
            DamagedCheckpoint: Where none is intact.
        """
        if self.directory is None:
            raise FileNotFoundError("directory: expected one with checkpoints, got None")
        return open_parts(self.directory / "checkpoints", comm=self.mesh.world, fallback=True)

    def _advance(self) -> float:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        for number, task in enumerate(self.tasks):
            loss = loss + self._backward(*self._part(number), task)
        reduce_gradients(self.module, self.mesh)
        norm = whole_gradient_norm(self.module, self.mesh)
        clip_gradients(self.parameters, config.clip, norm=norm)
        value = float(self.mesh.comm(*self._adding()).all_reduce(loss))
        if not math.isfinite(value) or not bool(torch.isfinite(norm)):
            raise Divergence(
                f"step {self.step}: expected a finite loss and gradient, got loss {value} and "
                f"norm {float(norm)}; the last checkpoint is intact, a lower rate may help"
            )
        self.optimizer.step()
        own = [local_of(p) for p in self.parameters]
        with torch.no_grad():
            torch._foreach_lerp_(self.average, own, self._average_weight())
        self.step += 1
        self._log(value)
        return value

    def _backward(
        self, batch: Batch, sigma: Tensor, noise: Tensor, task: Task | None = None
    ) -> Tensor:
        """Add up gradients pass by pass, and return this rank's part of the loss."""
        task = self.tasks[0] if task is None else task
        config, total = self.config, torch.zeros((), device=self.device)
        for part in torch.arange(len(sigma)).tensor_split(config.passes):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
                losses = denoising_loss(
                    task.network,
                    task.source.normalization,
                    batch if config.passes == 1 else batch.select(part),
                    sigma[part],
                    noise[part],
                    weight=task.weight,
                    variation=config.variation,
                )
            loss = losses.sum() / config.batch
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        return total

    def _adding(self) -> list[str]:
        """Return the axes whose ranks' losses add up."""
        return [name for name in self.mesh.mesh.names if name != "tensor"]

    def _average_weight(self) -> float:
        """Let the average forget its start: (1 + k) / (10 + k) until it reaches the decay."""
        return 1 - min(self.config.ema, (1 + self.step) / (10 + self.step))

    def _noise(self, number: int = 0) -> tuple[Tensor, Tensor]:
        """Return levels and noise for the samples of a source, by its number."""
        task = self.tasks[number]
        further = [number] if number else []
        generator = stream(self.config.seed, _NOISE, self.step, *further)
        sigma = self.config.noise.draw(task.batch, generator)
        shape = (task.batch, task.network.config.channels, *task.network.grid.shape)
        noise = torch.randn(shape, generator=generator)
        return sigma.to(self.device), noise.to(self.device)

    def _part(self, number: int = 0) -> tuple[Batch, Tensor, Tensor]:
        """Return this rank's samples and cells of a source, by its number, levels and noise."""
        task, comm = self.tasks[number], samples_comm(self.mesh)
        share, (sigma, noise) = task.network.share, self._noise(number)
        mine = torch.arange(comm.rank, task.batch, comm.size)
        batch = own_part(task.source, self.step, task.batch, mine, share)
        return batch, sigma[mine], share.cut(noise[mine])

    def _log(self, loss: float) -> None:
        if self.directory is None or self.mesh.rank:
            return
        path = self.directory / "training.csv"
        new = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "loss", "learning_rate"])
            writer.writerow([self.step, repr(loss), repr(self.config.rate(self.step - 1))])

    def _drop_log_after(self, step: int) -> None:
        path = self.directory / "training.csv" if self.directory else None
        if path is None or not path.is_file() or self.mesh.rank:
            return
        header, *rows = path.read_text().splitlines()
        kept = [row for row in rows if int(row.split(",")[0]) <= step]
        path.write_text("\n".join([header, *kept]) + "\n")
