"""The work, the parameters and the memory of a transformer, counted.

A layer has 24 w^2 parameters: spatial attention 4 w^2, temporal attention 4 w^2, MLP 8 w^2, and
modulation and gates by the noise level 8 w^2; so counted, the ladder has its published sizes. The
modulation acts on one vector a sample: 16 w^2 multiply-adds act on every token.
"""

from __future__ import annotations

from dataclasses import dataclass

_TOKEN_WEIGHTS = 16  # of a layer, in w^2, that act on every token
_LAYER_WEIGHTS = 24  # of a layer, in w^2
_ACTIVATIONS = 34 * 2  # bytes for each feature of a token in 16 bits that a layer keeps


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A stack of equal layers with linear attention over tokens."""

    width: int
    """Features of a token."""

    depth: int
    """Number of layers."""

    heads: int
    """Number of heads."""

    tokens: int
    """Tokens of a sample."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("width", "depth", "heads", "tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")

    @property
    def layer_parameters(self) -> int:
        """Parameters of a layer."""
        return _LAYER_WEIGHTS * self.width**2

    @property
    def parameters(self) -> int:
        """Parameters of all layers."""
        return self.depth * self.layer_parameters

    def layer_flops(self, tokens: float) -> float:
        """Return the work of a layer, forward, on some tokens [FLOP].

        Two operations for each weight and token, and for each entry of the attention state
        (heads x head x head = w^2 / heads) to add to it and to read it.
        """
        per_token = 2 * _TOKEN_WEIGHTS * self.width**2 + 4 * self.width**2 / self.heads
        return tokens * per_token

    @property
    def state_bytes(self) -> int:
        """Bytes of the linear attention state of a sample and layer, in 32 bits."""
        head = self.width // self.heads
        return 4 * self.heads * (head * head + 2 * head + 1)


LADDER = {
    "10M": Transformer(width=256, depth=6, heads=8, tokens=32_768),
    "200M": Transformer(width=1024, depth=8, heads=16, tokens=32_768),
    "10B": Transformer(width=3072, depth=40, heads=24, tokens=32_768),
}
"""The published sizes; 32,768 tokens are a field of 512 x 1024 cells in patches of 4 x 4."""


def device_bytes(
    model: Transformer, *, tokens: float, shard: int, tensor: int, recompute: bool
) -> dict[str, float]:
    """Return what a device holds at the peak of a step [B].

    Args:
        model: The model.
        tokens: Tokens of one pass on this device.
        shard: Over how many devices parameters are sharded.
        tensor: Over how many devices layers are cut.
        recompute: Whether layers keep their inputs only.

    Returns:
        `parameters` (float32 weights, gradients and two moments: 16 bytes each, sharded and
        cut), `gathered` (two layers in 16 bits and the gradient of one in 32) and `activations`.

    Examples:
        >>> parts = device_bytes(LADDER["10B"], tokens=32_768, shard=64, tensor=1, recompute=True)
        >>> {name: round(nbytes / 1e9, 1) for name, nbytes in parts.items()}
        {'parameters': 2.3, 'gathered': 1.8, 'activations': 14.9}
    """
    kept = tokens * model.width
    one_layer = _ACTIVATIONS * kept / tensor
    activations = 2 * kept * model.depth + one_layer if recompute else one_layer * model.depth
    return {
        "parameters": 16 * model.parameters / (shard * tensor),
        "gathered": 0.0 if shard == 1 else 8 * model.layer_parameters / tensor,
        "activations": activations,
    }
