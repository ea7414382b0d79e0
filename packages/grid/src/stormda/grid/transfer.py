"""The same weights for patches of another size: from coarse to fine grids and back.

A patch of p x p cells and one of q x q that covers the same area are joined by bilinear
interpolation, x_q = B x_p. A tokenizer that is to give for x_q what it gave for x_p has weights

    w_q = (B^+)^T w_p,    so that w_q . (B x_p) = w_p . x_p    where q >= p,

and a detokenizer that is to give the interpolated field has B w_p.

Source: Beyer et al. (2023), FlexiViT, CVPR, section 3.4, https://arxiv.org/abs/2212.08013.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stormda.grid.axis import Floats
from stormda.grid.tokenizer import Detokenizer, Tokenizer


def resize_tokenizer(tokenizer: Tokenizer, patch: tuple[int, int]) -> Tokenizer:
    """Return a tokenizer of patches of another size that treats smooth fields alike.

    Args:
        tokenizer: Trained on patches of rows and columns of one frame.
        patch: The rows and columns wanted [cells].

    Raises:
        ValueError: The tokenizer's patches have several frames or no rows and columns.

    Examples:
        >>> from stormda.grid.tokenizer import TokenizerConfig
        >>> small = Tokenizer(TokenizerConfig(variables=("t2m",), patch=(2, 2)))
        >>> resize_tokenizer(small, (4, 4)).weight.shape
        torch.Size([1, 33, 128])
    """
    config = tokenizer.config
    old = _rows_and_columns(config.patch, config.frames)
    b = torch.as_tensor(np.linalg.pinv(bilinear_matrix(old, patch)).T.copy())
    weight, cells = tokenizer.weight.detach(), config.cells
    values, constant, gaps = (
        weight[:, :cells],
        weight[:, cells : cells + 1],
        weight[:, cells + 1 :],
    )
    state = tokenizer.state_dict()
    state["weight"] = torch.cat([_times(b, values), constant, _times(b, gaps)], 1)
    resized = Tokenizer(replace(config, patch=patch)).to(tokenizer.weight)
    resized.load_state_dict(state)
    return resized


def resize_detokenizer(detokenizer: Detokenizer, patch: tuple[int, int]) -> Detokenizer:
    """Return a detokenizer of patches of another size that gives the interpolated fields.

    Args:
        detokenizer: Trained on patches of rows and columns of one frame.
        patch: The rows and columns wanted [cells].

    Raises:
        ValueError: The detokenizer's patches have several frames or no rows and columns.

    Examples:
        >>> from stormda.grid.tokenizer import TokenizerConfig
        >>> small = Detokenizer(TokenizerConfig(variables=("t2m",), patch=(2, 2)))
        >>> resize_detokenizer(small, (4, 4)).weight.shape
        torch.Size([1, 16, 128])
    """
    config = detokenizer.config
    b = torch.as_tensor(bilinear_matrix(_rows_and_columns(config.patch, config.frames), patch))
    state = detokenizer.state_dict()
    state["weight"] = _times(b, detokenizer.weight.detach())
    state["bias"] = _times(b, detokenizer.bias.detach()[..., None])[..., 0]
    resized = Detokenizer(replace(config, patch=patch)).to(detokenizer.weight)
    resized.load_state_dict(state)
    return resized


def bilinear_matrix(old: tuple[int, int], new: tuple[int, int]) -> Floats:
    """Return the matrix that interpolates patches of one size to another (new cells, old cells).

    Examples:
        >>> bilinear_matrix((1, 2), (1, 4))
        array([[1.  , 0.  ],
               [0.75, 0.25],
               [0.25, 0.75],
               [0.  , 1.  ]])
    """
    rows, cols = (_along(n, m) for n, m in zip(old, new, strict=True))
    return np.asarray(np.kron(rows, cols), np.float64)


def _along(n: int, m: int) -> Floats:
    """Return the matrix (m, n) from n to m cell centres of one interval, level at its ends."""
    at = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(n)), 0, None))


def _times(b: Tensor, weight: Tensor) -> Tensor:
    return (b.to(weight.device) @ weight.double()).to(weight.dtype)


def _rows_and_columns(patch: tuple[int, ...], frames: int) -> tuple[int, int]:
    if len(patch) != 2 or frames != 1:
        raise ValueError(f"patch: expected rows and columns of 1 frame, got {patch} of {frames}")
    return patch[0], patch[1]
