"""Checkpoints give back every bit, survive being killed, and know when they are damaged."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stormda.parallel import (
    DamagedCheckpoint,
    SelfComm,
    intact_checkpoints,
    load_checkpoint,
    manifest,
    save_checkpoint,
    tensor_file,
)

DTYPES = [
    *(torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint32),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
]


def bits(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_keep_dtype_shape_and_bits(
    dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path
) -> None:
    x = (torch.arange(torch.Size(shape).numel()) % 7).reshape(shape).to(dtype)
    save_checkpoint(tmp_path, 0, {"x": x})
    loaded = load_checkpoint(tmp_path).state["x"]
    torch.testing.assert_close(bits(loaded), bits(x), rtol=0, atol=0)
    assert loaded.dtype == dtype


def test_not_a_number_keeps_its_bits(tmp_path: Path) -> None:
    pattern = torch.tensor([0x7FC00001, -1, 0], dtype=torch.int32)
    save_checkpoint(tmp_path, 0, pattern.view(torch.float32))
    assert torch.equal(load_checkpoint(tmp_path).state.view(torch.int32), pattern)


def test_views_and_shared_and_conjugated_tensors_are_stored_by_value(tmp_path: Path) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    z = torch.tensor([1 + 2j, 3 - 1j])
    conjugates = [z.conj(), z.conj().imag, z[:1].conj().imag]  # lazy: flags on the numbers of z
    save_checkpoint(
        tmp_path, 0, [x, x, x.T, x[:, 1], x[:1].expand(4, 3), nn.Parameter(x), *conjugates]
    )
    state = load_checkpoint(tmp_path).state
    for loaded, own in zip(
        state, [x, x, x.T, x[:, 1], x[:1].expand(4, 3), x, *conjugates], strict=True
    ):
        assert torch.equal(loaded, own)
        assert not loaded.requires_grad


def train(optimizer: torch.optim.Optimizer, net: nn.Module, g: torch.Generator, n: int) -> None:
    for _ in range(n):
        optimizer.zero_grad()
        net(torch.randn(5, 3, generator=g)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.9)),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ],
    ids=["adamw", "sgd"],
)
def test_a_resumed_run_is_the_run_that_never_stopped(
    make: Callable[[Any], torch.optim.Optimizer], tmp_path: Path
) -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer, torch.Generator]:
        net = nn.Linear(3, 2)
        nn.init.ones_(net.weight)
        nn.init.zeros_(net.bias)
        return net, make(net.parameters()), torch.Generator().manual_seed(5)

    net, optimizer, g = start()
    train(optimizer, net, g, 3)
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "g": g.get_state()}
    save_checkpoint(tmp_path, 3, state, {"note": "three steps"})
    train(optimizer, net, g, 4)

    other, second, h = start()
    loaded = load_checkpoint(tmp_path)
    other.load_state_dict(loaded.state["net"])
    second.load_state_dict(loaded.state["optimizer"])
    h.set_state(loaded.state["g"])
    train(second, other, h, 4)
    assert torch.equal(other.weight, net.weight)
    assert torch.equal(other.bias, net.bias)
    assert torch.equal(h.get_state(), g.get_state())
    assert second.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    assert loaded.metadata == {"note": "three steps"}


def test_the_newest_are_kept_and_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "step-notes").mkdir()
    (tmp_path / "log.txt").write_text("mine")
    for step in (1, 2, 30, 100):
        save_checkpoint(tmp_path, step, {"step": step}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("latest", "log.txt", "step-00000030", "step-00000100", "step-notes")
    ]
    assert (tmp_path / "latest").read_text() == "step-00000100\n"


def test_steps_beyond_eight_digits_are_steps(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000, 1_000_000_000):
        save_checkpoint(tmp_path, step, step)
    assert intact_checkpoints(tmp_path) == [99_999_999, 100_000_000, 1_000_000_000]
    assert load_checkpoint(tmp_path).state == 1_000_000_000


def test_going_back_goes_on_from_there_and_spares_what_came_later(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, "first")
    save_checkpoint(tmp_path, 11, "second", keep=1)
    assert load_checkpoint(tmp_path).step == 11
    assert intact_checkpoints(tmp_path) == [11, 20, 30]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, "first")
    save_checkpoint(tmp_path, 1, "second")
    assert load_checkpoint(tmp_path).state == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]


def test_one_rank_writes_and_the_path_is_returned(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "new", 7, {}, comm=SelfComm())
    assert path == tmp_path / "new" / "step-00000007"
    assert {p.name for p in path.iterdir()} == {
        *("tensors.safetensors", "state.json", "manifest.json")
    }


class Killed(BaseException):
    """Stands for kill -9: nothing after it is done."""


def kill_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process die at its `moment`-th change on the disk, half-way through a write."""
    left = iter(range(moment, -1, -1))

    def mortal(act: Callable[..., Any], half: Callable[..., Any] | None = None) -> Any:
        def attempt(*args: Any, **kwargs: Any) -> Any:
            if next(left) == 0:
                if half is not None:
                    half(*args)
                raise Killed
            return act(*args, **kwargs)

        return attempt

    def half_text(path: Path, text: str) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])

    def half_tree(path: Path) -> None:
        next(p for p in sorted(path.iterdir()) if p.is_file()).unlink()

    monkeypatch.setattr(Path, "write_text", mortal(Path.write_text, half_text))
    for name in ("mkdir", "rename", "replace"):
        monkeypatch.setattr(Path, name, mortal(getattr(Path, name)))
    monkeypatch.setattr(shutil, "rmtree", mortal(shutil.rmtree, half_tree))
    monkeypatch.setattr(manifest.os, "fsync", mortal(manifest.os.fsync))
    monkeypatch.setattr(
        tensor_file,
        "serialize_file",
        mortal(tensor_file.serialize_file, lambda _, path: path.write_bytes(b"half")),
    )


