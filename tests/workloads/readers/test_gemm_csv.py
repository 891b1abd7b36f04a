"""GEMM lists: a file under data/ for each dialect."""

from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.workloads import load_workload

DATA = Path(__file__).parent / "data"
HEADER = "Layer, M, N, K,\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "net.csv"
    path.write_bytes(text.encode())
    return path


# Each file describes the same two products.
SAME = (
    "plain", "no_trailing_comma", "bom_blank_rows", "tabs_crlf", "semicolons", "no_header",
    "reordered_nbsp", "odd_header", "quotes", "comments", "sparsity", "utf16",
)  # fmt: skip


@pytest.mark.parametrize("dialect", SAME)
def test_dialects_agree(dialect: str) -> None:
    workload = load_workload(DATA / f"gemm_{dialect}.csv")
    assert [(layer.name, layer.shape("fwd")) for layer in workload] == [
        ("QKV", (1, 197, 2304, 768)),
        ("Proj", (1, 197, 768, 768)),
    ]
    assert workload.warnings == ()
    assert workload.name == f"gemm_{dialect}"


def test_every_file_is_tested() -> None:
    named = {f"gemm_{dialect}.csv" for dialect in (*SAME, "batch")}
    assert {path.name for path in DATA.glob("gemm_*.csv")} == named


def test_groups_by_title() -> None:
    workload = load_workload(DATA / "gemm_batch.csv")
    assert [layer.groups for layer in workload] == [12, 1]
    assert workload.warnings == ()


def test_repeated_names_get_numbers(tmp_path: Path) -> None:
    workload = load_workload(write(tmp_path, HEADER + "fc,1,2,3\nfc,1,2,3\nfc,1,2,3\n"))
    assert [layer.name for layer in workload] == ["fc", "fc#2", "fc#3"]


def test_odd_rows_warn(tmp_path: Path) -> None:
    rows = "Encoder,\nQKV, 197, 2304, 768, 3:4,\nbad, 1, two, 3,\nshort, 5,\nok, 1, 2, 3,\n"
    path = write(tmp_path, HEADER + rows)
    workload = load_workload(path)
    assert [layer.name for layer in workload] == ["QKV", "ok"]
    assert [line.removeprefix(f"{path}:")[:2] for line in workload.warnings] == ["2:", "3:"]
    assert "'3:4'" in workload.warnings[1]
    assert workload.missing == (
        f"{path}:4: 'bad, 1, two, 3' is no layer: n is 'two', not a whole number",
        f"{path}:5: 'short, 5' is no layer: n is missing",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "fc, 1, 2, 3\nfc, 4, 0, 6\n", r"net.csv:3: n is 0; it must be from 1"),
        (HEADER + "fc, -4, 5, 6\n", r"net.csv:2: m is -4"),
        (HEADER + "fc, 4, 5, 99999999999\n", r"net.csv:2: k is 99999999999"),
        (HEADER, "no layer in it; rows must read 'name, M, N, K'"),
        ("", "no layer in it"),
        ("\n\n\n", "no layer in it"),
    ],
)
def test_gemm_csv_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_workload(write(tmp_path, text))
