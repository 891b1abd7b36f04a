"""Convolution lists: a file under data/ for each dialect."""

from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import Workload
from hfp8sim.workloads import load_workload

DATA = Path(__file__).parent / "data"
HEADER = (
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, "
    "Strides,\n"
)

# Each file describes the same three layers. The numbers are the lines with a warning.
SAME = {
    "plain": [],
    "no_trailing_comma": [],
    "two_widths": [],
    "nbsp": [],
    "bom_crlf": [],
    "tabs": [],
    "blank_and_sections": [3, 7],
    "comments": [6],
    "extra_columns": [2, 3, 4],
    "sparsity": [],
    "sparsity_untitled": [2, 3, 4],
    "no_header": [],
    "reordered": [],
    "addresses": [],
}


def warned(workload: Workload, path: Path) -> list[int]:
    """Line numbers of warnings and missing products, each of which is one line and names the file."""
    lines = (*workload.warnings, *workload.missing)
    assert all("\n" not in line for line in lines)
    return sorted(int(line.removeprefix(f"{path}:").split(":")[0]) for line in lines)


@pytest.mark.parametrize("dialect", SAME)
def test_dialects_agree(dialect: str) -> None:
    path = DATA / f"conv_{dialect}.csv"
    workload = load_workload(path)
    assert [(layer.name, tuple(layer.shape())) for layer in workload] == [
        ("Conv1", (1, 16 * 16, 16, 27)),
        ("Conv2", (1, 9 * 9, 32, 144)),  # ceil((18 - 3 + 2) / 2) = 9, where frameworks say 8
        ("FC", (1, 1, 10, 32)),
    ]
    assert warned(workload, path) == SAME[dialect]


@pytest.mark.parametrize("row", ["c2, 10, 10, 3", "c2, 10, 10, 3, 3"])
def test_incomplete_row_is_no_gemm(tmp_path: Path, row: str) -> None:
    path = tmp_path / "net.csv"
    path.write_text(f"{HEADER}c1, 10, 10, 3, 3, 4, 8, 1,\n{row}")
    workload = load_workload(path)
    assert [(layer.kind, tuple(layer.shape())) for layer in workload] == [
        ("conv2d", (1, 64, 8, 36))
    ]
    assert warned(workload, path) == [3] and workload.missing[0].endswith("missing")
    path.write_text(f"{HEADER}{row}")
    with pytest.raises(InputError, match="no layer in it; rows must read 'name, input height"):
        load_workload(path)


def test_every_file_is_tested() -> None:
    named = {f"conv_{dialect}.csv" for dialect in SAME} | {
        f"conv_{name}.csv"
        for name in (
            "batch",
            "stride_pair",
            "optional_by_name",
            "depthwise_dp",
            "depthwise_mark",
            "odd_rows",
        )
    }
    assert {path.name for path in DATA.glob("conv_*.csv")} == named


def test_batch_column() -> None:
    workload = load_workload(DATA / "conv_batch.csv")
    assert [layer.m for layer in workload] == [4 * 256, 4 * 81, 4]
    assert workload.warnings == ()


def test_two_strides() -> None:
    workload = load_workload(DATA / "conv_stride_pair.csv")
    assert workload["Conv2"].conv is not None
    assert workload["Conv2"].conv.stride == (2, 1)
    assert workload["Conv2"].conv.output == (9, 16)


def test_optional_columns() -> None:
    workload = load_workload(DATA / "conv_optional_by_name.csv")
    assert [tuple(layer.shape()) for layer in workload] == [
        (1, 8 * 112 * 112, 64, 147),
        (64, 8 * 112 * 112, 1, 9),
        (1, 8 * 28 * 28, 64, 576),
    ]
    assert workload.warnings == ()


def test_depthwise_by_name() -> None:
    workload = load_workload(DATA / "conv_depthwise_dp.csv")
    assert [tuple(layer.shape()) for layer in workload] == [
        (32, 196, 1, 9),
        (32, 196, 2, 9),
        (1, 1, 4, 32),
        (8, 196, 1, 9),
        (1, 1, 4, 32),
    ]