@pytest.mark.parametrize("again", [False, True], ids=["a new step", "the same step again"])
def test_killed_at_any_moment_the_old_or_the_new_checkpoint_is_there(
    again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, died = 0, True
    while died:
        directory = tmp_path / str(moment)
        for step in (1, 2):
            save_checkpoint(directory, step, torch.tensor(step))
        new = 2 if again else 3
        died = False
        with monkeypatch.context() as patch:
            kill_at(moment, patch)
            try:
                save_checkpoint(directory, new, torch.tensor(33), keep=2)
            except Killed:
                died = True
        assert int(load_checkpoint(directory).state) in ({2, 33} if died else {33})
        intact = intact_checkpoints(directory)
        finished = {path.stem for path in directory.glob("step-*") if path.suffix != ".tmp"}
        assert finished == {f"step-{step:08d}" for step in intact}
        save_checkpoint(directory, 4, torch.tensor(4), keep=9)
        assert intact_checkpoints(directory) == [*intact, 4]
        save_checkpoint(directory, 4, torch.tensor(4), keep=1)
        assert sorted(path.name for path in directory.iterdir()) == ["latest", "step-00000004"]
        moment += 1
    assert moment > 10


def test_a_first_save_killed_before_it_was_named_is_found(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, "there")
    (tmp_path / "latest").unlink()
    assert load_checkpoint(tmp_path).step == 5


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Checkpoints of steps 1, 2 and 3, the last of them saved last."""
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"x": torch.full((4,), step)})
    return tmp_path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, r"expected a file, got none"),
        (truncate, r"expected \d+ bytes, got \d+"),
        (flip, r"expected SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}"),
    ],
    ids=["missing", "truncated", "altered"],
)
def test_damage_is_named_and_the_intact_ones_are_found(
    name: str, spoil: Callable[[Path], None], message: str, two: Path
) -> None:
    path = two / "step-00000003" / name
    spoil(path)
    full = f"{re.escape(str(path))}: {message}"
    with pytest.raises(DamagedCheckpoint, match=rf"^{full} \(intact: 1, 2\)$"):
        load_checkpoint(two)
    assert intact_checkpoints(two) == [1, 2]
    with pytest.warns(UserWarning, match=rf"^{full}; falling back to step 2$"):
        assert load_checkpoint(two, fallback=True).step == 2


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"state.json": 1}', "{not json"])
def test_a_damaged_manifest_is_named(content: str, two: Path) -> None:
    path = two / "step-00000003" / "manifest.json"
    path.write_text(content)
    message = (
        f"{path}: expected the lengths and SHA-256 of state.json, tensors.safetensors, "
        "got something else (intact: 1, 2)"
    )
    with pytest.raises(DamagedCheckpoint, match=f"^{re.escape(message)}$"):
        load_checkpoint(two)
    path.unlink()
    message = f"{path}: expected a file, got none (intact: 1, 2)"
    with pytest.raises(DamagedCheckpoint, match=f"^{re.escape(message)}$"):
        load_checkpoint(two)


def test_a_damaged_name_of_the_latest_is_named(two: Path) -> None:
    (two / "latest").write_text("step-000")
    message = f"{two / 'latest'}: expected one of 1, 2, 3, got 'step-000'"
    with pytest.raises(DamagedCheckpoint, match=rf"^{re.escape(message)} \(intact: 1, 2, 3\)$"):
        load_checkpoint(two)
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}; falling back to step 3$"):
        assert load_checkpoint(two, fallback=True).step == 3


def test_falling_back_goes_back_and_never_to_another_future(two: Path) -> None:
    flip(two / "step-00000002" / "state.json")
    with pytest.warns(UserWarning, match="falling back to step 1$"):
        assert load_checkpoint(two, 2, fallback=True).step == 1
    (two / "latest").write_text("step-00000002\n")
    with pytest.warns(UserWarning, match="falling back to step 1$"):
        assert load_checkpoint(two, fallback=True).step == 1


def test_with_nothing_intact_falling_back_fails(two: Path) -> None:
    for step in (1, 2, 3):
        flip(two / f"step-{step:08d}" / "state.json")
    with pytest.raises(DamagedCheckpoint, match=r"\(intact: none\)$"):
        load_checkpoint(two, fallback=True)
    assert intact_checkpoints(two) == []


def test_an_intact_checkpoint_falls_back_nowhere(two: Path) -> None:
    assert load_checkpoint(two, fallback=True).step == 3
    assert load_checkpoint(two, 1).step == 1


def test_a_later_format_is_refused(two: Path) -> None:
    folder = two / "step-00000003"
    header = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**header, "format": 2}))
    manifest.write_manifest(folder, ["tensors.safetensors", "state.json"])
    with pytest.raises(ValueError, match=f"^{re.escape(str(folder))}: expected format 1, got 2$"):
        load_checkpoint(two)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    message = f"^directory: expected checkpoints in {re.escape(str(tmp_path / 'no'))}, got none$"
    with pytest.raises(FileNotFoundError, match=message):
        load_checkpoint(tmp_path / "no")
    assert intact_checkpoints(tmp_path / "no") == []


def test_no_checkpoint_of_that_step(two: Path) -> None:
    with pytest.raises(ValueError, match=r"^step: expected one of 1, 2, 3, got 4$"):
        load_checkpoint(two, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step": -1}, "step: expected 0 or more, got -1"),
        ({"keep": 0}, "keep: expected at least 1, got 0"),
        (
            {"metadata": {"path": Path("x")}},
            "metadata: expected values that JSON can hold, got Object of type PosixPath is not "
            "JSON serializable",
        ),
    ],
)
def test_bad_arguments_write_nothing(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        save_checkpoint(tmp_path / "run", **{"step": 1, "state": {}, **arguments})
    assert not (tmp_path / "run").exists()


def test_metadata_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^metadata: expected values that JSON can hold, got "):
        save_checkpoint(tmp_path, 1, {}, {"loss": float("nan")})
