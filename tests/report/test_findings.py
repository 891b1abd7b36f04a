"""What operands lost, in words: the worst first, each tensor of a layer once, with the loss scale that would do."""

from __future__ import annotations

import numpy as np

import hfp8sim as hs
from hfp8sim.network import Layer, Workload
from hfp8sim.report.findings import losses, percent, reasons, row_losses, sentences, worst_row
from hfp8sim.report.report import compare
from hfp8sim.report.table import summary
from tests.report.samples import sample


def row(layer: str, phase: str, **shares: float) -> dict[str, object]:
    """A row with the given shares by port and kind."""
    names = [f"{port}_{kind}_share" for port in "ab" for kind in ("saturated", "flushed")]
    values = {name: shares.get(name.removesuffix("_share"), 0.0) for name in names}
    return {"layer": layer, "phase": phase, "sqnr_db": 20.0, "a_largest": 30.0, "b_largest": 114688.0} | values  # fmt: skip


def clipped() -> hs.Report:
    """Made-up rows without a loss, and then three of `head` and `neck` with some."""
    report = sample()
    for each in report.layers:
        each |= {"a_flushed_share": 0.0, "b_flushed_share": 0.0, "a_saturated_share": 0.0}
    report.layers[0] |= row("neck", "fwd", a_saturated=0.02, b_flushed=0.5)
    report.layers[1] |= row("head", "fwd", a_saturated=0.63) | {"sqnr_db": 1.2}
    report.layers[2] |= row("head", "wgrad", a_saturated=0.6, b_flushed=0.83) | {
        "loss_scale": 12, "loss_scale_lost": 0.0012,
    }  # fmt: skip
    return report


def test_percent_is_never_zero_for_a_share() -> None:
    assert [percent(share) for share in (0.63, 0.0951, 0.02, 0.0012, 0.0004, 1.0)] == [
        "63 %", "9.5 %", "2.0 %", "0.1 %", "0.04 %", "100 %",
    ]  # fmt: skip


def test_summary_says_why_the_lowest_sqnr_is_low() -> None:
    lines = summary(clipped()).splitlines()
    assert lines[1] == "lowest SQNR 1.2 dB (head fwd): 63 % of its activations beyond 30"
    assert any(
        line.endswith("of the MACs an operand is zero: the multiplier is gated")
        for line in lines[2:]
    )


def test_sentences_are_worst_first_and_name_each_tensor_once() -> None:
    assert sentences(clipped()) == [
        "head: 63 % of its activations beyond 30",
        "neck: 2.0 % of its activations beyond 30",
        "head: 83 % of its errors flushed to zero: a loss scale of 2^12 would keep all but 0.1 %",
        "neck: 50 % of its weights flushed to zero",
        "--calibrate max, percentile or mse chooses biases and scales from the tensors",
    ]


def test_sentences_beyond_the_first_are_counted() -> None:
    report = clipped()
    assert sentences(report, 1)[1] == "1 more tensor is saturated by 1 % or more"
    report.layers[3] |= row("tail", "dgrad", a_saturated=0.4)
    assert sentences(report, 1)[1] == "2 more tensors are saturated by 1 % or more"


def test_calibrated_report_does_not_advise_calibration() -> None:
    report = clipped()
    report.facts["calibration"] = {"method": "max"}
    assert not any("--calibrate" in line for line in sentences(report))


def test_lossless_rows_have_no_reason() -> None:
    assert reasons(row("fc", "fwd", a_saturated=0.009)) == ""
    assert row_losses(row("fc", "fwd")) == []
    assert worst_row([{"layer": "fc", "phase": "fwd"}]) is None


def test_wgrad_losses_name_errors_as_the_second_operand() -> None:
    (loss,) = row_losses(row("fc", "wgrad", b_saturated=0.3))
    assert loss.words() == "30 % of its errors beyond 114688"
    (loss,) = row_losses(row("fc", "dgrad", a_saturated=0.3))
    assert loss.words() == "30 % of its errors beyond 30"


def test_useless_loss_scale_is_not_advised() -> None:
    report = clipped()
    report.layers[2] |= {"loss_scale": 3, "loss_scale_lost": 0.83}
    (line,) = [x for x in sentences(report) if "errors" in x]
    assert line == "head: 83 % of its errors flushed to zero; no loss scale would keep more"


def test_shares_of_a_run_are_those_of_its_tensors() -> None:
    """5 of 8 activations are beyond 30, and 6 of 8 errors below half of 1-5-2's smallest number."""
    x = np.float32([[31, 100, -64, 1840], [-50, 1, 0, 2]])
    w = np.full((4, 4), 0.25, np.float32)
    dy = np.float32([[2.0**-25, -(2.0**-24), 2.0**-23, 2.0**-22], [2.0**-21, 2.0**-20, 1, 2]])
    layer = Layer("fc", "linear", 2, 4, 4, tensors={"x": x, "w": w, "dy": dy})
    report = hs.simulate(Workload("net", (layer,)))
    fwd, dgrad, wgrad = report.layers
    assert (fwd["a_saturated_share"], fwd["saturated_share"], fwd["saturated"]) == (5 / 8, 5 / 8, 5)
    assert (fwd["a_largest"], dgrad["a_largest"]) == (30, 114688)
    assert dgrad["a_flushed_share"] == wgrad["b_flushed_share"] == 6 / 8
    # 2^-25 needs 2^10 to become 2^-15, which rounds to the smallest number, 1.25·2^-15, or to zero.
    assert dgrad["loss_scale"] in (10, 11) and dgrad["loss_scale_lost"] == 0
    assert "fc: 62 % of its activations beyond 30" in summary(report)
    assert f"fc: 75 % of its errors flushed to zero: a loss scale of 2^{dgrad['loss_scale']} would keep all" in str(report)  # fmt: skip
    assert losses(report, saturated=True)[0].role == "activations"


def test_comparison_shows_the_alerts_of_its_reports() -> None:
    one, other = (
        sample(),
        hs.Report(sample().layers, sample(seed=1).facts, ("missing: node 'a': Conv3d",)),
    )
    text = compare([one, other]).to_text()
    assert text.startswith("B: missing: node 'a': Conv3d\n")
    assert (
        "<strong>B: missing: node &#39;a&#39;: Conv3d</strong>" in compare([one, other]).to_html()
    )
    assert compare([other, other], ["x", "y"]).to_text().startswith("missing: node 'a': Conv3d\n")
