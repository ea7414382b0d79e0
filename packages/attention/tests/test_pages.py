import re
from pathlib import Path

import pytest
import torch

from stormda.attention.pages import LARGE, result_like

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
