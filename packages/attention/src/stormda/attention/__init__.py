"""Global attention at linear cost for fields of tokens in space and time."""

from stormda.attention.block import MIXERS, BlockConfig, StormBlock
from stormda.attention.decay import decay_scan
from stormda.attention.features import (
    Feature,
    elu1,
    focused,
    hedgehog,
    relu,
    softmax_feature,
    spherical_cosine,
)
from stormda.attention.history import HistoryKeys, HistoryProjection, TemporalCrossAttention
from stormda.attention.linear import LinearState, Reduce, linear_attention
from stormda.attention.local import DepthwiseLocal, depthwise_local
from stormda.attention.mixers import (
    FullAttention,
    GlobalLinearAttention,
    LocalMixing,
    Mixer,
    TileAttention,
)
from stormda.attention.noise import NoiseGate, SharedModulation, noise_embedding
from stormda.attention.norm import HeadNorm, rms_norm
from stormda.attention.softmax import softmax_attention
from stormda.attention.temporal import absorbed_attention, temporal_attention
from stormda.attention.tile import tile_attention

__all__ = [
    "MIXERS",
    "BlockConfig",
    "DepthwiseLocal",
    "Feature",
    "FullAttention",
    "GlobalLinearAttention",
    "HeadNorm",
    "HistoryKeys",
    "HistoryProjection",
    "LinearState",
    "LocalMixing",
    "Mixer",
    "NoiseGate",
    "Reduce",
    "SharedModulation",
    "StormBlock",
    "TemporalCrossAttention",
    "TileAttention",
    "absorbed_attention",
    "decay_scan",
    "depthwise_local",
    "elu1",
    "focused",
    "hedgehog",
    "linear_attention",
    "noise_embedding",
    "relu",
    "rms_norm",
    "softmax_attention",
    "softmax_feature",
    "spherical_cosine",
    "temporal_attention",
    "tile_attention",
]
