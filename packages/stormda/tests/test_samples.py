"""The archive and its samples: laws of the windows, of the errors and of the symmetries."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stormda.assimilation.systems import SQG, SQGConfig
from stormda.storm.config import StormConfig
from stormda.storm.prior import Storm
from stormda.storm.recipes import SqgRecipe
from stormda.storm.training_config import TrainingConfig
from stormda.storm.twin.archive import Archive, ArchiveConfig, make_archive, simulate_group
from stormda.storm.twin.archive_modes import archive_modes
from stormda.storm.twin.samples import ArchivedSamples, PastErrors, move_on_plane
from stormda.storm.twin.training import sqg_normalization, train_sqg

MODEL = SQG(SQGConfig(points=16))
CONFIG = ArchiveConfig(runs=4, together=2, spin_up_days=1, days=2.5)


@pytest.fixture(scope="module")
def archive() -> Archive:
    return make_archive(CONFIG, MODEL)


def test_truth_follows_the_model_and_groups_are_their_own(archive: Archive) -> None:
    assert archive.truth.shape == (4, 21, 2, 16, 16)
    later = MODEL.forecast(archive.truth[:, 4], hours=3)
    torch.testing.assert_close(later, archive.truth[:, 5])
    again, _ = simulate_group(CONFIG, MODEL, 1)
    torch.testing.assert_close(again, archive.truth[2:], rtol=0, atol=0)


def test_shadows_stand_beside_their_truths(archive: Archive) -> None:
    frames = (torch.arange(CONFIG.steps) + 1) * CONFIG.stride
    error = (archive.shadow - archive.truth[:, frames]).square().mean().sqrt()
    climate = archive.truth.std()
    assert 0.05 < error < climate


def test_round_trip(archive: Archive, tmp_path: Path) -> None:
    archive.save(tmp_path / "archive.safetensors")
    back = Archive.load(tmp_path / "archive.safetensors")
    assert back.config == archive.config
    assert torch.equal(back.shadow, archive.shadow)


def test_a_batch_is_a_function_of_its_step(archive: Archive) -> None:
    source = ArchivedSamples(archive, sqg_normalization(), PastErrors(), seed=3)
    first, again, other = source.batch(7, 5), source.batch(7, 5), source.batch(8, 5)
    assert torch.equal(first.history, again.history)
    assert not torch.equal(first.history, other.history)
    assert first.history.shape == (5, 2, 2, 16, 16)
    assert first.level.shape == (5, 2)


def test_an_exact_past_leads_to_the_target(archive: Archive) -> None:
    """The model itself, from the past's last frame, finds the target: windows are aligned."""
    errors = PastErrors(exact=1.0, single=0.0)
    source = ArchivedSamples(archive, sqg_normalization(), errors)
    batch = source.batch(0, 6)
    x = sqg_normalization().to_x
    forecast = MODEL.forecast(x(batch.history), hours=12)
    torch.testing.assert_close(forecast[:, 0], x(batch.history[:, 1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(forecast[:, 1], x(batch.target), atol=1e-3, rtol=0)
    assert not batch.level.any()


def test_a_single_frame_is_repeated(archive: Archive) -> None:
    source = ArchivedSamples(archive, sqg_normalization(), PastErrors(single=1.0))
    history = source.batch(0, 4).history
    assert torch.equal(history[:, 0], history[:, 1])


def test_the_level_is_the_error_of_the_last_frame(archive: Archive) -> None:
    errors = PastErrors(factor=(0.0, 0.0), amplitude=(1.0, 1.0 + 1e-9), exact=0.0, single=0.0)
    source = ArchivedSamples(archive, sqg_normalization(), errors)
    level = source.batch(0, 32).level * sqg_normalization().std[:, 0, 0]
    # Unit noise over 2 x 256 points: its sample deviation varies by about 1 / sqrt(512).
    assert (level - 1).abs().max() < 0.35
    assert (level.mean() - 1).abs() < 0.02


def test_symmetries_move_past_and_target_alike(archive: Archive) -> None:
    moved = move_on_plane(archive.truth[:, :3], torch.Generator().manual_seed(0))
    last, target = moved[:, 1], moved[:, 2]
    assert not torch.equal(last, archive.truth[:, 1])
    torch.testing.assert_close(MODEL.forecast(last, hours=3), target, atol=1e-3, rtol=0)


def test_modes_are_those_of_moved_frames(archive: Archive) -> None:
    """Along x the climate is the same everywhere: so are the modes of a flow that is not."""
    n = sqg_normalization()
    network = StormConfig(variables=("theta_lower", "theta_upper"), modes=40)
    modes = archive_modes(archive, n, network, seed=1)

    def left(fields: Tensor) -> float:
        z = n.to_z(fields) / n.increment
        rest = modes.weigh(z, torch.cat([torch.zeros(40), torch.ones(1)]).expand(len(z), -1))
        return float(rest.square().mean() / z.square().mean())

    x = archive.truth[:, -1]
    assert left(x) < 0.2
    assert left(x.roll(5, -1)) == pytest.approx(left(x), rel=0.5)
    assert left(torch.randn(x.shape, generator=torch.Generator().manual_seed(0))) > 0.8


def test_the_recipe_trains_from_modes_and_can_be_read_back(tmp_path: Path) -> None:
    recipe = SqgRecipe(
        network=StormConfig(
            variables=("theta_lower", "theta_upper"),
            width=16,
            heads=2,
            encoder_depth=1,
            depth=1,
            modes=12,
        ),
        archive=CONFIG,
        model=MODEL.config,
        training=TrainingConfig(steps=2, batch=2, warmup=1, seed=3),
    )
    trained = train_sqg(recipe, tmp_path)
    assert trained is not None
    back = Storm.load(tmp_path / "prior.safetensors")
    assert back.network.modes is not None
    basis = back.network.modes.basis.flatten(1)
    torch.testing.assert_close(basis @ basis.mT, torch.eye(12), rtol=0, atol=1e-2)
    assert (tmp_path / "climatology.safetensors").is_file()


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"^together: expected a divisor of runs=5, got 2$"):
        ArchiveConfig(runs=5, together=2)
