"""On one rank every collective is the identity, with the identity's derivatives, and a copy.

What they do on several ranks, and that their backward is their adjoint, is in test_ranks.py.
"""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stormda.parallel import (
    Communicator,
    PlannedComm,
    SelfComm,
    TorchComm,
    copy_in,
    gather,
    gather_invariant,
    psum,
    reduce_out,
    scatter_sum,
    split,
)

DIFFERENTIABLE = [psum, copy_in, reduce_out, gather, gather_invariant, scatter_sum, split]
PLAIN = [
    lambda comm, x: comm.all_reduce(x),
    lambda comm, x: comm.all_gather(x, dim=1),
    lambda comm, x: comm.reduce_scatter(x, dim=1),
    lambda comm, x: comm.all_to_all(x, sent=[3], received=[3], dim=1),
    lambda comm, x: comm.broadcast(x),
]


@pytest.mark.parametrize("collective", PLAIN)
def test_plain_collectives_of_one_rank_copy(
    collective: Callable[[Communicator, Tensor], Tensor],
) -> None:
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    y = collective(SelfComm(), x)
    assert torch.equal(y, x)
    assert y.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("collective", PLAIN)
def test_plain_collectives_refuse_tensors_that_require_grad(
    collective: Callable[[Communicator, Tensor], Tensor],
) -> None:
    message = (
        "x: expected a tensor that does not require grad, got one that does; use psum, gather, "
        "exchange or another function of stormda.parallel, or detach it"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        collective(SelfComm(), torch.ones(2, 3, requires_grad=True))


@pytest.mark.parametrize("function", DIFFERENTIABLE)
def test_differentiable_collectives_of_one_rank_have_the_identity_s_gradients(
    function: Callable[[Tensor, Communicator], Tensor],
) -> None:
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(function(x, SelfComm()), x)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(x, SelfComm()) ** 2, x)
    assert torch.autograd.gradgradcheck(lambda x: function(x, SelfComm()) ** 2, x)


@pytest.mark.parametrize("function", DIFFERENTIABLE)
def test_methods_are_the_functions(
    function: Callable[[Tensor, Communicator], Tensor],
) -> None:
    x = torch.ones(2, requires_grad=True)
    comm = SelfComm()
    method, plain = getattr(comm, function.__name__)(x), function(x, comm)
    torch.testing.assert_close(method, plain)
    assert type(method.grad_fn) is type(plain.grad_fn)


def test_vector_jacobian_products_of_torch_func() -> None:
    x, g = torch.ones(3), torch.tensor([1.0, 2.0, 3.0])
    _, transpose = torch.func.vjp(lambda x: psum(x, SelfComm()) ** 2, x)
    torch.testing.assert_close(transpose(g)[0], 2 * g)


def test_the_root_exists() -> None:
    with pytest.raises(ValueError, match=r"^root: expected a rank from 0 to 0, got 1$"):
        SelfComm().broadcast(torch.ones(1), root=1)


@pytest.mark.parametrize("ranks", [[0, 1], [4, 3], [3, 3], [3, 9], []])
def test_a_subgroup_is_of_some_of_the_ranks_in_order(ranks: list[int]) -> None:
    comm = PlannedComm(3, 9)
    message = f"ranks: expected some of 0 to 8 in order, 3 among them, got {ranks}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        comm.subgroup(ranks)
    some = comm.subgroup([1, 3, 8])
    assert (some.rank, some.size) == (1, 3)
    assert SelfComm().subgroup([0]).size == 1


def test_a_torch_communicator_needs_a_group() -> None:
    message = (
        "group: expected a process group that this process belongs to, got none, and "
        "torch.distributed is not started"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TorchComm()
