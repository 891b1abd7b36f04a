"""Reports: totals, CSV, JSON both ways, its published schema, SCALE-Sim's columns."""

import contextlib
import csv
import dataclasses
import io
import json
import math
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfp8sim.errors import InputError
from hfp8sim.report import schema
from hfp8sim.report.columns import FLAT, PARTS
from hfp8sim.report.record import file_name
from hfp8sim.report.report import Report, compare
from hfp8sim.report.table import provenance, summary, table
from tests.report.samples import facts, row, sample

DOCS = Path(__file__).parents[2] / "docs"


def test_total_row_reduces_all_rows() -> None:
    report = sample()
    rows, total = report.layers, report.total
    for name in ("macs", "cycles", *PARTS, "bytes", "saturated", "steps", "draws"):
        assert total[name] == sum(r[name] for r in rows)
    assert sum(total[part] for part in PARTS) == total["cycles"]
    assert total["utilisation"] == pytest.approx(total["macs"] / 2048 / total["cycles"])
    assert total["tflops"] == pytest.approx(2 * total["macs"] / total["time_us"] / 1e6)
    assert total["swamped_share"] == total["swamped"] / total["steps"]
    assert total["sqnr_db"] == min(r["sqnr_db"] for r in rows)
    assert total["acc_max_ulp"] == max(r["acc_max_ulp"] for r in rows)
    assert total["error_ulps"] == [sum(c) for c in zip(*(r["error_ulps"] for r in rows))]
    assert "cosine" not in total and "m" not in total
    assert total["bound_by"] == "compute"


def test_total_leaves_out_missing_values() -> None:
    rows = [row("a", "fwd") | {"sqnr_db": math.nan, "bits_normal": None}, row("b", "fwd")]
    total = Report(rows, facts()).total
    assert total["sqnr_db"] == rows[1]["sqnr_db"] and total["bits_normal"] == 8


def test_csv_reads_back() -> None:
    report = sample()
    read = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert list(read[0]) == list(FLAT) and len(read) == len(report.layers) + 1
    assert read[-1]["layer"] == "total"
    for row_, csv_row in zip(report.layers, read):
        for name in FLAT:
            value = row_[name]
            expected = "" if value is None else str(value)
            assert csv_row[name] == expected or float(csv_row[name]) == value


def test_csv_of_missing_and_infinite_values() -> None:
    report = Report([row("a", "fwd") | {"sqnr_db": math.inf, "cosine": math.nan}], facts())
    (read, _) = csv.DictReader(io.StringIO(report.to_csv()))
    assert (read["sqnr_db"], read["cosine"]) == ("inf", "")


def test_json_round_trip() -> None:
    report = sample()
    read = Report.from_json(report.to_json())
    assert read == report and not read.partial
    assert read.to_json() == report.to_json()


def test_json_of_missing_and_infinite_values() -> None:
    report = Report([row("a", "fwd") | {"sqnr_db": math.inf, "cosine": math.nan}], facts())
    written = json.loads(report.to_json())
    assert (written["layers"][0]["sqnr_db"], written["layers"][0]["cosine"]) == ("inf", None)
    jsonschema.validate(written, schema.schema())
    read = Report.from_json(report.to_json()).layers[0]
    assert read["sqnr_db"] == math.inf and read["cosine"] is None


def test_partial_report() -> None:
    report = dataclasses.replace(sample(), planned=11)
    written = json.loads(report.to_json())
    assert report.partial and written["partial"] and written["planned_rows"] == 11
    assert Report.from_json(report.to_json()).partial
    jsonschema.validate(written, schema.schema())


def test_published_schema_is_generated_from_the_columns() -> None:
    """docs/report.schema.json is `schema.document()`."""
    assert (DOCS / "report.schema.json").read_text("utf-8") == schema.document()
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    jsonschema.validate(json.loads(sample().to_json()), schema.schema())


@pytest.mark.parametrize(
    "damage",
    [
        {"seed": "zero"},
        {"versions": {"python": "3.11"}},
        {"layers": [{"layer": "a"}]},
        {"unknown": 1},
        {"histogram_bins": ["0"]},
    ],
)
def test_schema_refuses(damage: dict[str, object]) -> None:
    document = json.loads(sample().to_json()) | damage
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema.schema())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.clear(), "not a report of hfp8sim"),
        (lambda d: d.update(schema=99), "layout version 99"),
        (lambda d: d.pop("seed"), "key 'seed' is missing"),
        (lambda d: d.update(layers=[]), "layers must be a list"),
        (lambda d: d.update(layers=[3]), "row 1 is 3"),
        (lambda d: d["layers"][1].update(cycles="many"), "row 2: cycles is 'many'; it must be int"),
        (lambda d: d["layers"][0].update(cycles=True), "cycles is True; it must be int"),
        (lambda d: d["layers"][0].update(error_ulps=[1]), "error_ulps is [1]; it must be list"),
        (lambda d: d["layers"][0].update(speed=1), "unknown column 'speed'"),
        (lambda d: d["layers"][0].pop("phase"), "phase is missing"),
        (lambda d: d["layers"][0].update(phase="up"), "phase is 'up'; it must be one of fwd"),
        (lambda d: d["layers"][0].update(k=0), "k is 0; it must be at least 1"),
        (lambda d: d["layers"][0].pop("post"), "post is missing, though others of the time"),
        (lambda d: d["layers"][0].update(cycles=0), "cycles and time_us must be more than 0"),
        (lambda d: d["layers"][0].update(tflops="inf"), "tflops is inf"),
        (lambda d: d["machine"].pop("name"), "machine.name is None; it must be str"),
        (lambda d: d["machine"].update(clock_mhz=0), "machine.clock_mhz is 0"),
        (
            lambda d: d["machine"]["memory"].update(refresh_ns=-1),
            "refresh_ns is -1; it must be at least 0",
        ),
        (
            lambda d: d["machine"]["memory"].update(refresh_ns=9, refresh_interval_ns=9),
            "it must be less than refresh_interval_ns, 9",
        ),
        (lambda d: d.update(profile="hfp8"), "profile.name is None"),
        (lambda d: d.update(policy=[{"rule": "first"}]), "policy 1 must have a rule"),
    ],
)
def test_damaged_json_is_refused_in_one_line(change: object, says: str) -> None:
    document = json.loads(sample().to_json())
    change(document)  # type: ignore[operator]
    with pytest.raises(InputError) as refused:
        Report.from_json(json.dumps(document), "r.json")
    assert says in str(refused.value) and str(refused.value).startswith("r.json: ")


