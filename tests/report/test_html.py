"""The HTML page: complete, self-contained, and without console messages in a real browser."""

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hfp8sim.report.columns import COLUMNS, GROUPS
from hfp8sim.report.plots import COMPARED, PART_SERIES, PLOTS
from hfp8sim.report.report import Report, compare
from tests.report.samples import facts, row, sample

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """What is on a page; balanced tags are asserted while it is read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.plots: list[str] = []
        self.rows: dict[str, int] = {}
        self.links: list[str] = []
        self.shapes: dict[str, int] = {}
        self.table = self.plot = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if attributes.get("id"):
            self.ids.append(attributes["id"] or "")
        self.links += [str(attributes[a]) for a in ("src", "href", "xlink:href") if a in attributes]
        if tag == "svg":
            self.plot = attributes.get("data-plot") or ""
            self.plots += [self.plot] * bool(self.plot)
        elif tag in ("rect", "circle") and self.plot:
            self.shapes[self.plot] = self.shapes.get(self.plot, 0) + 1
        elif tag == "table":
            self.table = attributes.get("id") or ""
        elif tag == "tr":
            self.rows[self.table] = self.rows.get(self.table, 0) + 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def many() -> Report:
    """More layers than a block of bars holds."""
    return sample(tuple(f"block{i}.conv" for i in range(40)))


@pytest.fixture(params=[sample, many], ids=["few", "many"])
def report(request: pytest.FixtureRequest) -> Report:
    return request.param()  # type: ignore[no-any-return]


def test_every_plot_and_table_is_there(report: Report) -> None:
    page = Page(report.to_html())
    assert set(page.plots) == set(PLOTS)
    assert len(page.ids) == len(set(page.ids))
    rows = len(report.layers)
    for group in GROUPS:
        assert page.rows[f"table-{group}"] == rows + 2  # heading and total
    assert page.shapes["sqnr"] == page.shapes["utilisation"] == page.shapes["roofline"] == rows
    assert page.shapes["cycles"] >= rows and page.shapes["errors_sum"] >= 18


def test_memory_roof_is_what_refresh_and_ring_leave() -> None:
    machine = sample().facts["machine"]
    memory = machine["memory"] | {"refresh_ns": 1000, "refresh_interval_ns": 4000}
    assert "memory: 102 GB/s" in sample().to_html()
    assert "memory: 77 GB/s" in sample(machine=machine | {"memory": memory}).to_html()
    ring = {"bytes_per_cycle": 32}
    assert "memory: 51 GB/s" in sample(machine=machine | {"ring": ring}).to_html()


def test_page_loads_no_other_file(report: Report) -> None:
    text = report.to_html()
    assert Page(text).links == ["data:,"]
    assert not re.search(r"https?://|@import|url\(", text)


def test_page_holds_every_figure_of_the_table() -> None:
    report = sample()
    text = report.to_html()
    for source_row in report.layers:
        assert f"{source_row['cycles']:,}" in text and f"{source_row['sqnr_db']:.1f}" in text
    for column in COLUMNS:
        if column.short:
            assert column.meaning.replace("'", "&#39;") in text


def test_light_dark_paper_and_phone() -> None:
    text = sample().to_html()
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert 'name="viewport"' in text and "max-width: 40rem" in text
    dark = text.split("prefers-color-scheme: dark", 1)[1].split("}", 1)[0]
    light = text.split(":root {", 1)[1].split("}", 1)[0]
    assert set(re.findall(r"--\w+(?=:)", dark)) == set(re.findall(r"--\w+(?=:)", light))


def test_every_part_of_the_cycles_has_a_colour() -> None:
    text = sample().to_html()
    for series in PART_SERIES.values():
        assert text.count(f"--s{series}:") == 2  # light and dark
        assert f".s{series} {{" in text


def test_names_are_text_not_markup() -> None:
    evil = "<script>alert('x')</script>&\"'"
    report = Report([row(evil, "fwd") | {"tensors": evil}], facts(workload=evil), (evil,))
    text = report.to_html()
    assert "<script>alert" not in text and text.count("<script>") == 1
    Page(text)
    Page(compare([report, report], [evil, "b"]).to_html())


def test_without_time_or_tensors_or_with_nothing_measured() -> None:
    bare = {
        key: row("a", "fwd")[key] for key in ("layer", "phase", "groups", "m", "n", "k", "macs")
    }
    page = Page(Report([bare], facts()).to_html())
    assert page.plots == []
    exact = row("a", "fwd") | {"sqnr_db": float("inf"), "acc_sqnr_db": float("inf")}
    assert "exact" in Report([exact], facts()).to_html()
    Page(Report([row("a", "dgrad") | {"sqnr_db": -3.0}], facts()).to_html())


def test_partial_reports_say_so() -> None:
    assert "Partial report" not in sample().to_html()
    text = dataclasses.replace(sample(), planned=20).to_html()
    assert "Partial report" in text and "9 of 20 rows" in text


def test_comparison() -> None:
    compared = compare([sample(), sample(seed=1, scale=1.5), sample(seed=2, scale=0.5)])
    page = Page(compared.to_html())
    assert set(page.plots) == set(COMPARED)
    assert page.rows["table-overview"] == 4 and page.rows["table-cycles"] == 11
    assert page.shapes["sqnr"] == 27


def test_missing_jinja2_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from hfp8sim.errors import InputError
    from hfp8sim.report import page

    page._templates.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(InputError, match=r"hfp8sim\[report\]"):
        sample().to_html()


# -- in a browser ----------------------------------------------------------------------------------

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)

#: Run on the page once it is there: what a reader would see.
PROBE = """<script>
const seen = {errors: window.failures, plots: {}, tables: {}, wide: document.documentElement.scrollWidth,
              window: window.innerWidth, background: getComputedStyle(document.body).backgroundColor};
