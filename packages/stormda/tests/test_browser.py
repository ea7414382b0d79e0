"""The report in a real browser: figures are drawn, tables are read, nothing complains."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from stormda.cli import main
from stormda.grid import LatLonGrid
from stormda.io import observation_table, write_ensemble, write_fields, write_observations

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
GRID = LatLonGrid(np.linspace(48, 60, 13), np.linspace(-10, 5, 16))
TIMES = np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(8)
ASK = """<script>addEventListener("load", () => {
  const wide = document.documentElement.scrollWidth - innerWidth;
  const images = [...document.images].map(i => [i.naturalWidth, i.complete, i.alt.length]);
  const tables = [...document.querySelectorAll("table")].map(t => t.rows.length);
  const type = parseFloat(getComputedStyle(document.body).fontSize);
  document.title = JSON.stringify({wide, images, tables, type});
})</script>"""
"""Asks the page, when it is drawn, what is on it; the answer is its title."""

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an evaluation against a truth, made by the command."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    truth = 280 + rng.normal(size=(8, *GRID.shape))
    ensemble = truth + rng.normal(size=(10, 8, *GRID.shape))
    units = {"t2m": {"units": "K"}}
    write_fields(folder / "truth.nc", {"t2m": truth}, times=TIMES, grid=GRID, attributes=units)
    write_ensemble(
        folder / "an.nc", {"t2m": ensemble}, times=TIMES, grid=GRID, attributes=units,
        provenance={"seed": 7},
    )  # fmt: skip
    result = CliRunner().invoke(
        main,
        ["evaluate", str(folder / "an.nc"), "--truth", str(folder / "truth.nc"),
         "--report", str(folder / "report.html")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder / "report.html"


def seen(page: Path, width: int) -> tuple[dict, str]:
    """Return what a browser of this width finds on a page, and what it complains of."""
    asked = page.with_name(f"asked-{width}.html")
    asked.write_text(page.read_text("utf-8").replace("</body>", f"{ASK}</body>"), "utf-8")
    done = subprocess.run(
        [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--window-size={width},900", "--enable-logging=stderr", "--virtual-time-budget=5000",
         f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", asked.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert found is not None, done.stdout[:500]
    console = "\n".join(line for line in done.stderr.splitlines() if ":CONSOLE" in line)
    return json.loads(found[1]), console


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_figures_and_tables_and_says_nothing(page: Path, width: int) -> None:
    found, console = seen(page, width)
    assert console == ""
    assert len(found["images"]) == 3
    assert all(pixels > 300 and complete and alt > 20 for pixels, complete, alt in found["images"])
    assert found["tables"] == [2, 3]
    assert found["wide"] <= 0  # tables and figures scroll in their own boxes, the page does not
    assert found["type"] >= 14


@needs_browser
@pytest.mark.slow
def test_the_test_hears_a_complaint(page: Path) -> None:
    broken = page.with_name("broken.html")
    broken.write_text("<body><img src='none.png' alt=''><script>undefined.x</script></body>")
    found, console = seen(broken, 800)
    assert "TypeError" in console
    assert found["images"][0][0] == 0


def test_the_page_says_how_well_scores_are_known(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.search(r"<td>RMSE</td><td>\d\.\d{3} \(\d\.\d{3} to \d\.\d{3}\)</td>", text)
    assert "&#34;seed&#34;: 7" in text
    assert "<script" not in text


def test_innovations_tell_an_ensemble_that_is_too_sure(tmp_path) -> None:
    rng = np.random.default_rng(1)
    ensemble = 280 + 0.5 * rng.normal(size=(40, 8, *GRID.shape))
    units = {"t2m": {"units": "K"}}
    write_ensemble(tmp_path / "an.nc", {"t2m": ensemble}, times=TIMES, grid=GRID, attributes=units)
    table = observation_table(
        time=TIMES[rng.integers(0, 8, 400)], lat=rng.uniform(48, 60, 400),
        lon=rng.uniform(-10, 5, 400), value=280 + 2 * rng.normal(size=400), error=1.0,
        variable="t2m", platform=np.repeat(["ship", "buoy"], 200), units={"t2m": "K"},
    )  # fmt: skip
    write_observations(tmp_path / "obs.nc", table)
    result = CliRunner().invoke(
        main,
        ["evaluate", str(tmp_path / "an.nc"), "--observations", str(tmp_path / "obs.nc"),
         "--report", str(tmp_path / "report.html"), "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["scores"][0]["count"] == 400
    text = (tmp_path / "report.html").read_text("utf-8")
    rows = re.findall(r"<tr><td>(all|ship|buoy)</td><td>(\d+)</td>.*?<td>([\d.]+)</td></tr>", text)
    assert [(name, count) for name, count, _ in rows] == [
        ("all", "400"),
        ("ship", "200"),
        ("buoy", "200"),
    ]
    # members' variance at a place between cells and times is at most 0.25: sqrt(4 / 1.25) = 1.79
    assert all(1.6 < float(ratio) < 2.2 for _, _, ratio in rows)