def _places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Every place in a JSON document, of lists the first two items."""
    result = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            result += _places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:2]):
            result += _places(inner, (*path, index))
    return result


_DOCUMENT = json.loads(sample(("conv", "fc")).to_json())
del _DOCUMENT["columns"], _DOCUMENT["total"]  # never read back


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(_places(_DOCUMENT)),
    st.sampled_from(
        [None, -1, 0, 1.5, 10**400, "", "x", True, [], [None], {}, {"name": "x"}, "del"]
    ),
)
def test_damaged_report_is_refused_in_one_line_or_rendered(
    place: tuple[object, ...], value: object
) -> None:
    """With any value in any one place of a report, no form of it fails with a traceback."""
    document = json.loads(json.dumps(_DOCUMENT))
    *path, last = place
    target = document
    for key in path:
        target = target[key]
    if value == "del":
        del target[last]
    else:
        target[last] = value
    try:
        report = Report.from_json(json.dumps(document), "r.json")
    except InputError as refused:
        assert "\n" not in str(refused)
        return
    report.to_csv(), report.to_html(), report.to_json()
    for width in (60, 100):
        table(report, width)
    summary(report), provenance(report)
    compare([report, sample()]).to_html()
    with contextlib.suppress(InputError):
        report.to_scalesim()


def test_truncated_json_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = sample().to_json()
    path = tmp_path / "torn.json"
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 3):
        path.write_text(whole[:length])
        with pytest.raises(InputError, match="not a JSON file"):
            Report.load(path)
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match="not a text file"):
        Report.load(path)
    with pytest.raises(InputError, match="No such file"):
        Report.load(tmp_path / "absent.json")


def test_file_name_has_no_path_and_a_limited_length() -> None:
    assert file_name("digits-cnn") == "digits-cnn"
    assert file_name("../../etc/passwd") == "_.._etc_passwd"
    assert file_name("...") == "report" and len(file_name("x" * 500)) == 100


def test_scalesim_columns() -> None:
    lines = sample().to_scalesim().splitlines()
    assert lines[0] == (
        "LayerID, Total Cycles (incl. prefetch), Total Cycles, Stall Cycles, "
        "Overall Util %, Mapping Efficiency %, Compute Util %,"
    )
    assert all(line.endswith(",") for line in lines)
    read = [line.rstrip(",").split(", ") for line in lines[1:]]
    assert [int(r[0]) for r in read] == list(range(9))
    for csv_row, row_ in zip(read, sample().layers):
        assert int(csv_row[2]) == row_["cycles"]
        assert int(csv_row[3]) == row_["stall_in"] + row_["stall_out"]
        assert float(csv_row[4]) == pytest.approx(100 * row_["macs"] / 2048 / row_["cycles"])


@pytest.mark.parametrize(
    ("size", "array", "dataflow", "cycles", "util", "mapping"),
    [  # SCALE-Sim 3.0.0's own numbers for these GEMMs
        ((64, 64, 64), 8, "os", 4991, 82.07, 100.0),
        ((64, 64, 64), 32, "ws", 631, 40.57, 100.0),
        ((197, 768, 768), 32, "os", 139439, 81.38, 100 * 197 / 224),
        ((1, 4096, 4096), 128, "os", 139199, 0.74, 100 / 128),
    ],
)
def test_scalesim_figures(
    size: tuple[int, int, int], array: int, dataflow: str, cycles: int, util: float, mapping: float
) -> None:
    """From the cycles that its closed form gives, its own percentages follow."""
    m, n, k = size
    macs = m * n * k
    timed_row = row("a", "fwd") | {
        "m": m, "n": n, "k": k, "macs": macs, "cycles": cycles, "stall_in": 0, "stall_out": 0,
        "utilisation": macs / (array * array * cycles),
    }  # fmt: skip
    machine = {"name": "x", "clock_mhz": 1, "array": {"rows": array, "columns": array}}
    report = Report([timed_row], facts(machine=machine, time_model=f"scalesim-{dataflow}"))
    result = report.to_scalesim().splitlines()[1].rstrip(",").split(", ")
    assert int(result[1]) == int(result[2]) == cycles
    assert round(float(result[4]), 2) == util
    assert float(result[5]) == pytest.approx(mapping)


def test_scalesim_needs_cycles() -> None:
    with pytest.raises(InputError, match="no cycles"):
        Report([{**row("a", "fwd"), "cycles": None}], facts()).to_scalesim()