for (const p of document.querySelectorAll("svg[data-plot]")) {
  const box = p.getBoundingClientRect(), shapes = [...p.querySelectorAll("rect, circle")];
  const shown = shapes.filter(s => s.getBoundingClientRect().width > 0);
  const fills = new Set(shapes.map(s => getComputedStyle(s).fill));
  seen.plots[p.dataset.plot] = [box.width, box.height, shown.length, fills.size, fills.has("rgb(0, 0, 0)")];
}
const table = document.querySelector("table.sortable");
const column = () => [...table.tBodies[0].rows].map(r => r.cells[0].textContent);
table.tHead.rows[0].cells[0].click();
const up = column();
table.tHead.rows[0].cells[0].click();
seen.sorted = [up, column()];
for (const t of document.querySelectorAll("table[id]")) {
  const box = t.getBoundingClientRect();
  seen.tables[t.id] = [t.rows.length, box.width, box.height];
}
document.body.innerHTML = "";
const pre = document.createElement("pre");
pre.id = "seen"; pre.textContent = JSON.stringify(seen);
document.body.append(pre);
</script>"""


def opened(
    text: str, folder: Path, width: int, dark: bool = False
) -> tuple[dict[str, object], str]:
    """What the page shows in Chromium, and the browser's console."""
    listening = (
        "<script>window.failures = []; window.onerror = m => window.failures.push(m);</script>"
    )
    page = text.replace("<head>", "<head>" + listening, 1).replace("</body>", PROBE + "</body>", 1)
    (folder / "page.html").write_text(page, "utf-8")
    assert CHROMIUM
    flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
    process = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900", *flags, "--dump-dom", (folder / "page.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    result = re.search(r'<pre id="seen">(.*?)</pre>', process.stdout, re.DOTALL)
    assert result, f"the page did not run: {process.stderr[-2000:]}"
    return json.loads(html.unescape(result[1])), process.stderr


@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium to open the page in; install one to run this"
)
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, True)])
def test_in_a_browser(tmp_path: Path, width: int, dark: bool) -> None:
    """No console message, every plot and table visible, nothing wider than the window, sortable."""
    report = sample()
    page_state, console = opened(report.to_html(), tmp_path, width, dark)
    assert page_state["errors"] == [] and "CONSOLE" not in console
    assert set(page_state["plots"]) == set(PLOTS)
    for name, (wide, high, shown, _, black) in page_state["plots"].items():
        assert wide > 150 and high > 50, name
        assert shown >= 4 and not black, name  # black: a shape whose class has no colour
    assert {f"table-{group}" for group in GROUPS} <= set(page_state["tables"])
    assert all(rows >= 3 and high > 40 for rows, _, high in page_state["tables"].values())
    assert page_state["wide"] <= page_state["window"]
    up, down = page_state["sorted"]
    assert up == sorted(up) and down == up[::-1] != up
    assert (page_state["background"] == "rgb(255, 255, 255)") == (not dark)


@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium to open the page in; install one to run this"
)
def test_comparison_in_a_browser(tmp_path: Path) -> None:
    compared = compare([sample(), sample(seed=1, scale=1.5)])
    page_state, console = opened(compared.to_html(), tmp_path, 800)
    assert page_state["errors"] == [] and "CONSOLE" not in console
    assert set(page_state["plots"]) == set(COMPARED)
    assert all(shown >= 4 and not black for _, _, shown, _, black in page_state["plots"].values())
    assert page_state["wide"] <= page_state["window"]
