"""Many variables of a patch into one vector: a learned query for each head gathers them.

Each variable v is embedded by its own matrix, `e_v = x_v W_v`, and those that are present are
gathered for each head h,

    y = concat_h sum_v a_vh [e_v]_h,    a_vh = softmax_v(e_v . u_h),

where `[.]_h` is the head's share of the width. Keys are not formed: u_h stands for the query of an
ordinary cross-attention times its key matrix; it starts at zero, so as the mean. Nor is any e_v,
since all is linear in the few numbers x_v of a patch: `e_v . u_h = x_v (W_v u_h)`, and the sum
over v is one product of the `a_vh x_v`, side by side, with the `[W_v]_h`, one below the other.

Source: Nguyen et al. (2023), ClimaX, ICML, section 3.1, https://arxiv.org/abs/2301.10343 (variable
tokenization and aggregation).
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def aggregate(
    cells: Tensor,
    weight: Tensor,
    query: Tensor,
    present: Tensor | None = None,
    *,
    chunk: int | None = None,
) -> Tensor:
    """Embed the patches of every variable and gather the variables by one query for each head.

    Args:
        cells: The numbers in each patch, x_v (v, m, k).
        weight: A matrix for each variable, W_v (v, k, d).
        query: A query for each head, u_h (h, d); zeros give the mean over the variables.
        present: Where there is something of a variable (v, m), bool; None for everywhere. Absent
            variables have no share, unless all are absent.
        chunk: How many patches are worked on at a time; None for all at once. What is formed for
            every patch, variable and head is then as large as a chunk, and formed once more for
            the gradient.

    Returns:
        One vector for each patch (m, d); head i fills the i-th of h equal parts.

    Examples:
        >>> cells, weight = torch.tensor([[[1.0]], [[3.0]]]), torch.ones(2, 1, 4)
        >>> aggregate(cells, weight, query=torch.zeros(2, 4))
        tensor([[2., 2., 2., 2.]])
    """
    if chunk is None or cells.shape[1] <= chunk:
        return _aggregate(cells, weight, query, present)
    starts = range(0, cells.shape[1], chunk)
    parts = [(cells[:, i : i + chunk], i) for i in starts]
    return torch.cat(
        [
            checkpoint(
                _aggregate,
                part,
                weight,
                query,
                None if present is None else present[:, i : i + chunk],
                use_reentrant=False,
            )
            for part, i in parts
        ]
    )


def _aggregate(cells: Tensor, weight: Tensor, query: Tensor, present: Tensor | None) -> Tensor:
    logits = cells @ (weight @ query.mT)
    if present is not None:
        absent = ~(present | ~present.any(0))
        logits = logits.masked_fill(absent[..., None], -torch.inf)
    share = rearrange(logits.softmax(0), "v m h -> h m v 1").contiguous()
    shared = rearrange(share * rearrange(cells, "v m k -> m v k"), "h m v k -> h m (v k)")
    heads = rearrange(weight, "v k (h d) -> h (v k) d", h=len(query))
    return rearrange(shared @ heads, "h m d -> m (h d)")
