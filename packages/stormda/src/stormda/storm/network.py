"""The STORM network: history as keys and values, the present as queries.

    history frames --tokens--> keys, values                              once per analysis
    newest frame   --tokens--> encoder blocks --> outlook, forecast m    once per analysis
    noisy present  --tokens--> trunk blocks --> F(d; sigma, history)     every denoising step

The encoder works out what the history leads to. Its forecast m is the conditional mean of the
increment w; the trunk denoises the departure d = w - m,

    D(d; sigma) = s^2 / t^2 d + sigma s / t F(d / t),    t^2 = s^2 + sigma^2,

an estimate of E[d | d + sigma n, history], with s the typical size of a departure. With empirical
modes (`modes`), the covariance of a departure takes the place of s^2 in the first term; with plane
waves (`plane_waves`) it does so in all of them, and what the encoder makes has the spectrum of w.
With a learned law of motion (`transport`), where it takes the newest frame is one more frame of
the history and the start of m, and what is wrong is told wave by wave (`error_spectrum`).

Spatial mixing is linear attention with a local convolution, temporal mixing looks at the frames of
one location only, so every frame costs O(tokens). History tokens never enter the trunk: a long
history costs its embedding, and the encoder's outlook is one more frame for the trunk to look at.

Several frames may be sampled together (`window`): a token is then a patch of all of them, so that
they cost hardly more than one.

On a mesh of ranks a process holds a rectangle of every field (`field_share`, axes lat and lon) and
some heads of every block (`heads_cut`, axis tensor); the same numbers come out as on one process.

Source: Karras et al. (2022), eq. 7, https://arxiv.org/abs/2206.00364; block and noise gates after
STORM, https://arxiv.org/abs/2604.16590, section III; a deterministic mean with a generative
residual as in Mardani et al. (2025), CorrDiff, https://arxiv.org/abs/2309.15214; tokens of several
frames, Arnab et al. (2021), ViViT, section 3.2, https://arxiv.org/abs/2103.15691.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from stormda.attention import (
    HistoryProjection,
    SharedModulation,
    StormBlock,
)
from stormda.grid import Grid, Patching, grid_features
from stormda.grid.tokenizer import Detokenizer, Tokenizer, TokenizerConfig
from stormda.parallel import Communicator, SelfComm, StartedMesh
from stormda.storm.config import StormConfig
from stormda.storm.covariance import covariance_of, transport_of
from stormda.storm.encoded import Encoded, beside
from stormda.storm.field_share import FieldShare
from stormda.storm.heads_cut import cut_block, cut_history
from stormda.storm.network_tiles import NetworkTiles
from stormda.storm.past_frames import Past, held_past, streamed_past, weights_of
from stormda.storm.scalar_embedding import ScalarEmbedding
from stormda.storm.token_layout import block_of, has_poles, neighbourhood, rows_and_columns
from stormda.storm.window import frames_of

CLOCK_FEATURES = 6
"""Sines and cosines of the year, the UTC day and the local solar day (`time_features`)."""


DEPARTURE = 0.4
"""Typical size s of a departure from the forecast, in standard deviations of the increment, where
no modes tell it."""


class StormNetwork(nn.Module):
    """F and its preconditioning, in normalised units, for one grid.

    Args:
        config: The sizes.
        grid: Where the fields live; its geometry enters as token features. Tokens mix with their
            neighbours by rows and columns, on a globe also over the poles, or, where the grid is a
            list of cells, by the table of `Patching.neighbours`; the weights are the same.
        valid: Where a field exists at all (the sea, for waves), bool
            (variables, *grid.shape); None for everywhere. Elsewhere the fields are zero.
        mesh: Ranks that share the fields (axes `lat` and `lon`) and the heads (axis `tensor`);
            None for one process. Fields are then the cells of `share.cut`.

    Raises:
        ValueError: `valid` has another shape, the mixer has tiles and the grid no rows, or the
            grid or the heads do not fit the mesh.

    Examples:
        >>> from stormda.grid import PlaneGrid
        >>> network = StormNetwork(
        ...     StormConfig(variables=("theta",), width=32, heads=2, depth=1, encoder_depth=1),
        ...     PlaneGrid((8, 8), spacing_m=(1e5, 1e5)),
        ... )
        >>> past = network.encode(torch.zeros(3, 2, 1, 8, 8), torch.ones(3, 1))
        >>> network(torch.zeros(3, 1, 8, 8), torch.tensor(1.0), past).shape
        torch.Size([3, 1, 8, 8])
    """

    features: Tensor
    weight: Tensor
    valid: Tensor | None
    here: Tensor | None

    def __init__(
        self,
        config: StormConfig,
        grid: Grid,
        *,
        valid: Tensor | None = None,
        mesh: StartedMesh | None = None,
    ) -> None:
        super().__init__()
        expected = (len(config.variables), *grid.shape)
        if valid is not None and (tuple(valid.shape) != expected or valid.dtype != torch.bool):
            raise ValueError(
                f"valid: expected bool of shape {expected}, got {valid.dtype} of shape "
                f"{tuple(valid.shape)}"
            )
        self.config, self.grid, self.mesh = config, grid, mesh
        whole = Patching(grid, patch=config.patch)
        self.share = FieldShare(whole, mesh, poles=has_poles(whole))
        self.tiles: NetworkTiles | None = None
        self.patching = self.share.patching
        self.window = replace(self.patching, frames=config.targets)
        self.shape = rows_and_columns(self.patching)
        features = torch.as_tensor(grid_features(whole), dtype=torch.float32)
        tokens = TokenizerConfig(
            variables=config.variables,
            patch=config.patch,
            width=config.width,
            heads=config.heads,
            static=features.shape[-1],
        )
        window = replace(tokens, frames=config.targets)
        self.state_tokens = Tokenizer(window)
        self.history_tokens = Tokenizer(tokens)
        self.fields = Detokenizer(window)
        self.forecast = Detokenizer(window)
        self._register_places(whole, features, valid)
        self.transport = transport_of(config, grid)
        seen = config.history + (self.transport is not None)
        self.frame = nn.Parameter(0.02 * torch.randn(seen + 1, config.width))
        told = 1 if self.transport is None else len(self.transport.bands)
        self.level = ScalarEmbedding(told * len(config.variables), config.width)
        self.noise = ScalarEmbedding(1, config.width)
        self.clock = nn.Linear(CLOCK_FEATURES, config.width) if config.clock else None
        self._add_blocks(config, whole, expected)
        self._spread(mesh)

    def _add_blocks(self, config: StormConfig, whole: Patching, shape: tuple[int, ...]) -> None:
        """Make the encoder and the trunk, and what both need."""
        block = block_of(config, whole)
        if math.prod(config.network_tiles) > 1:
            self.tiles = NetworkTiles(config, self.share, poles=block.poles)
            block = replace(block, periodic=(False, False), poles=False)
        around = neighbourhood(whole)
        self.modes = covariance_of(config, whole.grid, everywhere=self.valid is None)
        inner = replace(block, temporal=False)
        self.keys = HistoryProjection(config.width, config.heads)
        self.encoder_modulation = SharedModulation(config.width)
        self.encoder = nn.ModuleList(
            StormBlock(inner if i else block, around=around) for i in range(config.encoder_depth)
        )
        self.modulation = SharedModulation(config.width)
        self.trunk = nn.ModuleList(StormBlock(block, around=around) for _ in range(config.depth))

    def _register_places(self, whole: Patching, features: Tensor, valid: Tensor | None) -> None:
        """Keep what is known of every place, cut to this process's share."""
        weight = torch.as_tensor(whole.weights, dtype=torch.float32)
        cut = self.share.cut_tokens
        self.register_buffer("features", cut(features), persistent=False)
        self.register_buffer("weight", cut(weight / weight.mean()), persistent=False)
        self.register_buffer("valid", valid)
        here = None if valid is None else self.share.cut(valid)
        self.register_buffer("here", here, persistent=False)

    def _spread(self, mesh: StartedMesh | None) -> None:
        """Let every block have its part of the field and of the heads."""
        tensor: Communicator = SelfComm()
        if mesh is not None and "tensor" in mesh.mesh.names:
            tensor = mesh.comm("tensor")
        sharded = mesh is not None and "shard" in mesh.mesh.names and mesh.size("shard") > 1
        cut_history(self.keys, self.config.width, tensor, sharded=sharded)
        for block in self.blocks:
            cut_block(block, tensor, sharded=sharded)
            if not self.share.alone and self.tiles is None:
                block.spread(self.share)
        if sharded and (chunk := self.config.history_chunk):
            raise ValueError(f"history_chunk: expected 0 with sharded parameters, got {chunk}")
        if sharded and self.tiles is not None and len(self.tiles) > 1:
            raise ValueError(
                "mesh: expected a tile for every rank of lat x lon where parameters are sharded, "
                f"got {len(self.tiles)} on each"
            )

    @property
    def blocks(self) -> list[StormBlock]:
        """Return the blocks, those of the encoder first."""
        return [*self.encoder, *self.trunk]

    def encode(
        self,
        history: Tensor,
        level: Tensor,
        clock: Tensor | None = None,
        *,
        course: Tensor | None = None,
    ) -> Encoded:
        """Turn the past into keys and values.

        Args:
            history: Normalised frames z, oldest first, (batch, history, variables, *grid.shape).
            level: Expected error of the last frame, in standard deviations of each variable,
                (batch, variables); 0 where the past is known exactly. With a law of motion the
                spectrum of what is wrong after it has acted (`error_spectrum`), in units of the
                normalised increment, (batch, variables, shells).
            clock: Calendar features of the present, (batch, 6), where the config asks for them.
            course: From `course`, if it is known.

        Raises:
            ValueError: Where a shape does not fit the config.
        """
        field = (len(self.config.variables), *self.patching.grid.shape)
        expected = (len(history), self.config.history, *field)
        if tuple(history.shape) != expected:
            raise ValueError(f"history: expected {expected}, got {tuple(history.shape)}")
        course = self.course(history) if course is None else course
        condition = self._condition(level, clock)
        keys, forecast = self._read(history, course, condition)
        if self.modes is None:
            size = torch.full_like(level[:, 0], DEPARTURE)
            return Encoded(keys, condition, forecast, size, None)
        if course is None:
            rho = self.modes.known(level)
            unknown = self.modes.unknown(rho)
            start = self.modes.reversion(self.share.joined(history[:, -1]), rho)
        else:
            unknown = self.modes.along(level)
            start = (course.diff(dim=1) / self.modes.unit).flatten(1, 2)
        variance = self.modes.variance(unknown, self.config.targets)
        if self.config.waves:
            increments = self.modes.increments(unknown, self.config.targets)
            forecast = self._along(forecast, increments.sqrt()).clone()
        forecast[:, : start.shape[1]] += self.share.cut(start)
        size = self.modes.size(variance).detach()
        return Encoded(keys, condition, forecast, size, variance)

    def course(self, history: Tensor) -> Tensor | None:
        """Return the whole newest frame and where the law of motion takes it, if there is one."""
        if self.transport is None:
            return None
        course: Tensor = self.transport(self.share.joined(history[:, -1]), self.config.targets)
        return course

    def _condition(self, level: Tensor, clock: Tensor | None) -> Tensor:
        """Embed what is said of the past and of the calendar, (batch, width)."""
        told = level if self.transport is None else self.transport.told(level)
        condition: Tensor = self.level(torch.log(told + 1e-3))
        if self.clock is None:
            return condition
        if clock is None:
            raise ValueError("clock: expected calendar features, got None")
        condition = condition + self.clock(clock)
        return condition

    def _read(
        self, history: Tensor, course: Tensor | None, condition: Tensor
    ) -> tuple[Past, Tensor]:
        """Return what layers read of past and outlook, and what the encoder forecasts."""
        past, newest = self._past(history, course)
        modulation = self.encoder_modulation(condition)
        tokens = self._passed(self.encoder, newest, condition, modulation, past)
        outlook = self.keys((tokens + self.frame[-1])[:, None])
        forecast = self._fields(self.forecast, tokens, history).clone()  # FSDP2 wants no views
        return past.followed_by(outlook), forecast

    def _past(self, history: Tensor, course: Tensor | None) -> tuple[Past, Tensor]:
        """Return what layers read of the past, and the tokens of its newest frame."""
        ahead = None if course is None else self.share.cut(course[:, 1:2])
        if not (chunk := self.config.history_chunk):
            return held_past(history, ahead, self._embedded, self.keys)
        learned = weights_of(self.history_tokens, self.keys, self.frame)
        return streamed_past(history, ahead, self._embedded, self.keys, chunk, learned)

    def _embedded(self, frames: Tensor, first: int) -> Tensor:
        """Return the tokens of some frames of the past, (batch, frames, n, width)."""
        tokens = self._tokens(self.history_tokens, frames.flatten(0, 1), self.patching)
        tokens = rearrange(tokens, "(b k) n d -> b k n d", b=len(frames))
        return tokens + self.frame[first : first + frames.shape[1], None]

    def forward(self, d: Tensor, sigma: Tensor, past: Encoded) -> Tensor:
        """Return D(d; sigma, past), the expected departure from the forecast.

        Args:
            d: Noisy departures, (batch, channels, *grid.shape).
            sigma: Noise level, a scalar or (batch,).
            past: From `encode`.
        """
        sigma = sigma.to(d.dtype).expand(d.shape[0])
        if self.config.waves:
            correction = self._correction_along(d, sigma, past)
        else:
            scale, size = beside(sigma, d), beside(past.size, d)
            total = torch.sqrt(size**2 + scale**2)
            residual = self.residual(d / total, torch.log(sigma), past)
            correction = scale * size / total * residual
        estimate = self.gaussian(d, sigma, past) + correction
        return estimate if self.here is None else estimate * self._where_known()

    def _correction_along(self, d: Tensor, sigma: Tensor, past: Encoded) -> Tensor:
        """Return what the trunk adds to the Gaussian's estimate, with scales of every wave."""
        assert past.variance is not None
        own, noise = past.variance.detach(), sigma[:, None, None].square()
        white = self._along(d, (own + noise).rsqrt())
        residual = self.residual(white, torch.log(sigma), past)
        return self._along(residual, (own * noise / (own + noise)).sqrt())

    def _along(self, x: Tensor, weights: Tensor) -> Tensor:
        """Multiply fields by weights (batch, frames, modes) along the modes, not in bfloat16."""
        assert self.modes is not None
        with torch.autocast(x.device.type, enabled=False):
            return self.share.cut(self.modes.weigh(self.share.joined(x), weights))

    def gaussian(self, d: Tensor, sigma: Tensor, past: Encoded) -> Tensor:
        """Return the expected departure, were departures Gaussian, as `forward` does."""
        if self.modes is None or past.variance is None:
            size, scale = beside(past.size, d), beside(sigma, d)
            return (size / torch.sqrt(size**2 + scale**2)) ** 2 * d
        with torch.autocast(d.device.type, enabled=False):
            return self.share.cut(self.modes.denoise(self.share.joined(d), sigma, past.variance))

    def uncertainty(self, past: Encoded) -> Tensor:
        """Return the typical size of a departure at every point, before anything is observed.

        In normalised increments, (batch, channels, *grid.shape), whole fields on any mesh.
        """
        if self.modes is None or past.variance is None:
            shape = (self.config.channels, *self.grid.shape)
            return past.size.view(-1, *[1] * len(shape)).expand(-1, *shape)
        return self.modes.pointwise(past.variance).sqrt()

    def residual(self, d: Tensor, log_sigma: Tensor, past: Encoded) -> Tensor:
        """Return F: the trunk between the tokenizer and the detokenizer."""
        condition = self.noise(log_sigma[:, None]) + past.condition
        frames = frames_of(d, len(self.config.variables))
        several = self.config.targets > 1
        tokens = self._tokens(self.state_tokens, frames if several else d, self.window)
        modulation = self.modulation(condition)
        tokens = self._passed(self.trunk, tokens, condition, modulation, past.keys)
        return self._fields(self.fields, tokens, d)

    def _passed(
        self,
        blocks: nn.ModuleList,
        tokens: Tensor,
        condition: Tensor,
        modulation: Tensor,
        history: Past,
    ) -> Tensor:
        """Return the tokens after some blocks."""
        with_past: dict[str, Any] = {"history": history, "weight": self.weight}
        if self.tiles is not None:
            return self.tiles(blocks, tokens, condition, modulation, **with_past)
        for block in blocks:
            tokens = block(tokens, condition, modulation, shape=self.shape, **with_past)
        return tokens

    def _fields(self, detokenizer: Detokenizer, tokens: Tensor, like: Tensor) -> Tensor:
        fields: Tensor = detokenizer(tokens, self.config.variables, patching=self.window)
        fields = fields.to(like.dtype)
        fields = fields.reshape(len(fields), -1, *like.shape[-len(self.grid.shape) :])
        return fields if self.here is None else fields * self._where_known()

    def _where_known(self) -> Tensor:
        """Return where the channels of this process exist, as factors."""
        assert self.here is not None
        return torch.cat([self.here] * self.config.targets)

    def compile_blocks(self) -> None:
        """Compile every block by itself, which is quicker to do than the whole and as fast."""
        for block in self.blocks:
            block.compile(dynamic=False)

    def _tokens(self, tokenizer: Tokenizer, fields: Tensor, patching: Patching) -> Tensor:
        tokens: Tensor = tokenizer(
            fields,
            self.config.variables,
            patching=patching,
            mask=self.here,
            static=self.features,
        )
        return tokens


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable numbers."""
    return sum(math.prod(p.shape) for p in module.parameters())
