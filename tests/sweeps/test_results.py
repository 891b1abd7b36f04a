"""Results: configurations, fronts, effects, frames, the best points as files, and the page."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.recipes import get_recipe, recipes
from hfp8sim.sweeps import Plan
from hfp8sim.sweeps.best import machine_toml, profile_toml, recipe_toml
from hfp8sim.sweeps.page import headlines
from hfp8sim.sweeps.record import Point
from hfp8sim.sweeps.result import SweepResult
from hfp8sim.sweeps.sensitivity import sensitivities
from tests.report.test_html import Page
from tests.sweeps.plans import GEMMS, WIDE


def made(rows: list[dict[str, Any]], **axes: list[Any]) -> SweepResult:
    """A result with given measures: of each row the values by key, `sqnr_db`, `cycles`, or `reason`."""
    keys = {key.replace("__", "."): values for key, values in axes.items()}
    points, records = [], {}
    for number, row in enumerate(rows):
        values = {key: row[key] for key in keys if key in row}
        key = f"k{number}"
        points.append(Point(number, values, key, "", {"accumulator_bits": row.get("bits", 16)}))
        measures = {
            name: row[name] for name in ("sqnr_db", "cycles", "bytes", "test_loss") if name in row
        }
        records[key] = {
            "status": "failed" if "reason" in row else "done", "reason": row.get("reason", ""),
            "measures": measures, "columns": [], "rows": [], "history": row.get("history", []),
        }  # fmt: skip
    return SweepResult(Plan(keys), points, records)


def grid() -> SweepResult:
    """Two networks with two chunk lengths and two bandwidths; SQNR by chunk, cycles by both."""
    rows = [
        {
            "workload": name, "profile.chunk_length": chunk, "machine.memory.bytes_per_cycle": width,
            "sqnr_db": 20.0 + chunk / 16 - (name == "b"), "cycles": 1000 * chunk // width,
        }
        for name in "ab"
        for chunk in (16, 64)
        for width in (32, 128)
    ]  # fmt: skip
    return made(
        rows, workload=["a", "b"], profile__chunk_length=[16, 64],
        machine__memory__bytes_per_cycle=[32, 128],
    )  # fmt: skip


# -- tables ------------------------------------------------------------------------------------------


def test_configurations_combine_workloads() -> None:
    """SQNRs are the lowest, cycles sums."""
    rows = grid().configurations
    assert [(r["points"], r["sqnr_db"], r["cycles"]) for r in rows] == [
        (2, 20.0, 1000), (2, 20.0, 250), (2, 23.0, 4000), (2, 23.0, 1000),
    ]  # fmt: skip


def test_incomplete_configuration_has_no_measures() -> None:
    result = made(
        [{"workload": "a", "seed": 0, "sqnr_db": 9.0}, {"workload": "a", "seed": 1, "reason": "x"}],
        workload=["a"], seed=[0, 1],
    )  # fmt: skip
    assert [(r["complete"], "sqnr_db" in r) for r in result.configurations] == [(False, False)]


def test_seeds_are_means_and_do_not_add_up() -> None:
    """Cycles of two seeds of one network are those of one run; a missing network leaves no measures."""
    rows = [
        {"workload": w, "seed": s, "profile.chunk_length": n, "cycles": c, "sqnr_db": 10.0 + s}
        for w, s, n, c in (("a", 0, 8, 5), ("a", 1, 8, 5), ("b", 0, 8, 7), ("a", 0, 16, 5))
    ]
    result = made(rows, workload=["a", "b"], profile__chunk_length=[8, 16], seed=[0, 1])
    first, second = result.configurations
    assert (first["complete"], first["cycles"], first["sqnr_db"]) == (True, 12, 10.0)
    assert not second["complete"] and "cycles" not in second


def test_losses_are_means_over_seeds() -> None:
    rows = [{"network": "cnn", "recipe": "hfp8", "seed": s, "test_loss": 1.0 + s} for s in (0, 1)]
    result = made(rows, network=["cnn"], recipe=["hfp8"], seed=[0, 1])
    assert result.configurations[0]["test_loss"] == 1.5
    assert result.quality == "test_loss"


def test_front_has_what_nothing_beats() -> None:
    pairs = [(100, 30.0), (50, 25.0), (50, 20.0), (200, 30.0), (400, 31.0), (20, 9.0)]
    rows = [
        {"workload": "a", "profile.chunk_length": n, "cycles": cycles, "sqnr_db": sqnr}
        for n, (cycles, sqnr) in enumerate(pairs)
    ]
    front = made(rows, workload=["a"], profile__chunk_length=list(range(6))).front("cycles")
    assert [(r["cycles"], r["sqnr_db"]) for r in front.rows] == [
        (20, 9.0), (50, 25.0), (100, 30.0), (400, 31.0),
    ]  # fmt: skip


def test_front_of_losses_prefers_small_ones() -> None:
    rows = [
        {"network": "cnn", "recipe": name, "cycles": c, "test_loss": loss}
        for name, c, loss in (("a", 1, 3.0), ("b", 2, 2.0), ("c", 3, 2.5))
    ]
    front = made(rows, network=["cnn"], recipe=["a", "b", "c"]).front("cycles")
    assert [row["recipe"] for row in front.rows] == ["a", "b"]


def test_effects_are_shares_of_variance() -> None:
    """The chunk length alone changes the SQNR; both change the cycles."""
    effects = {(e.key.rpartition(".")[2], e.measure): e for e in sensitivities(grid())}
    assert effects["chunk_length", "sqnr_db"].share == pytest.approx(1)
    assert effects["bytes_per_cycle", "sqnr_db"].share == 0
    shares = [effects[key, "cycles"].share for key in ("chunk_length", "bytes_per_cycle")]
    # 1000, 250, 4000, 1000: means 625 and 2500, 2500 and 625; both explain the same
    assert shares == pytest.approx([0.4237, 0.4237], abs=1e-4)
    assert (effects["chunk_length", "cycles"].lowest, effects["chunk_length", "cycles"].highest) == (625, 2500)  # fmt: skip


def test_headlines_name_the_strongest_key_and_its_best_value() -> None:
    """Less is better of cycles: the value with the lowest mean."""
    assert headlines(grid()) == [
        "SQNR: chunk_length changes it most, 100% of its variance. "
        "The means of its values go from 20.0 to 23.0 dB, and chunk_length = 64 is best.",
        "cycles: chunk_length changes it most, 42% of its variance. "
        "The means of its values go from 625 to 2,500 cycles, and chunk_length = 16 is best.",
    ]


def test_headline_says_that_means_hardly_differ() -> None:
    """A key may explain all of a variance that is too small to matter."""
    rows = [
        {"workload": "a", "profile.chunk_length": n, "sqnr_db": 30 + 0.001 * n} for n in (8, 16)
    ]
    (line,) = headlines(made(rows, workload=["a"], profile__chunk_length=[8, 16]))
    assert line.endswith("The means of its values are all 30.0 dB, and chunk_length = 16 is best.")


def test_many_numbers_are_grouped() -> None:
    rows = [{"workload": "a", "profile.chunk_length": n, "sqnr_db": float(n)} for n in range(1, 61)]
    (effect,) = sensitivities(made(rows, workload=["a"], profile__chunk_length=list(range(1, 61))))
    assert [(text, count) for text, *_, count in effect.groups][:2] == [("1–10", 10), ("11–20", 10)]
    assert 0.9 < effect.share < 1


def test_csv_has_every_row() -> None:
    rows = list(csv.DictReader(io.StringIO(grid().to_csv())))
    assert (
        len(rows) == 8 and rows[0]["profile.chunk_length"] == "16" and rows[0]["sqnr_db"] == "21.0"
    )


def test_infinite_sqnr_survives() -> None:
    row = made([{"workload": "a", "sqnr_db": "inf"}], workload=["a"]).rows[0]
    assert row["sqnr_db"] == math.inf


# -- frames ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("table", ["points", "layers"])
def test_frames_have_the_table(library: str, table: str) -> None:
    pytest.importorskip(library, reason="the extra `frames` or polars is not installed")
    result = hs.sweep([GEMMS, WIDE], fixed={"time_only": True}, vary={"machine.array.rows": [4, 8]})
    frame = result.to_frame(library, table)
    rows = list(csv.DictReader(io.StringIO(result.to_csv(table))))
    assert list(frame.columns) == list(rows[0]) and len(frame) == len(rows) > 0
    assert [str(x) for x in frame["cycles"].to_list()] == [row["cycles"] for row in rows]


def test_parquet_has_the_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="the extra `frames` or polars is not installed"
    )
    result = grid()
    path = result.to_parquet(tmp_path / "points.parquet")
    table = parquet.read_table(path)
    assert table.column_names == result.columns
    assert table.column("sqnr_db").to_pylist() == [row["sqnr_db"] for row in result.rows]


def test_missing_libraries_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import builtins

    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in ("pandas", "polars", "pyarrow"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="to_frame needs pandas or polars: pip install"):
        grid().to_frame()
    with pytest.raises(InputError, match="Parquet needs pyarrow or polars"):
        grid().to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="unknown library 'arrow'"):
        grid().to_frame("arrow")


# -- the best points ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hs.profiles())
def test_profile_file_gives_the_profile_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(profile_toml(hs.get_profile(name)))
    assert hs.get_profile(path) == hs.get_profile(str(path)) == hs.get_profile(name)


def test_profile_file_defines_its_formats(tmp_path: Path) -> None:
    own = hs.FloatFormat("own-1-6-10", 6, 10, 31)
    profile = hs.get_profile("hfp8").replace(accumulator=own)
    path = tmp_path / "p.toml"
    path.write_text(profile_toml(profile))
    loaded = hs.get_profile(path)
    assert loaded.accumulator == "own-1-6-10" and hs.get_format(loaded.accumulator) == own


@pytest.mark.parametrize("name", hs.machines())
def test_machine_file_gives_the_machine_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(machine_toml(hs.get_machine(name)))
    assert hs.get_machine(path) == hs.get_machine(name)


@pytest.mark.parametrize("name", [n for n in recipes() if n != "int4-2020"])
def test_recipe_file_gives_the_recipe_back(name: str, tmp_path: Path) -> None:
    recipe = get_recipe(name)
    files: dict[str, str] = {}
    path = tmp_path / "r.toml"
    path.write_text(recipe_toml(recipe, "p.toml", files))
    loaded = get_recipe(path)
    assert dataclasses.replace(loaded, choices=recipe.choices) == recipe and files == {}
    assert [loaded.site(s) for s in ("x", "error", "update")] == [
        recipe.site(s) for s in ("x", "error", "update")
    ]


def test_recipe_file_names_its_profile_file(tmp_path: Path) -> None:
    profile = hs.get_profile("hfp8").replace(chunk_length=32)
    recipe = get_recipe("hfp8").replace(profile=profile)
    files: dict[str, str] = {}
    (tmp_path / "r.toml").write_text(recipe_toml(recipe, "p.toml", files))
    (tmp_path / "p.toml").write_text(files["p.toml"])
    assert get_recipe(tmp_path / "r.toml").profile == profile


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chunk_lenght = 3", "unknown profile field 'chunk_lenght'"),
        ("chunk_length = '3'", "must be of type int"),
        ("base = 'hfp9'", "unknown profile 'hfp9'"),
        ("chunk_length = ", "not a TOML file"),
        ("products_per_step = 3", "fused steps take"),
    ],
)
def test_bad_profile_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        hs.get_profile(path)


# -- the page ----------------------------------------------------------------------------------------


def losses() -> SweepResult:
    """Trainings of two recipes and chunk lengths with curves of the loss."""
    rows = [
        {
            "network": "cnn", "recipe": recipe, "profile.chunk_length": chunk, "cycles": 100 * chunk,
            "test_loss": loss, "history": [2.3 / (1 + i / 10) + loss for i in range(200)],
        }
        for recipe, chunk, loss in (("hfp8", 16, 0.5), ("hfp8", 64, 0.4), ("rapid", 16, 0.6), ("rapid", 64, 0.3))
    ]  # fmt: skip
    return made(rows, network=["cnn"], recipe=["hfp8", "rapid"], profile__chunk_length=[16, 64])


def real() -> SweepResult:
    return hs.sweep(
        [GEMMS, WIDE], fixed={"phases": "fwd"}, seeds=[0, 1],
        vary={
            "profile.chunk_length": [4, 16, 64], "profile.products_per_step": [1, 3],
            "machine.memory.bytes_per_cycle": [2, 8],
        },
        machines=["edge-8x8"], name="<b>a & b</b>",
    )  # fmt: skip


def test_page_is_self_contained_and_whole() -> None:
    result = real()
    text = result.to_html()
    page = Page(text)
    assert [link for link in page.links if not link.startswith("data:")] == []
    assert {"front_cycles", "facet_0", "parallel", "sensitivity", "effect_0"} <= set(page.plots)
    assert page.rows["table-configurations"] == 1 + len(result.configurations) == 13
    assert "<b>a" not in text and "&lt;b&gt;a &amp; b" in text
    assert "fused steps take 1 or 2 products" in text and "hfp8sim run gemms" in text
    assert re.search(r"\nchunk_length = \d+\n", text) and "\n[array]\nrows = 8\n" in text
    complete = [row for row in result.configurations if row["complete"]]
    assert page.shapes["front_cycles"] == len(complete) == 6


def test_notebook_shows_the_best_configurations() -> None:
    text = real()._repr_html_()
    assert text.startswith("<table><caption>&lt;b&gt;a &amp; b") and text.endswith("</table>")
    assert 2 <= text.count("<tr>") <= 7 and "<th>chunk_length</th>" in text


def test_page_of_trainings_has_curves() -> None:
    page = Page(losses().to_html())
    assert "loss_0" in page.plots and "front_cycles" in page.plots


@pytest.mark.parametrize(
    "result",
    [
        made([{"workload": "a", "reason": "x"}], workload=["a"]),
        made([{"workload": "a", "sqnr_db": 1.0}], workload=["a"]),
        made([{"workload": "a", "seed": n, "cycles": 1} for n in (0, 1)], workload=["a"], seed=[0, 1]),
        made([{"workload": "a", "profile.rounding": r, "sqnr_db": "inf", "cycles": 2} for r in "ab"],
             workload=["a"], profile__rounding=["a", "b"]),
    ],
    ids=["failed", "one", "equal", "infinite"],
)  # fmt: skip
def test_pages_of_little_are_whole(result: SweepResult) -> None:
    assert Page(result.to_html()).open == []
    assert str(result)


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")  # fmt: skip


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [400, 1200])
def test_page_in_a_browser_fits_and_says_nothing(width: int, tmp_path: Path) -> None:
    """No message in the console, and nothing wider than the window."""
    script = (
        "<script>addEventListener('load', () => { document.title = "
        "String(document.documentElement.scrollWidth - innerWidth); });</script>"
    )
    path = tmp_path / "page.html"
    path.write_text(real().to_html().replace("</body>", script + "</body>"), "utf-8")
    assert BROWSER is not None
    process = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile",
            "--enable-logging=stderr", "--v=0", f"--window-size={width},900", "--dump-dom", f"file://{path}",
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in process.stderr
    assert int(process.stdout.partition("<title>")[2].partition("</title>")[0]) <= 0
