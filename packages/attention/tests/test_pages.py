import re
import threading
from pathlib import Path

import pytest
import torch

from stormda.attention import BLOCKED, empty_cache, linear_attention, pages
from stormda.attention.pages import LARGE, result_like


@pytest.fixture(autouse=True)
def _nothing_kept():
    empty_cache()
    yield
    empty_cache()


ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("n", [3, LARGE])
def test_results_are_contiguous_and_alike(dtype, n):
    x = torch.ones(2, dtype=dtype).expand(n, 2)
    made = result_like(x)
    assert made.shape == x.shape
    assert made.dtype == dtype
    assert made.is_contiguous()
    assert result_like(x.to("meta")).device.type == "meta"


@pytest.mark.skipif(not ENABLED.exists(), reason="no huge pages in this kernel")
def test_large_results_ask_for_huge_pages():
    made = result_like(torch.empty(2**26, dtype=torch.uint8))
    inside = made.data_ptr() + made.numel() // 2
    for mapping in re.split(
        r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()
    ):
        first, _, last = mapping.split(" ", 1)[0].partition("-")
        if first and int(first, 16) <= inside < int(last, 16):
            assert " hg" in re.search(r"VmFlags:(.*)", mapping)[1]
            return
    raise AssertionError("the result is in no mapping")


def test_dropped_memory_is_used_again_by_results_of_its_size():
    x = torch.empty(LARGE, dtype=torch.uint8)
    first = result_like(x)
    at, part = first.data_ptr(), first[10:20]
    del first
    assert result_like(x).data_ptr() != at  # a part of it is still in use
    del part
    assert result_like(x[None].view(torch.bfloat16)).data_ptr() == at
    assert result_like(torch.cat([x, x])).data_ptr() != at
    assert result_like(x).data_ptr() == at


def test_small_results_are_not_kept():
    result_like(torch.empty(LARGE - 1, dtype=torch.uint8))
    assert not pages._free


def test_what_was_unused_for_longest_is_given_back(monkeypatch):
    monkeypatch.setattr(pages, "KEPT", 3 * LARGE)
    sizes = LARGE, LARGE + 1, LARGE + 2
    results = [result_like(torch.empty(size, dtype=torch.uint8)) for size in sizes]
    while results:
        results.pop(0)
    assert [memory.numel() for memory in pages._free] == [LARGE + 1, LARGE + 2]
    empty_cache()
    assert not pages._free


def test_a_result_outlives_the_cache():
    made = result_like(torch.empty(LARGE, dtype=torch.uint8)).fill_(7)
    empty_cache()
    assert (made == 7).all()
    assert not pages._free


def test_threads_never_share_a_result():
    x, wrong = torch.empty(LARGE, dtype=torch.uint8), []

    def fill(value):
        for _ in range(50):
            made = result_like(x).fill_(value)
            if not (made == value).all():
                wrong.append(value)

    threads = [threading.Thread(target=fill, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 1 <= len(pages._free) <= 8  # each has its last one while it asks for the next


def test_attention_again_is_the_same_in_memory_that_was_used_before():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 32768, 32, generator=generator).requires_grad_() for _ in range(3))

    def run():
        y = linear_attention(q, k, v, backend=BLOCKED)
        return [y.detach().clone(), *(g.clone() for g in torch.autograd.grad(y.sum(), (q, k, v)))]

    first = run()
    assert pages._free
    for memory in pages._free:
        memory.fill_(255)
    for again, expected in zip(run(), first, strict=True):
        torch.testing.assert_close(again, expected, rtol=0, atol=0)
