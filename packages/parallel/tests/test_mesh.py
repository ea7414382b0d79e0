"""A mesh numbers ranks in row-major order, shares them out into groups, and says what fits."""

import math
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormda.parallel import Mesh

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def named(sizes: list[int]) -> Mesh:
    return Mesh(dict(zip("abcdef", sizes, strict=False)))


@given(SIZES)
def test_coordinates_are_those_of_a_row_major_box(sizes: list[int]) -> None:
    mesh = named(sizes)
    for rank, place in enumerate(product(*map(range, sizes))):
        assert tuple(mesh.coordinate(rank, axis) for axis in mesh.names) == place


@given(SIZES, st.data())
def test_groups_partition_the_ranks(sizes: list[int], data: st.DataObject) -> None:
    mesh = named(sizes)
    axes = data.draw(st.lists(st.sampled_from(mesh.names), unique=True))
    groups = {tuple(mesh.group(rank, *axes)) for rank in range(mesh.processes)}
    assert sorted(rank for group in groups for rank in group) == [*range(mesh.processes)]
    for group in groups:
        assert len(group) == math.prod(map(mesh.size, axes))
        assert list(group) == sorted(group)
        for axis in set(mesh.names) - set(axes):
            assert len({mesh.coordinate(rank, axis) for rank in group}) == 1


@given(SIZES)
def test_every_choice_of_axes_has_one_subset(sizes: list[int]) -> None:
    mesh = named(sizes)
    subsets = mesh.subsets()
    assert len(subsets) == len(set(subsets)) == 2 ** sum(size > 1 for size in sizes) - 1


def test_axes_of_size_one_and_the_order_of_arguments_do_not_matter() -> None:
    mesh = Mesh({"replica": 2, "lat": 1, "lon": 3})
    assert mesh.canonical(("lon", "lat", "replica", "lon")) == ("replica", "lon")
    assert mesh.canonical(("lat",)) == ()
    assert mesh.group(4, "lon", "lat") == [3, 4, 5]
    assert mesh.group(4) == [4]


def test_a_machine_of_many_ranks_is_planned_without_one() -> None:
    mesh = Mesh({"replica": 512, "shard": 8, "lat": 2, "lon": 4, "tensor": -1}).filled(65_536)
    assert mesh.size("tensor") == 2
    assert mesh.group(65_535, "lat", "lon") == [*range(65_521, 65_536, 2)]


@given(SIZES, st.integers(0, 3))
def test_filling_undoes_forgetting(sizes: list[int], at: int) -> None:
    at %= len(sizes)
    assert named([*sizes[:at], -1, *sizes[at + 1 :]]).filled(math.prod(sizes)) == named(sizes)


def test_meshes_are_values() -> None:
    assert Mesh({"a": 1, "b": 2}) == Mesh({"a": 1, "b": 2})
    assert Mesh({"a": 1, "b": 2}) != Mesh({"b": 2, "a": 1})
    assert len({Mesh({"a": 1}), Mesh({"a": 1})}) == 1


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "axes: expected at least one axis, got none"),
        ({"a": 2, "b": 0}, "axes: expected a positive size or -1, got b=0"),
        ({"a": -2}, "axes: expected a positive size or -1, got a=-2"),
        ({"a": -1, "b": 2, "c": -1}, "axes: expected at most one -1, got a and c"),
    ],
)
def test_sizes_are_checked(axes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Mesh(axes)


@pytest.mark.parametrize(
    ("axes", "processes", "message"),
    [
        (
            {"replica": 2, "lat": 3},
            4,
            "mesh: expected sizes whose product is 4, the number of processes, got replica=2 x "
            "lat=3; what fits: lat=2 or 6 processes",
        ),
        (
            {"replica": 3, "lat": 3},
            4,
            "mesh: expected sizes whose product is 4, the number of processes, got replica=3 x "
            "lat=3; what fits: 9 processes",
        ),
        (
            {"replica": -1, "lat": 3},
            4,
            "mesh: expected sizes whose product is 4, the number of processes, got replica=-1 x "
            "lat=3; what fits: lat=1 or lat=2 or lat=4 or a multiple of 3 processes",
        ),
        (
            {"replica": -1, "lat": 3},
            2,
            "mesh: expected sizes whose product is 2, the number of processes, got replica=-1 x "
            "lat=3; what fits: lat=1 or lat=2 or a multiple of 3 processes",
        ),
        ({"replica": 1}, 0, "processes: expected at least 1, got 0"),
    ],
)
def test_a_misfit_lists_what_fits(axes: dict[str, int], processes: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Mesh(axes).filled(processes)


def test_unknown_axes_and_ranks_are_refused() -> None:
    mesh = Mesh({"replica": 2, "lon": 3})
    with pytest.raises(ValueError, match=r"^axis: expected one of replica, lon, got 'lat'$"):
        mesh.size("lat")
    with pytest.raises(ValueError, match=r"^rank: expected 0 to 5, got 6$"):
        mesh.coordinate(6, "lon")
    with pytest.raises(ValueError, match=r"^rank: expected 0 to 5, got -1$"):
        mesh.group(-1)
