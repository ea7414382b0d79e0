"""States come back with the same nesting, kinds and bits, or are refused with a path."""

import json
import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stormda.parallel.state import flatten_state, restore_state

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
STATES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def identical(a: Any, b: Any) -> bool:
    """Compare kinds too: 1, 1.0 and True are equal but not the same state."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(map(kinded, a)) == list(map(kinded, b)) and all(
            identical(a[k], b[k]) for k in a
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    return a.hex() == b.hex() if isinstance(a, float) else a == b


def kinded(key: object) -> tuple[type, object]:
    return type(key), key


@given(STATES)
def test_restoring_inverts_flattening_through_json(state: object) -> None:
    document, tensors = flatten_state(state)
    assert tensors == {}
    assert identical(restore_state(json.loads(json.dumps(document)), tensors), state)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1])
def test_floats_keep_their_bits(value: float) -> None:
    assert restore_state(*flatten_state(value)).hex() == value.hex()


def test_tensors_are_named_by_their_paths() -> None:
    a, b = torch.zeros(2), torch.ones(3)
    _, tensors = flatten_state({"net": [a, {"bias": b}]})
    assert tensors == {"net/0": a, "net/1/bias": b}


def test_paths_that_spell_the_same_stay_apart() -> None:
    state = {"a/b": torch.tensor(0), "a": {"b": torch.tensor(1)}, 0: torch.tensor(2)}
    state["0"] = torch.tensor(3)
    back = restore_state(*flatten_state(state))
    assert [int(x) for x in (back["a/b"], back["a"]["b"], back[0], back["0"])] == [0, 1, 2, 3]


def test_a_lone_tensor_is_a_state() -> None:
    assert torch.equal(restore_state(*flatten_state(torch.ones(2))), torch.ones(2))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"a": [{1, 2}]},
            "state: expected tensors, numbers, strings, booleans or None in dicts, lists and "
            "tuples, got set at 'a/0'",
        ),
        (
            {"a": {None: 1}},
            "state: expected strings or integers as keys, got None at 'a'",
        ),
        (
            {True: 1},
            "state: expected strings or integers as keys, got True at ''",
        ),
        (
            {"w": torch.eye(2).to_sparse()},
            "state: expected plain dense tensors, got Tensor of layout torch.sparse_coo at 'w'",
        ),
        (
            {"w": nn.UninitializedParameter()},
            "state: expected plain dense tensors, got UninitializedParameter of layout "
            "torch.strided at 'w'",
        ),
        (
            {"w": torch.zeros(2, dtype=torch.complex128)},
            "state: expected tensors with data of a dtype that safetensors stores, got "
            "torch.complex128 on cpu at 'w'",
        ),
        (
            {"w": torch.zeros(2, device="meta")},
            "state: expected tensors with data of a dtype that safetensors stores, got "
            "torch.float32 on meta at 'w'",
        ),
    ],
)
def test_what_cannot_be_stored_exactly_is_refused(state: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        flatten_state(state)


def test_an_unknown_container_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^document: expected dict, list, tuple, float or tensor, got 'set'$"
    ):
        restore_state({"set": [1]}, {})
