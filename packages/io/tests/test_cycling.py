import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stormda.grid import PlaneGrid
from stormda.io import EnsembleWriter, Parts, read_ensemble

PLANE = PlaneGrid((4, 6), (1e5, 1e5))
START = np.datetime64("2000-01-01", "s")
CYCLES = 12

RUN = """
import sys, time
import numpy as np
from stormda.grid import PlaneGrid
from stormda.io import EnsembleWriter

writer = EnsembleWriter(path=sys.argv[1], grid=PlaneGrid((4, 6), (1e5, 1e5)),
                        attributes={"theta": {"units": "K"}}, run={"seed": 1})
done = writer.completed()
print("resumes at", len(done), flush=True)
x = writer.read(done[-1]).state["x"] if done else np.linspace(0, 1, 72).reshape(3, 4, 6)
for cycle in range(len(done), int(sys.argv[2])):
    x = np.cos(x * 3.7 + cycle)
    when = np.datetime64("2000-01-01", "s") + 3600 * cycle
    writer.write(cycle, when, {"theta": x}, state={"x": x}, metadata={"cycle": cycle})
    time.sleep(float(sys.argv[3]))
writer.finish()
"""


def writer(folder, **changes):
    settings = {"grid": PLANE, "attributes": {"theta": {"units": "K"}}, "run": {"seed": 1}}
    return EnsembleWriter(path=folder / "analysis.nc", **(settings | changes))


def theta(cycle, members=3):
    return np.random.default_rng(cycle).normal(size=(members, 4, 6))


