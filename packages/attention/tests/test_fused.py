"""The Triton kernels in Triton's interpreter: in float32, as it is wrong about bfloat16."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from stormda.attention import FUSED, PLAIN, backend_report, elu1, fused, linear_attention


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
def test_the_kernels_in_the_interpreter():
    """Triton asks for the variable when it is first imported: so in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        [*command, "-k", "equals_the_plain_backend"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


@pytest.mark.skipif("TRITON_INTERPRET" not in os.environ, reason="run by the test above")
@pytest.mark.parametrize("feature", ["relu", "elu1"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("n", "d"), [(1, 16), (100, 16), (200, 32)])
def test_equals_the_plain_backend(monkeypatch, feature, weighted, n, d):
    monkeypatch.setattr(fused, "PROGRAMS", 4)  # so that tokens of a head are shared
    options = {} if feature == "relu" else {"feature": elu1}
    exact = [tokens(1, 2, n, d, seed=i).requires_grad_() for i in range(3)]
    if weighted:
        exact.append(tokens(1, n, seed=4).exp().requires_grad_())
    inputs = [x.detach().float().requires_grad_() for x in exact]
    y, expected = (
        linear_attention(*x[:3], weight=x[3] if weighted else None, backend=backend, **options)
        for x, backend in ((inputs, FUSED), (exact, PLAIN))
    )
    # float32 against float64, over sums of up to 200 tokens
    tolerance = {"rtol": 1e-4, "atol": 2e-5}
    torch.testing.assert_close(y.double(), expected, **tolerance)
    ybar = tokens(*y.shape, seed=5)
    got = torch.autograd.grad(y, inputs, ybar.float())
    bars = torch.autograd.grad(expected, exact, ybar)
    torch.testing.assert_close(tuple(x.double() for x in got), bars, **tolerance)


def test_refuses_what_there_are_no_kernels_for():
    q = tokens(2, 9, 24).float()
    with pytest.raises(
        ValueError,
        match=r"^k: expected d one of \(16, 32, 64, 128\) in float32 or less, got torch\.float32 "
        r"of shape \(2, 9, 24\)$",
    ):
        linear_attention(q, q, q, backend=FUSED)


def test_the_report_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert backend_report()["fused"] == "no Triton"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert backend_report()["fused"] == "no GPU"
