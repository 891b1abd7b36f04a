"""A report as a notebook shows it: one HTML table, without scripts and in the notebook's own colours."""

from __future__ import annotations

from html import escape

from hfp8sim.errors import printable
from hfp8sim.report.record import ReportRecord
from hfp8sim.report.step import summary as step_summary
from hfp8sim.report.step import training_step
from hfp8sim.report.table import fields, heading, summary


def render(report: ReportRecord) -> str:
    """What was run, every row and the total, the summary, and the training step on a system."""
    columns = fields(report)
    align = ["right" if numeric else "left" for _, _, numeric, _ in columns]
    head = _row("th", [title for title, *_ in columns], align)
    rows = [_row("td", [write(row) for *_, write in columns], align) for row in report.rows()]
    rows[-1] = rows[-1].replace("<tr>", '<tr style="font-weight:bold">', 1)
    alerts = "".join(f"<p><b>{_text(alert)}</b></p>" for alert in report.alerts)
    if report.partial:
        alerts += f"<p><b>partial: {len(report.layers)} of {report.planned} rows</b></p>"
    texts, step = summary(report).split("\n"), training_step(report)
    if step is not None:
        texts.append(step_summary(step))
    lines = "<br>".join(map(_text, texts))
    table = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<p>{_text(heading(report).plain)}</p>{alerts}{table}<p>{lines}</p>"


def _row(tag: str, cells: list[str], align: list[str]) -> str:
    return (
        "<tr>"
        + "".join(
            f'<{tag} style="text-align:{side}">{_text(cell)}</{tag}>'
            for cell, side in zip(cells, align)
        )
        + "</tr>"
    )


def _text(text: str) -> str:
    """A text as HTML; control codes as escapes."""
    return escape(printable(text))