def start(path, pause):
    command = [sys.executable, "-c", RUN, str(path), str(CYCLES), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def stored(path):
    return len([*path.with_name(f"{path.name}.parts").glob("cycle-*.npz")])


def test_a_killed_run_resumes_and_ends_with_the_same_numbers(tmp_path):
    whole, killed = tmp_path / "whole.nc", tmp_path / "killed.nc"
    process = start(killed, pause=0.02)
    while stored(killed) < 3:
        assert process.poll() is None
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not killed.exists()
    again, reference = start(killed, pause=0), start(whole, pause=0)
    text, _ = again.communicate()
    reference.communicate()
    assert again.returncode == reference.returncode == 0
    assert int(text.split()[-1]) >= 3
    one, two = read_ensemble(killed), read_ensemble(whole)
    assert_array_equal(one.fields["theta"], two.fields["theta"])
    assert_array_equal(one.axes.times, START + 3600 * np.arange(CYCLES))
    assert one.provenance == two.provenance == {"run": {"seed": 1}}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.nc", "whole.nc"]


def test_state_and_metadata_are_kept_exactly(tmp_path):
    out = writer(tmp_path)
    state = {"x": theta(0), "key": np.array([2**63], np.uint64)}
    out.write(0, START, {"theta": theta(0)}, state, {"score": 0.1})
    cycle = out.read(0)
    assert cycle.time == START
    assert cycle.metadata == {"score": 0.1}
    for name, array in state.items():
        assert_array_equal(cycle.state[name], array)
        assert cycle.state[name].dtype == array.dtype
    assert_array_equal(cycle.fields["theta"], theta(0).astype(np.float32))


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "renamed"])
def test_a_damaged_part_counts_as_missing_and_is_replaced(tmp_path, damage):
    out = writer(tmp_path)
    for cycle in range(3):
        out.write(cycle, START + cycle, {"theta": theta(cycle)})
    [path] = out.parts.folder.glob("cycle-000001-*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "renamed":
        path.rename(path.with_name(path.name.replace("cycle-000001-", "cycle-000007-x")))
    else:
        damaged = {"truncated": content[:-20], "one bit": content, "empty": b""}[damage]
        path.write_bytes(damaged)
    assert out.completed() == [0, 2]
    with pytest.raises(
        ValueError, match=r"\.parts: expected an intact part of cycle 1, got none$"
    ):
        out.read(1)
    out.write(1, START + 1, {"theta": theta(1)})
    assert out.completed() == [0, 1, 2]
    out.finish()
    expected = np.stack([theta(cycle) for cycle in range(3)], axis=1).astype(np.float32)
    assert_array_equal(read_ensemble(out.path).fields["theta"], expected)


def test_a_cycle_can_be_written_anew(tmp_path):
    parts = Parts(tmp_path / "parts", {})
    parts.write(0, {"x": np.zeros(2)}, {})
    parts.write(0, {"x": np.ones(2)}, {})
    assert parts.completed() == [0]
    assert_array_equal(parts.read(0)[0]["x"], [1.0, 1.0])


def test_equal_parts_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        Parts(tmp_path / name, {}).write(0, {"x": theta(0)}, {"k": 1})
    one, two = (next((tmp_path / name).glob("cycle-*")) for name in ("a", "b"))
    assert one.name == two.name


def test_nothing_in_a_part_is_executed(tmp_path):
    with pytest.raises(ValueError, match=r"^arrays: expected numbers in 'x', got Python objects$"):
        Parts(tmp_path / "parts", {}).write(0, {"x": np.array([object()])}, {})


def test_a_run_that_failed_to_finish_keeps_its_parts(tmp_path):
    out = writer(tmp_path)
    out.write(0, START, {"theta": theta(0)})
    (tmp_path / "analysis.nc").touch()
    with pytest.raises(FileExistsError):
        out.finish()
    assert out.completed() == [0]


def test_the_order_of_settings_does_not_make_another_run(tmp_path):
    settings = {"grid": {"rows": 4, "cols": 5}, "seed": 1}
    writer(tmp_path, run={"settings": settings}).write(0, START, {"theta": theta(0)})
    turned = {"seed": 1, "grid": {"cols": 5, "rows": 4}}
    assert writer(tmp_path, run={"settings": turned}).completed() == [0]


class TestErrors:
    def test_another_run(self, tmp_path):
        writer(tmp_path).write(0, START, {"theta": theta(0)})
        other = writer(tmp_path, run={"seed": 2})
        message = (
            f"{tmp_path}/analysis.nc.parts: expected parts of a run with seed = 2, got 1 "
            "(remove the folder to start anew)"
        )
        for attempt in (
            other.completed,
            lambda: other.read(0),
            lambda: other.write(1, START, {"theta": theta(1)}),
        ):
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                attempt()

    def test_existing_output(self, tmp_path):
        (tmp_path / "analysis.nc").touch()
        with pytest.raises(FileExistsError, match=r"analysis\.nc: expected an output that does"):
            writer(tmp_path)

    @pytest.mark.parametrize(("cycles", "got"), [((), "[]"), ((0, 2), "[0, 2]"), ((1,), "[1]")])
    def test_a_gap(self, tmp_path, cycles, got):
        out = writer(tmp_path)
        for cycle in cycles:
            out.write(cycle, START + cycle, {"theta": theta(cycle)})
        message = f"{out.path}: expected cycles 0, 1, ... without a gap, got {got}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            out.finish()

    def test_another_number_of_members(self, tmp_path):
        out = writer(tmp_path)
        out.write(0, START, {"theta": theta(0)})
        out.write(1, START + 1, {"theta": theta(1, members=1)})
        message = (
            f"{out.path}: expected fields of shape {{'theta': (3, 4, 6)}} in cycle 1, "
            "got {'theta': (1, 4, 6)}"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            out.finish()

    def test_times_that_do_not_increase(self, tmp_path):
        out = writer(tmp_path)
        for cycle in range(2):
            out.write(cycle, START, {"theta": theta(cycle)})
        with pytest.raises(ValueError, match=r"^times: expected increasing dates, got repeated"):
            out.finish()

    @pytest.mark.parametrize("cycle", [-1, 10**6])
    def test_the_number(self, tmp_path, cycle):
        with pytest.raises(
            ValueError, match=rf"^cycle: expected a number from 0 to 999999, got {cycle}$"
        ):
            writer(tmp_path).write(cycle, START, {"theta": theta(0)})

    def test_the_shape(self, tmp_path):
        with pytest.raises(
            ValueError,
            match=r"^fields: expected shape \(3, 1, 4, 6\) for 'theta', got \(3, 1, 6, 4\)$",
        ):
            writer(tmp_path).write(0, START, {"theta": np.zeros((3, 6, 4))})


def test_the_record_of_a_run_is_readable(tmp_path):
    out = writer(tmp_path)
    out.write(0, START, {"theta": theta(0)})
    assert json.loads((out.parts.folder / "run.json").read_text()) == {"seed": 1}
