"""docs/studies.md and its plots, from the measured data in docs/studies/: `make studies` measures again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docs.pages.markdown import table
from hfp8sim.report.study import StudyRecord

DATA = Path(__file__).parents[1] / "studies"

_HEAD = """# Studies

Generated from the measurements in `docs/studies/`; do not edit.

A study takes a claim of a training paper and measures it again on the emulator, at a size that a laptop takes. Its *arms* are
the variants that it compares; the first is the control. All arms have the same first weights and the same batches for a seed, so
differences are of equal seeds. The study then says which parts of the claim show **at this size**. A claim that does not show here is
not refuted: small networks on small images are blind to much of what arithmetic does.

Under each table are statements with a *yes* or *no* that is computed from the data: what was measured, and what was wanted. The verdict
is *shown* if all hold, and *partly shown* if some do. *Training loss* is the mean of the last 20 steps. A weight is *stuck* if a step
left it where it was, though binary32 would have moved it. An addition is *swamped* if it left the sum as it was.

```
$ hfp8sim study                   # a list
$ hfp8sim study updates           # measure one: minutes
$ hfp8sim study updates --quick   # seconds, to see that it runs
$ hfp8sim study updates --out .   # keep updates.json, updates.csv, updates.svg
```

`make studies` measures all of them and writes this page. `--budget MINUTES` takes fewer seeds where all would take
longer. Cells are mean ± standard deviation over the seeds. A *margin* is half of a 95 % confidence interval of the mean (Student's
t). The version, and the commit of the sources in brackets, say what was measured: a change of one rounding anywhere changes the last digits of a training run.
"""


def names() -> list[str]:
    """The studies that were measured."""
    return sorted(path.stem for path in DATA.glob("*.json"))


def read(name: str) -> StudyRecord:
    """A measured study."""
    return StudyRecord.from_json((DATA / f"{name}.json").read_text("utf-8"), name)


def page() -> str:
    """The whole page."""
    measured = [read(name) for name in names()]
    rows = [
        (f"[{r.name}](#{_anchor(r)})", r.title, r.source.split(";")[0], f"**{r.verdict}**")
        for r in measured
    ]
    parts = [_HEAD, table(("study", "claim", "source", "at this size"), rows)]
    return "\n".join([*parts, *map(_section, measured)])


def _anchor(record: StudyRecord) -> str:
    """The heading's anchor, as MkDocs and GitHub make it."""
    kept = "".join(c for c in record.title.lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")


def _section(record: StudyRecord) -> str:
    headings, rows = record.table()
    facts = record.facts
    arms = "".join(f"- **{arm}**: {meaning}\n" for arm, meaning in record.arms.items())
    checks = "".join(f"- {'yes' if c.holds else '**no**'}: {c.text}\n" for c in record.checks)
    return f"""## {record.title}

**Claim.** {record.claim} ({record.source})

**Here.** {record.setup}

{arms}
![{record.title}](studies/{record.name}.svg)

{table(headings, rows)}
**At this size: {record.verdict}.**

{checks}
`{facts["command"]}`, seeds {_seeds(record)}, {facts["date"]}, {facts["processor"]}, {facts["cpu_seconds"]:.0f} s of CPU time,
{_versions(facts)}. Data: [JSON](studies/{record.name}.json), [CSV](studies/{record.name}.csv).
"""


def _seeds(record: StudyRecord) -> str:
    return f"{record.seeds[0]} … {record.seeds[-1]}"


def _versions(facts: dict[str, Any]) -> str:
    """`hfp8sim 0.1.0 (commit), python …`; older data have no commit."""
    versions = dict(facts["versions"])
    if facts.get("commit"):
        versions["hfp8sim"] += f" ({facts['commit']})"
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def plot(name: str) -> str:
    """The plot of a study."""
    return read(name).to_svg()


def csv(name: str) -> str:
    """The rows of a study."""
    return read(name).to_csv()
