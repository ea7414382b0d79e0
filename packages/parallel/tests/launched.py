"""A program as users write it: one script for any launcher and any number of processes.

torchrun --nproc-per-node 4 launched.py          checks the groups of a 2 x 2 mesh
RANK=1 WORLD_SIZE=2 ... python launched.py fail  the last rank fails, the others wait for it
mpiexec -n 2 python launched.py fail mpi         the same over MPI
mpiexec -n 2 python launched.py hang mpi         the last rank does not come
"""

import sys
import threading
from datetime import timedelta

import torch

from stormda.parallel import Mesh, SelfComm, StartedMesh, launch


def check_groups(mesh: StartedMesh) -> None:
    ranks = torch.tensor([mesh.rank])
    for axes in [(), ("replica",), ("lon",), ("lon", "replica"), ("lat",), mesh.mesh.names]:
        comm, expected = mesh.comm(*axes), mesh.mesh.group(mesh.rank, *axes)
        assert comm.all_gather(ranks).tolist() == expected
        assert expected[comm.rank] == mesh.rank
        assert comm is mesh.comm(*reversed(axes))
    assert isinstance(mesh.comm("lat"), SelfComm)
    assert mesh.coordinate("replica") * 2 + mesh.coordinate("lon") == mesh.rank


def check_groups_do_not_wait_for_each_other(mesh: StartedMesh) -> None:
    """Different groups may work at different times without waiting for each other."""
    if mesh.coordinate("replica") == 0:
        mesh.comm("lon").barrier()
    mesh.comm("lon").barrier()
    mesh.comm("replica").barrier()


def fail(how: str, backend: str = "auto") -> None:
    patience = timedelta(seconds=2 if how == "hang" else 1000)
    with launch(Mesh({"replica": -1}), backend=backend, timeout=patience) as mesh:
        if mesh.rank == mesh.size("replica") - 1:
            if how == "hang":
                threading.Event().wait()
            threading.Thread(target=threading.Event().wait).start()  # as a stuck reader would
            raise RuntimeError("the last rank fails")
        mesh.world.barrier()


def main() -> None:
    if sys.argv[1:]:
        fail(*sys.argv[1:])
    with launch(
        Mesh({"replica": 2, "lat": 1, "lon": -1}),
        device=torch.device("cpu"),
        timeout=timedelta(minutes=5),
    ) as mesh:
        check_groups(mesh)
        check_groups_do_not_wait_for_each_other(mesh)
        if mesh.rank == 3:
            print(mesh.describe())


if __name__ == "__main__":
    main()
