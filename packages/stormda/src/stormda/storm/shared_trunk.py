"""One trunk for several sources of fields, each with heads of its own.

    fields of a source -> its tokenizer -> keys, encoder, trunk of all -> its detokenizer

A head is what depends on variables and grid: tokenizers, detokenizers, the embeddings of errors,
frames and clock. Patches may differ, and so may variables and grids, as long as the blocks are the
same: with a patch for each, sources of several resolutions have tokens of one size. What a source
has learned is a network like any other.

Source: a head for each source of data on one trunk after HydraGNN, Lupo Pasini et al. (2025),
https://arxiv.org/abs/2506.21788
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from stormda.parallel import StartedMesh
from stormda.storm.network import StormNetwork
from stormda.storm.objective import AnySource, loss_weight_of
from stormda.storm.training_config import TrainingConfig

SHARED = ("keys", "noise", "encoder_modulation", "encoder", "modulation", "trunk")
"""The parts of a network that all sources have in common."""

_OF = "of_"
"""How the names of sources begin among modules, where such as `half` and `train` are taken."""


class SharedTrunk(nn.Module):
    """Networks of several sources that share all but their heads.

    Args:
        networks: The network of every source; they take the trunk of the first.

    Raises:
        ValueError: If the networks differ in more than their heads, a grid has no rows and
            columns, or ranks share fields whose tokens have several shapes.

    Examples:
        >>> from dataclasses import replace
        >>> from stormda.grid import grid
        >>> from stormda.storm import StormConfig
        >>> config = StormConfig(variables=("t2m",), width=16, heads=2, encoder_depth=1, depth=1)
        >>> fine = replace(config, variables=("u10", "v10"), patch=(2, 2))
        >>> both = SharedTrunk(
        ...     {"a": StormNetwork(config, grid("15deg")), "b": StormNetwork(fine, grid("30deg"))}
        ... )
        >>> both.each["a"].trunk is both.each["b"].trunk
        True
    """

    def __init__(self, networks: Mapping[str, StormNetwork]) -> None:
        super().__init__()
        first, *others = networks.values()
        for name, network in networks.items():
            _require_alike(name, network, first)
        for network in others:
            for part in SHARED:
                setattr(network, part, getattr(first, part))
        self.networks = nn.ModuleDict({f"{_OF}{name}": one for name, one in networks.items()})
        self.register_state_dict_post_hook(_say_once)  # type: ignore[no-untyped-call]

    @property
    def each(self) -> dict[str, StormNetwork]:
        """Return the network of every source."""
        return {name.removeprefix(_OF): one for name, one in self.networks.items()}  # type: ignore[misc]

    @property
    def first(self) -> StormNetwork:
        """Return the network of the first source."""
        return next(iter(self.each.values()))

    @property
    def mesh(self) -> StartedMesh | None:
        """Return the ranks that share the networks."""
        return self.first.mesh

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Return the blocks, those of the encoder first."""
        return self.first.blocks

    def compile_blocks(self) -> None:
        """Compile every block by itself."""
        self.first.compile_blocks()


def _require_alike(name: str, network: StormNetwork, first: StormNetwork) -> None:
    mine, theirs = ([block.config for block in n.blocks] for n in (network, first))
    if len(network.share.whole.token_shape) != 2:
        raise ValueError(f"{name}: expected a grid of rows and columns, got {network.grid!r}")
    depths = (network.config.encoder_depth, network.config.depth)
    if mine != theirs or depths != (first.config.encoder_depth, first.config.depth):
        raise ValueError(
            f"{name}: expected blocks like those of the first source, {theirs[0]}, got {mine[0]}"
        )
    if not first.share.alone and network.share.shape != first.share.shape:
        raise ValueError(
            f"{name}: expected tokens of the shape {first.share.shape} where ranks share the "
            f"fields, got {network.share.shape}"
        )


def _say_once(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:  # noqa: ANN401
    """Leave out of a state the further names of what is shared."""
    once = {name for name, _ in module.named_parameters()}
    for name, _ in module.named_parameters(remove_duplicate=False):
        if name not in once:
            del state[prefix + name]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A part of every batch: samples of one source, and the network that learns from them."""

    network: StormNetwork
    """The network."""

    source: AnySource
    """Its samples."""

    batch: int
    """How many of them are in a batch."""

    weight: Tensor | None
    """How much the cells of this process count; None where all count alike."""


def task_of(network: StormNetwork, source: AnySource, config: TrainingConfig, batch: int) -> Task:
    """Return the task of a source with so many samples in a batch."""
    weight = loss_weight_of(
        network,
        area=config.area_weights,
        polar=config.polar_weight,
        by_variable=config.variable_weights,
    )
    return Task(network=network, source=source, batch=batch, weight=weight)


def tasks_of(
    networks: StormNetwork | SharedTrunk,
    sources: AnySource | Mapping[str, tuple[AnySource, int]],
    config: TrainingConfig,
) -> list[Task]:
    """Return what every batch of a training is made of.

    Args:
        networks: Of one source or of several.
        sources: Likewise, several with how many samples each has in a batch.
        config: With the size of a batch and the weights of the loss.

    Raises:
        ValueError: If the sources are not those of the networks or their samples no batch.
    """
    if isinstance(networks, StormNetwork):
        assert not isinstance(sources, Mapping)
        return [task_of(networks, sources, config, config.batch)]
    assert isinstance(sources, Mapping)
    each = networks.each
    if list(each) != list(sources) or sum(n for _, n in sources.values()) != config.batch:
        raise ValueError(
            f"sources: expected samples of {', '.join(each)} that make a batch of {config.batch}, "
            f"got { ({name: n for name, (_, n) in sources.items()}) }"
        )
    return [task_of(each[name], source, config, n) for name, (source, n) in sources.items()]
