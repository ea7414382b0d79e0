"""Figures, the report page, and the folder that they appear in."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

from stormda.storm import figures
from stormda.storm.demo_report import describe, verdict
from stormda.storm.figures import Snapshot, spectrum, to_png
from stormda.storm.report import Picture, Report, Section, render
from stormda.storm.scores import EnsembleRun, GaussianRun, Row
from stormda.storm.staging import refuse_existing, staged
from stormda.storm.twin.case import NETWORKS

PNG = b"\x89PNG\r\n\x1a\n"


def row(method: str, rmse: float, crps: float | None = None) -> Row:
    return Row(
        network="n",
        method=method,
        members=4,
        rmse=rmse,
        crps=rmse / 2 if crps is None else crps,
        spread_skill=1.0,
        coverage90=0.9,
        seconds=1.0,
    )


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_rings_of_the_spectrum_add_up_to_the_mean_square() -> None:
    fields = normal(3, 2, 16, 16)
    torch.testing.assert_close(spectrum(fields).sum(), fields.square().mean())


@pytest.mark.parametrize(("kx", "ky"), [(3, 0), (0, 5), (3, 4)])
def test_a_wave_is_in_the_ring_of_its_wavenumber(kx: int, ky: int) -> None:
    place = 2 * torch.pi * torch.arange(16, dtype=torch.float64) / 16
    wave = torch.cos(ky * place[:, None] + kx * place)
    expected = torch.zeros_like(spectrum(wave))
    expected[round(np.hypot(kx, ky))] = 0.5
    torch.testing.assert_close(spectrum(wave), expected)


def test_every_figure_is_a_png() -> None:
    truth = normal(3, 2, 8, 8)
    runs = {
        "storm": EnsembleRun(normal(4, 3, 2, 8, 8)),
        "oi": GaussianRun(normal(3, 2, 8, 8), normal(3, 2, 8, 8) ** 2),
        "another": EnsembleRun(normal(5, 3, 2, 8, 8)),
    }
    index = torch.tensor([0, 9, 70])
    snapshot = Snapshot(truth[0], truth[1], truth[2].abs(), index, extent_km=20_000)
    drawn = [
        figures.draw_maps(snapshot, "storm"),
        figures.draw_cycles(runs, truth, discarded=1),
        figures.draw_ranks(runs, truth),
        figures.draw_spectra(runs, truth),
    ]
    for figure in drawn:
        assert to_png(figure).startswith(PNG)
    assert [ax.get_title() for ax in drawn[2].axes] == ["storm", "another"]


def test_the_points_of_the_drawn_boundary_are_marked_where_they_are() -> None:
    field = torch.zeros(2, 4, 4)
    index = torch.tensor([1 * 4 + 3, 16 + 5])  # row 1, column 3; and one of the other boundary
    snapshot = Snapshot(field, field, field + 1, index, extent_km=4000)
    (points,) = figures.draw_maps(snapshot, "storm").axes[0].lines
    np.testing.assert_allclose(points.get_xydata(), [[3.5, 1.5]])


def test_figures_leave_the_settings_of_matplotlib_alone() -> None:
    before = dict(mpl.rcParams)
    figures.draw_cycles({"storm": EnsembleRun(normal(4, 3, 2, 8, 8))}, normal(3, 2, 8, 8), 1)
    assert dict(mpl.rcParams) == before


class Page(HTMLParser):
    """Collects what a page shows and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.sources += [values[k] or "" for k in ("src", "href") if k in values]

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def test_the_page_holds_all_that_it_shows() -> None:
    picture = Picture(png=PNG + b"rest", caption='a "map" <of> things')
    section = Section(
        title="first", verdict="it loses", rows=[row("storm", 1.5)], pictures=[picture]
    )
    report = Report(
        title="T",
        lead="L",
        sections=[section],
        notes={"rmse": "error"},
        provenance={"seed": 203},
    )
    text = render(report)
    page = Page(text)
    (source,) = page.sources
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == picture.png
    assert not re.search(r"https?://|<script|@import|url\(", text)
    assert 'name="viewport"' in text
    for word in ("1.5000", "0.7500", "loses", "error", "203", "spread/skill"):
        assert any(word in shown for shown in page.words), word


def test_the_verdict_says_who_is_better_and_in_what() -> None:
    rows = [row("letkf", 1.0), row("storm", 2.0), row("letkf-storm", 2.5, 0.9), row("oi", 4.0)]
    assert verdict(rows) == (
        "n: storm has 2.00 x the RMSE of letkf, 0.80 x that of letkf-storm and 0.50 x that of oi; "
        "it loses to letkf and letkf-storm (CRPS)"
    )
    assert verdict([row("storm", 2.0), row("oi", 4.0)]).endswith("; it loses to none")
    alone = "n: storm has nothing beside it to be compared with"
    assert verdict([row("storm", 2.0)]) == alone


def test_equal_scores_are_not_a_victory() -> None:
    assert verdict([row("storm", 2.0), row("oi", 2.0)]).endswith("it loses to oi")


def test_a_network_is_described() -> None:
    dense = describe("linear-dense", NETWORKS["linear-dense"])
    assert dense == "linear-dense: theta at all points, error 1 K"
    shocks = describe("arctan-shocks", NETWORKS["arctan-shocks"])
    assert shocks.endswith("at 50 % of the points, error 0.1, shocks of 3.675 K")


def test_a_folder_appears_when_all_of_it_is_there(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with staged(out) as folder:
        (folder / "figures").mkdir()
        (folder / "figures" / "a.png").write_bytes(PNG)
        assert not out.exists()
    assert (out / "figures" / "a.png").read_bytes() == PNG
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with staged(tmp_path / "out") as folder:
            (folder / "half").write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("old")
    (tmp_path / "mine.txt").write_text("mine")
    message = (
        f"{tmp_path}: expected a folder that is empty or does not exist yet, "
        "got one that holds files (--overwrite replaces them)"
    )
    with pytest.raises(FileExistsError) as caught, staged(tmp_path):
        pass
    assert str(caught.value) == message
    with staged(tmp_path, overwrite=True) as folder:
        (folder / "scores.csv").write_text("new")
    assert (tmp_path / "scores.csv").read_text() == "new"
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("a file")
    with pytest.raises(FileExistsError, match=r"out: expected a folder or nothing, got a file$"):
        refuse_existing(path, overwrite=True)
