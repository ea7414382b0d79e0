"""The five-axis layout of 32 ranks, rank by rank in one process, over a backend without wires.

python whole_machine.py
"""

import math
from collections import Counter

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from field_model import AXES, built, over
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from stormda.parallel import module_parts, part_of
from stormda.parallel.layout import check_cover


def as_rank(rank: int, size: int) -> None:
    dist.init_process_group("fake", rank=rank, world_size=size, store=FakeStore())


Box = tuple[slice, ...]


def layout_of(rank: int) -> dict[str, tuple[tuple[int, ...], int, Box]]:
    """Return shape, number of elements on all shards, and own box, of every parameter."""
    as_rank(rank, 32)
    mesh = over(**dict.fromkeys(AXES, 2))
    net = built(mesh)
    assert all(isinstance(p, DTensor) for p in net.parameters())
    return {
        name: (part.shape, net.get_parameter(name).numel(), part.box)
        for name, part in module_parts(net).items()
    }


def check_five_axes_of_two_hold_every_parameter_as_often_as_they_should() -> None:
    """Sharded by 2, and cut by 2 or not: copies on three axes, or four."""
    with mp.get_context("fork").Pool(1, maxtasksperchild=1) as pool:  # torch caches its own rank
        layouts = pool.map(layout_of, range(32), chunksize=1)
    for name, (shape, sharded, _) in layouts[0].items():
        boxes = Counter(
            tuple((side.start, side.stop) for side in layout[name][2]) for layout in layouts
        )
        filled = {
            place: n for place, n in boxes.items() if all(first < last for first, last in place)
        }
        check_cover(name, shape, [tuple(slice(*side) for side in place) for place in filled])
        assert set(filled.values()) == {8 if sharded < math.prod(shape) else 16}, name


def check_shards_of_other_lengths_than_dtensor_believes_are_refused() -> None:
    """torch.chunk gives 3, 3, 3, 0 of nine; of 3, 2, 2, 2 DTensor would read the last wrongly."""
    as_rank(3, 4)
    try:
        mesh = init_device_mesh("cpu", (4,))
        x = DTensor.from_local(
            torch.ones(2), mesh, [Shard(0)], run_check=False, shape=(9,), stride=(1,)
        )
        with pytest.raises(ValueError, match=r"^data: expected 0 along dimension 0, got 2$"):
            part_of(x)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    check_five_axes_of_two_hold_every_parameter_as_often_as_they_should()
    check_shards_of_other_lengths_than_dtensor_believes_are_refused()
