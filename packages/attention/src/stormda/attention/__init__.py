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
from stormda.attention.gated import Band
from stormda.attention.history import (
    History,
    HistoryKeys,
    HistoryProjection,
    TemporalCrossAttention,
)
from stormda.attention.latent import latent_attention
from stormda.attention.linear import (
    BLOCKED,
    FUSED,
    NATIVE,
    PLAIN,
    Backend,
    backend_report,
    linear_attention,
    suited,
)
from stormda.attention.local import DepthwiseLocal, depthwise_local
from stormda.attention.mixers import (
    FullAttention,
    GlobalLinearAttention,
    LatentAttention,
    LocalMixing,
    Mixer,
)
from stormda.attention.neighbours import Neighbourhood, compass_shares, neighbour_local
from stormda.attention.noise import NoiseGate, SharedModulation, noise_embedding
from stormda.attention.norm import HeadNorm, rms_norm
from stormda.attention.pages import empty_cache
from stormda.attention.sequence import Sink, Source
from stormda.attention.softmax import softmax_attention
from stormda.attention.spread import Spread
from stormda.attention.state import LinearState, Reduce
from stormda.attention.stream_block import StreamedBlock
from stormda.attention.streamed import Store, Streamed, StreamLayer, streamed
from stormda.attention.streamed_history import StreamedHistory
from stormda.attention.temporal import absorbed_attention, temporal_attention
from stormda.attention.tile import tile_attention
from stormda.attention.tile_mixers import TileAttention, TileLinearAttention
from stormda.attention.tilewise import Tilewise, Tiling, tilewise

__all__ = [
    "BLOCKED",
    "FUSED",
    "MIXERS",
    "NATIVE",
    "PLAIN",
    "Backend",
    "Band",
    "BlockConfig",
    "DepthwiseLocal",
    "Feature",
    "FullAttention",
    "GlobalLinearAttention",
    "HeadNorm",
    "History",
    "HistoryKeys",
    "HistoryProjection",
    "LatentAttention",
    "LinearState",
    "LocalMixing",
    "Mixer",
    "Neighbourhood",
    "NoiseGate",
    "Reduce",
    "SharedModulation",
    "Sink",
    "Source",
    "Spread",
    "Store",
    "StormBlock",
    "StreamLayer",
    "Streamed",
    "StreamedBlock",
    "StreamedHistory",
    "TemporalCrossAttention",
    "TileAttention",
    "TileLinearAttention",
    "Tilewise",
    "Tiling",
    "absorbed_attention",
    "backend_report",
    "compass_shares",
    "decay_scan",
    "depthwise_local",
    "elu1",
    "empty_cache",
    "focused",
    "hedgehog",
    "latent_attention",
    "linear_attention",
    "neighbour_local",
    "noise_embedding",
    "relu",
    "rms_norm",
    "softmax_attention",
    "softmax_feature",
    "spherical_cosine",
    "streamed",
    "suited",
    "temporal_attention",
    "tile_attention",
    "tilewise",
]
