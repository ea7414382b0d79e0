"""Checkpoints of parts on one process; those of many ranks are in many_meshes.py."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stormda.parallel import (
    DamagedCheckpoint,
    Mesh,
    SampleCursor,
    fill_from_file,
    intact_checkpoints,
    launch,
    module_parts,
    open_parts,
    optimizer_options,
    restore_training,
    save_checkpoint,
    save_parts,
    start_saving,
    training_parts,
)
from stormda.parallel.layout import whole
from stormda.parallel.manifest import write_manifest

MESH = launch(Mesh({"replica": 1}), environment={})


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for step in (1, 2, 3):
        save_parts(tmp_path, step, {"x": whole(torch.full((2,), step))}, {"g": 1}, mesh=MESH)
    return tmp_path


def test_state_and_metadata_come_back_exactly(tmp_path: Path) -> None:
    state = {"rng": torch.arange(5, dtype=torch.uint8), "lr": 0.1, "betas": (1, None)}
    save_parts(tmp_path, 4, {"n": whole(torch.tensor(3))}, state, {"note": "x"}, mesh=MESH)
    found = open_parts(tmp_path)
    assert torch.equal(found.state.pop("rng"), state.pop("rng"))
    assert (found.step, found.state, found.metadata) == (4, state, {"note": "x"})
    assert found.tensor("n") == 3


def test_what_changes_after_saving_has_begun_is_saved_as_it_was(tmp_path: Path) -> None:
    x = torch.zeros(1000)
    pending = start_saving(tmp_path, 1, {"x": whole(x)}, mesh=MESH)
    x += 1
    pending.finish()
    assert not open_parts(tmp_path).tensor("x").any()


def test_the_newest_are_kept(three: Path) -> None:
    save_parts(three, 4, {"x": whole(torch.ones(2))}, mesh=MESH, keep=2)
    assert sorted(p.name for p in three.iterdir()) == ["latest", "step-00000003", "step-00000004"]


@pytest.mark.parametrize("name", ["tensors-00000.safetensors", "index.json", "manifest.json"])
def test_damage_is_found_and_stepped_over(name: str, three: Path) -> None:
    path = three / "step-00000003" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedCheckpoint, match=f"^{re.escape(str(path))}: expected "):
        open_parts(three)
    with pytest.warns(UserWarning, match="falling back to an earlier step$"):
        assert open_parts(three, fallback=True).step == 2


def test_a_damaged_name_of_the_latest_is_stepped_over(three: Path) -> None:
    (three / "latest").write_text("step-000")
    with pytest.raises(DamagedCheckpoint, match=r"latest: expected one of 1, 2, 3, got 'st"):
        open_parts(three)
    assert open_parts(three, fallback=True).step == 3


def test_an_index_with_a_gap_is_refused(three: Path) -> None:
    folder = three / "step-00000003"
    index = json.loads((folder / "index.json").read_text())
    index["tensors"]["x"]["parts"][0]["shape"] = [1]
    (folder / "index.json").write_text(json.dumps(index))
    write_manifest(folder, ["index.json", "tensors-00000.safetensors"])
    with pytest.raises(ValueError, match=r"step-00000003: x: expected parts that tile a tensor"):
        open_parts(three)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {})
    with pytest.raises(ValueError, match=r"step-00000001: expected format 2, got no index.json$"):
        open_parts(tmp_path)
    assert intact_checkpoints(tmp_path) == [1]


def test_missing_checkpoints_and_tensors_are_named(three: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^directory: expected checkpoints in .*, got n"):
        open_parts(three / "no")
    with pytest.raises(ValueError, match=r"^step: expected one of 1, 2, 3, got 4$"):
        open_parts(three, 4)
    found = open_parts(three, 1)
    with pytest.raises(ValueError, match=r"^parts: expected tensors of .*, got 'y'$"):
        found.tensor("y")
    message = r"^parts: expected 'x' as int64 of shape \(2,\), got float32 of shape \(3,\)$"
    with pytest.raises(ValueError, match=message):
        found.fill({"x": whole(torch.ones(3))})
    with pytest.raises(ValueError, match=r"^prefix: expected the beginning of a name, got 'net/'"):
        found.export(three / "x.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, "step: expected 0 or more, got -1"),
        ({"keep": 0}, "keep: expected at least 1, got 0"),
        ({"metadata": {"x": float("nan")}}, "metadata: expected values that JSON can hold, got "),
    ],
)
def test_bad_arguments_write_nothing(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments = {"step": 1, "parts": {}, **change}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        save_parts(tmp_path / "run", **arguments, mesh=MESH)
    assert not (tmp_path / "run").exists()


def test_a_disk_that_refuses_leaves_the_earlier_ones(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stormda.parallel.parts_writing.write_tensors", full)
    with pytest.raises(OSError, match=r"^directory: expected to write step 4 into .* on 1"):
        save_parts(three, 4, {"x": whole(torch.ones(2))}, mesh=MESH)
    assert open_parts(three).step == 3


def test_one_file_goes_out_and_comes_back(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(3)).sum().backward()
    optimizer.step()
    save_parts(tmp_path / "run", 1, training_parts(net, optimizer), mesh=MESH)
    path = tmp_path / "net.safetensors"
    open_parts(tmp_path / "run").export(path)
    other = nn.Linear(3, 2)
    fill_from_file(path, module_parts(other))
    assert torch.equal(other.weight, net.weight)
    for wrong, message in [
        (nn.Linear(3, 4), r"^parts: expected 'weight' of shape \(2, 3\), got \(4, 3\)$"),
        (nn.Linear(3, 2).double(), r"^parts: expected 'weight' as torch.float32, got torch.fl"),
        (nn.Sequential(net), r"^parts: expected tensors of .*net.safetensors, got '0.weight'$"),
    ]:
        with pytest.raises(ValueError, match=message):
            fill_from_file(path, module_parts(wrong))


def test_optimizers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    net, other = nn.Linear(2, 1), nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"^optimizer: expected parameters of the module, got on"):
        training_parts(net, torch.optim.SGD(other.parameters()))
    optimizer = torch.optim.SGD(net.parameters())
    optimizer.state[net.weight]["note"] = "mine"
    with pytest.raises(ValueError, match=r"^optimizer: expected tensors as the state of 'weig"):
        training_parts(net, optimizer)
    save_parts(tmp_path, 1, {}, mesh=MESH)
    with pytest.raises(ValueError, match=r"^options: expected 1 groups, got 0$"):
        restore_training(open_parts(tmp_path), net, torch.optim.SGD(net.parameters()), [])
    assert optimizer_options(optimizer)[0]["momentum"] == 0


def test_samples_come_once_an_epoch_whatever_the_batch() -> None:
    def taken(sizes: list[int]) -> list[int]:
        cursor, found = SampleCursor(samples=7, seed=3), []
        for size in sizes:
            batch, cursor = cursor.take(size)
            found += batch
        return found

    assert taken([14]) == taken([3, 3, 8]) == taken([1] * 14)
    first, second = taken([7]), taken([14])[7:]
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, r"^samples: expected at least 1, got 0$"),
        ({"seed": -1}, r"^seed: expected 0 <= seed < 2\*\*32, got -1$"),
        ({"taken": -1}, r"^taken: expected 0 or more, got -1$"),
    ],
)
def test_bad_cursors(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampleCursor(**{"samples": 3, "seed": 0, **change})
    with pytest.raises(ValueError, match=r"^number: expected at least 1, got 0$"):
        SampleCursor(samples=3, seed=0).take(0)
