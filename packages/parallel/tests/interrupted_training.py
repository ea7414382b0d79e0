"""One run that is killed, hangs and is told to stop, and goes on on another mesh each time.

    python interrupted_training.py DIRECTORY FAILURE STEP AXIS=SIZE ...

FAILURE happens to the last rank in the middle of step STEP: `kill`, `hang`, `stop` (a SIGTERM,
upon which the run saves at the next boundary and ends) or `none`.
"""

import math
import os
import signal
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch._dynamo  # what the first step of every forked rank would import
from field_model import AXES, BATCH, SAMPLES, adam, batch_loss, built

from stormda.parallel import (
    Interruption,
    Mesh,
    SampleCursor,
    clip_gradients,
    launch,
    open_parts,
    optimizer_options,
    reduce_gradients,
    restore_training,
    save_parts,
    training_parts,
    whole_gradient_norm,
)

STEPS, EVERY = 8, 2
PATIENCE = timedelta(seconds=30)  # in which a loaded machine takes a step of this small model


def fail(kind: str) -> None:
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        time.sleep(3600)
    if kind == "stop":
        os.kill(os.getpid(), signal.SIGTERM)


def train(directory: Path, failure: str, fatal: int, sizes: dict[str, int]) -> None:
    plan = Mesh(dict.fromkeys(AXES, 1) | sizes)
    cpu = torch.device("cpu")
    with launch(plan, device=cpu, timeout=PATIENCE) as mesh, Interruption(mesh.world) as stop:
        net = built(mesh)
        optimizer, done = adam(net), 0
        cursor = SampleCursor(samples=SAMPLES, seed=1)
        if directory.exists():
            checkpoint = open_parts(directory, comm=mesh.world)
            restore_training(checkpoint, net, optimizer, checkpoint.state["options"])
            done, cursor = checkpoint.step, SampleCursor(**checkpoint.state["cursor"])
        ended = False
        while done < STEPS and not ended:
            indices, cursor = cursor.take(BATCH)
            optimizer.zero_grad()
            batch_loss(net, mesh, indices).backward()
            if done + 1 == fatal and mesh.rank == mesh.world.size - 1:
                fail(failure)
            reduce_gradients(net, mesh)
            clip_gradients(net.parameters(), 0.5, norm=whole_gradient_norm(net, mesh))
            optimizer.step()
            done, ended = done + 1, stop()
            if done % EVERY == 0 or ended:
                state = {"options": optimizer_options(optimizer), "cursor": vars(cursor)}
                save_parts(directory, done, training_parts(net, optimizer), state, mesh=mesh)


def start(rank: int, size: int, port: int) -> int:
    """Start a rank; a fork, so that torch is imported once."""
    process = os.fork()
    if process:
        return process
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        sizes = {axis: int(n) for axis, n in (word.split("=") for word in sys.argv[4:])}
        train(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sizes)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Start the ranks; once the others have ended, end one that hangs, as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    size = math.prod(int(word.split("=")[1]) for word in sys.argv[4:])
    ranks = [start(rank, size, port) for rank in range(size)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks[:-1]]
    if sys.argv[2] == "hang":
        os.kill(ranks[-1], signal.SIGKILL)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(ranks[-1], 0)[1]))
    print(*codes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
