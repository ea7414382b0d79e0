"""The whole model on a mesh of ranks is the whole model on one."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stormda.cli.options import parse_mesh
from stormda.grid import Patching, PlaneGrid, grid
from stormda.parallel import Mesh, SelfComm, StartedMesh
from stormda.parallel.placement import Placement
from stormda.storm import (
    Normalization,
    Storm,
    StormConfig,
    StormNetwork,
    Trainer,
    TrainingConfig,
)
from stormda.storm.ensemble_share import EnsembleShare
from stormda.storm.field_share import FieldShare
from stormda.storm.files import Split
from stormda.storm.prior_training import fit_prior
from stormda.storm.real_recipes import small
from stormda.storm.training_mesh import MESH_AXES, take_up
from stormda.storm.trial import TrialConfig


class Of(SelfComm):
    """A rank of many, on paper."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size


def on_paper(**sizes: int) -> StartedMesh:
    """Return the first rank of a mesh of one axis."""
    ((axis, size),) = sizes.items()
    placement = Placement(launcher="a test", rank=0, size=size)
    cpu = torch.device("cpu")
    return StartedMesh(Mesh(sizes), placement, cpu, {(axis,): Of(0, size)}, session=None)


def on_four_ranks(program: str, *arguments: str) -> None:
    """Run a program of this folder under torchrun; it must end well."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    path = Path(__file__).with_name(program)
    done = subprocess.run(
        [*launcher, "--nproc-per-node=4", str(path), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hybrid", "storm"])
def test_four_ranks_are_one(mode: str, tmp_path: Path) -> None:
    """Loss, gradients and norm; steps that change the mesh on the way; joined fields."""
    on_four_ranks("whole_model.py", mode, str(tmp_path))


@pytest.mark.slow
def test_a_run_of_files_on_four_ranks_is_that_on_one(tmp_path: Path) -> None:
    """Trials choose the weights, members and tiles are shared; both change their mesh once."""
    on_four_ranks("whole_run.py", str(tmp_path))


CONFIG = StormConfig(variables=("a",), patch=(2, 2), width=16, heads=4, encoder_depth=1, depth=1)


@pytest.mark.parametrize(
    ("on", "mesh", "message"),
    [
        (
            grid("healpix4"),
            on_paper(lat=2),
            "mesh: expected a grid of rows and columns where fields are cut over ('lat', 'lon'), "
            "got HealpixGrid",
        ),
        (
            PlaneGrid((9, 8), spacing_m=(1.0, 1.0)),
            on_paper(lon=2),
            "mesh: expected rows and columns that the patch (2, 2) divides where fields are cut "
            "over ('lat', 'lon'), got (9, 8)",
        ),
        (
            PlaneGrid((4, 8), spacing_m=(1.0, 1.0)),
            on_paper(lat=3),
            "mesh: expected at most 2 ranks along lat, got 3",
        ),
        (
            PlaneGrid((4, 8), spacing_m=(1.0, 1.0)),
            on_paper(tensor=8),
            "unit: expected at least 8 units, one for each rank, got 4 of 4 features",
        ),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(on: object, mesh: StartedMesh, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        StormNetwork(CONFIG, on, mesh=mesh)


def test_every_pass_of_every_rank_has_a_sample() -> None:
    network = StormNetwork(CONFIG, PlaneGrid((8, 8), spacing_m=(1.0, 1.0)))
    message = r"^batch: expected at least 6, a sample for each of 3 passes of 2 ranks, got 5$"
    config = TrainingConfig(batch=5, passes=3)
    with pytest.raises(ValueError, match=message):
        Trainer(network, None, config, mesh=on_paper(replica=2))


def test_a_network_is_trained_on_the_mesh_that_it_was_made_for() -> None:
    network = StormNetwork(CONFIG, PlaneGrid((8, 8), spacing_m=(1.0, 1.0)))
    with pytest.raises(ValueError, match=r"^network: expected one made for the mesh "):
        Trainer(network, None, TrainingConfig(), mesh=on_paper(lat=2))


def test_sharded_parameters_want_a_tile_for_every_rank() -> None:
    config = replace(CONFIG, network_tiles=(2, 2), network_halo=(1, 1))
    plane = PlaneGrid((8, 8), spacing_m=(1.0, 1.0))
    message = (
        r"^mesh: expected a tile for every rank of lat x lon where parameters are sharded, "
        r"got 4 on each$"
    )
    with pytest.raises(ValueError, match=message):
        StormNetwork(config, plane, mesh=on_paper(shard=2))


def test_ranks_share_tiles_alike() -> None:
    config = replace(CONFIG, network_tiles=(3, 2), network_halo=(1, 1))
    plane = PlaneGrid((8, 8), spacing_m=(1.0, 1.0))
    message = r"^mesh: expected lat x lon ranks that divide the tiles \(3, 2\), got \(2, 1\)$"
    with pytest.raises(ValueError, match=message):
        StormNetwork(config, plane, mesh=on_paper(lat=2))


def test_no_trials_with_sharded_parameters(tmp_path: Path) -> None:
    tried = replace(small(("a",)), split=Split(validation_hours=6.0), trial=TrialConfig(every=10))
    cpu = torch.device("cpu")
    with pytest.raises(ValueError, match=r"^trial.every: expected 0 where ranks shard"):
        fit_prior(tried, None, tmp_path, device=cpu, mesh=on_paper(shard=2))


def test_no_process_is_without_a_member() -> None:
    message = r"^members: expected at least 2, one for each process, got 1$"
    with pytest.raises(ValueError, match=message):
        EnsembleShare(1, Of(0, 2))


def test_weights_are_taken_up_whole_and_saved_whole(tmp_path: Path) -> None:
    plane, one = PlaneGrid((8, 8), spacing_m=(1.0, 1.0)), torch.ones(1, 1, 1)
    plain, cut = StormNetwork(CONFIG, plane), StormNetwork(CONFIG, plane, mesh=on_paper(tensor=2))
    weights = plain.state_dict()
    take_up(cut, weights)
    assert torch.equal(cut.trunk[0].mlp[0].weight, weights["trunk.0.mlp.0.weight"][:32])
    short = {name: x for name, x in weights.items() if name != "frame"}
    with pytest.raises(ValueError, match=r"this version's network, got \['frame'\]$"):
        take_up(cut, short)
    with pytest.raises(ValueError, match=r"^weights: expected frame of shape \(3, 16\)"):
        take_up(cut, {**weights, "frame": torch.ones(2, 16)})
    prior = Storm(cut, Normalization(0 * one, one, one), step_hours=6.0)
    with pytest.raises(ValueError, match=r"^prior: expected the weights of one process"):
        prior.save(tmp_path / "prior.safetensors")


def test_a_field_that_is_all_here_is_not_touched() -> None:
    share = FieldShare(Patching(grid("15deg"), (2, 2)))
    x = torch.rand(3, 12, 24)
    assert share.alone
    assert share.cut(x) is x
    assert share.joined(x) is x


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lat=two", "--mesh: expected sizes such as replica=4,shard=8, got 'lat=two'"),
        ("lat=0", "--mesh: expected sizes such as replica=4,shard=8, got 'lat=0'"),
        (
            "width=2",
            "--mesh: expected axes among replica, shard, lat, lon, tensor, got ['width']",
        ),
    ],
)
def test_a_mesh_is_said_in_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_mesh(text, MESH_AXES)