def test_depthwise_by_mark() -> None:
    path = DATA / "conv_depthwise_mark.csv"
    workload = load_workload(path)
    assert [tuple(layer.shape()) for layer in workload] == [
        (32, 196, 1, 9),
        (32, 196, 1, 9),
        (32, 196, 2, 9),
        (1, 196, 48, 288),
    ]
    assert warned(workload, path) == [5]


def test_odd_rows_warn() -> None:
    path = DATA / "conv_odd_rows.csv"
    workload = load_workload(path)
    assert [layer.name for layer in workload] == ["Conv1", "Conv2", "Conv5", "Conv7"]
    assert warned(workload, path) == [2, 3, 4, 5, 6, 7]
    for line, words in zip(
        (*workload.warnings, *workload.missing),
        (
            "no stride; taken as 1",
            "stride is 'two', not a whole number",
            "ignored 'what'",
            "width is 'eighteen', not a whole number",
            "the filter reaches over 3 pixels, but the padded input is only 2 high",
            "filter height is missing",
        ),
        strict=True,
    ):
        assert words in line


@pytest.mark.parametrize("stride", range(1, 6))
@pytest.mark.parametrize("size", range(3, 12))
def test_output_size_is_rounded_up(tmp_path: Path, size: int, stride: int) -> None:
    (tmp_path / "n.csv").write_text(HEADER + f"c, {size}, {size}, 3, 3, 1, 1, {stride},\n")
    conv = load_workload(tmp_path / "n.csv")[0].conv
    assert conv is not None
    assert conv.output[0] == -(-(size - 3 + stride) // stride)


def test_too_large_filter_is_missing(tmp_path: Path) -> None:
    text = HEADER + "small, 2, 2, 3, 3, 1, 1, 2,\nok, 3, 3, 3, 3, 1, 1, 2,\n"
    (tmp_path / "n.csv").write_text(text)
    workload = load_workload(tmp_path / "n.csv")
    assert [layer.name for layer in workload] == ["ok"]
    assert warned(workload, tmp_path / "n.csv") == [2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("c, 18, 18, 3, 3, 0, 16, 1,", r"n\.csv:2: channels is 0; it must be from 1"),
        ("c, 18, 18, 3, 3, 3, 16, -1,", r"n\.csv:2: stride is -1; it must be from 1"),
        ("c, 18, 18, 3, 3, 3, 99999999999, 1,", r"n\.csv:2: filters is 99999999999"),
        ("c, 2, 2, 3, 3, 3, 16, 1,", "no layer in it; rows must read 'name, input height"),
    ],
)
def test_conv_csv_errors(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "n.csv").write_text(HEADER + row)
    with pytest.raises(InputError, match=message):
        load_workload(tmp_path / "n.csv")


def test_gemm_written_as_a_filter_of_one_row_is_a_gemm(tmp_path: Path) -> None:
    """As a convolution its input gradient would have K times the multiply-accumulates."""
    path = tmp_path / "net.csv"
    path.write_text(HEADER + "a, 64, 300, 1, 300, 1, 128, 1,\nb, 32, 16, 1, 16, 1, 8, 1,\n")
    workload = load_workload(path)
    assert [(layer.kind, tuple(layer.shape())) for layer in workload] == [
        ("gemm", (1, 64, 128, 300)),
        ("gemm", (1, 32, 8, 16)),
    ]
    assert workload["a"].shape("dgrad").macs == workload["a"].shape("fwd").macs
    (note,) = [note for note in workload.notes if "GEMM" in note]
    assert note == "filters of 1×K over one channel of width K: such rows are read as GEMMs M×N×K"
    assert workload.warnings == ()


@pytest.mark.parametrize(
    "row",
    [
        "64, 300, 1, 299, 1, 128, 1",  # narrower than the input
        "64, 300, 2, 300, 1, 128, 1",  # two rows high
        "64, 300, 1, 300, 2, 128, 1",  # two channels
        "64, 300, 1, 300, 1, 128, 2",  # every second row
        "64, 1, 1, 1, 1, 128, 1",
    ],
)
def test_other_filters_are_convolutions(tmp_path: Path, row: str) -> None:
    (tmp_path / "net.csv").write_text(f"{HEADER}a, {row},\n")
    workload = load_workload(tmp_path / "net.csv")
    assert workload[0].kind == "conv2d" and not any("GEMM" in note for note in workload.notes)
