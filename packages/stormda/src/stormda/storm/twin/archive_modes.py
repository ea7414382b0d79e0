"""The start of a training on an archive: what a flow varies along, whatever symmetry moves it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stormda.grid import Grid
from stormda.storm.config import StormConfig
from stormda.storm.covariance import fit_directions
from stormda.storm.modes import Directions
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.recipes import SphereRecipe, SqgRecipe
from stormda.storm.streams import stream
from stormda.storm.twin.archive import Archive
from stormda.storm.twin.archive_law import archive_law, note_growth
from stormda.storm.twin.samples import ArchivedSamples, Move, move_on_plane

FRAMES_PER_MODE = 8
"""From how many frames, for each of them, modes are found."""

WAVES = 200
"""From as many frames as so many modes, waves are."""

_MODES = 3
"""What a stream of the training is for (`streams`): its modes."""


def archive_modes(
    archive: Archive,
    normalization: Normalization,
    network: StormConfig,
    *,
    seed: int,
    move: Move = move_on_plane,
    on: Callable[[Tensor], Tensor] | None = None,
    ahead: Callable[[Tensor], Tensor] | None = None,
) -> Directions:
    """Return the modes or waves of an archive, of frames that were moved as samples are.

    What the climate does not know, such as longitude, the modes do not know either.

    Args:
        archive: Truths.
        normalization: Of the fields that the modes are of.
        network: What has to start from them.
        seed: Of the choice of frames and of their moves.
        move: The symmetries of the flow; by default those of the periodic plane.
        on: What takes the fields to their cells, where those are not the grid of the archive.
        ahead: What takes normalised frames to those after them, where increments are what it
            leaves.

    Returns:
        Directions in units of the normalised increment, for fields (variables, *grid.shape).

    Raises:
        ValueError: Where there are not more cells with fields than modes.
    """
    g = stream(seed, _MODES)
    config, number = archive.config, FRAMES_PER_MODE * (network.modes or WAVES)
    run = torch.randint(config.runs, (number,), generator=g)
    frame = config.stride * torch.randint(config.steps, (number,), generator=g)
    steps = [archive.truth[run, frame], archive.truth[run, frame + config.stride]]
    fields = move(torch.stack(steps, 1), g)
    before, now = normalization.to_z(fields if on is None else on(fields)).unbind(1)
    increment, expected = normalization.increment, before if ahead is None else ahead(before)
    return fit_directions(network, now, (now - expected) / increment, increment)


def starting_network(
    recipe: SqgRecipe | SphereRecipe,
    grid: Grid,
    archive: Archive,
    normalization: Normalization,
    *,
    move: Move = move_on_plane,
    on: Callable[[Tensor], Tensor] | None = None,
) -> StormNetwork:
    """Return the network that a training on an archive starts from.

    Args:
        recipe: The settings, with the seed of the weights.
        grid: Where the fields live.
        archive: Truths.
        normalization: Of the fields.
        move: The symmetries of the flow.
        on: What takes the fields to their cells, where those are not the grid of the archive.
    """
    seed = recipe.training.seed
    torch.manual_seed(seed)
    network = StormNetwork(recipe.network, grid)
    ahead = None
    if network.transport is not None:
        assert isinstance(recipe, SqgRecipe)  # waves have a plane
        settings = recipe.law
        law = archive_law(archive, normalization, recipe.network, seed=seed, settings=settings)
        network.transport.set(law)
        ahead = network.transport.next_frame
    if network.modes is not None:
        known = archive_modes(
            archive, normalization, recipe.network, seed=seed, move=move, on=on, ahead=ahead
        )
        network.modes.set(known)
    if network.transport is not None:
        history = recipe.network.history
        source = ArchivedSamples(archive, normalization, recipe.errors, history=history, seed=seed)
        note_growth(network, source)
    return network
