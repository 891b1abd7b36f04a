"""Lists as spreadsheets and other simulators write them: quotes, encodings, separators, types of layers."""

from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import Workload
from hfp8sim.workloads import load_workload
from hfp8sim.workloads.readers import csv_rows

CONV_HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides"


def read(folder: Path, text: str | bytes, name: str = "net.csv") -> Workload:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_workload(path)


def products(workload: Workload) -> list[tuple[str, tuple[int, ...]]]:
    return [(layer.name, tuple(layer.shape())) for layer in workload]


@pytest.mark.parametrize(
    ("row", "name", "shape"),
    [
        ('"conv, 1",64,32,16,', "conv, 1", (64, 32, 16)),
        ('"fc","1,024",32,"16",', "fc", (1024, 32, 16)),
        ('"say ""hi""",64,32,16', 'say "hi"', (64, 32, 16)),
        ('"a;b\tc",64,32,16', "a;b\tc", (64, 32, 16)),
        ('"# 1",64,32,16', "# 1", (64, 32, 16)),
        ('"two\nlines", 64, 32, 16', "two\nlines", (64, 32, 16)),
        ('5" filter,64,32,16', '5" filter', (64, 32, 16)),
        ('"a" b,64,32,16', 'a" b', (64, 32, 16)),
        ("conv#2,64,32,16", "conv#2", (64, 32, 16)),
        ("conv #2,64,32,16 # a comment", "conv #2", (64, 32, 16)),
        ("a  b,64,32,16", "a  b", (64, 32, 16)),
        ("fc;1'024;32;16", "fc", (1024, 32, 16)),
        ("fc;1\u202f024;32;16", "fc", (1024, 32, 16)),
        ('"conv, 1";64;32;16', "conv, 1", (64, 32, 16)),
        ("conv, 1\t64\t32\t16", "conv, 1", (64, 32, 16)),
    ],
)
def test_cells_are_read_as_written(
    tmp_path: Path, row: str, name: str, shape: tuple[int, ...]
) -> None:
    separator = next((s for s in ";\t" if row.count(s) == 3), ",")
    header = separator.join(("Layer", "M", "N", "K"))
    workload = read(tmp_path, f"{header}\n{row}\nlast{separator}1{separator}2{separator}3\n")
    assert products(workload) == [(name, (1, *shape)), ("last", (1, 1, 2, 3))]
    assert workload.warnings == workload.missing == ()


@pytest.mark.parametrize(
    "text", ["1.024", "1_024", "64 128", "1,24", "10,24", "1,0240", "0x10", ""]
)
def test_doubtful_numbers_are_none(text: str) -> None:
    """In half of the world 1.024 is a thousand and twenty-four."""
    assert csv_rows.whole_number(text) is None


def test_quote_that_runs_over_rows_is_refused(tmp_path: Path) -> None:
    text = 'Layer,M,N,K\na,1,2,3\n"b,1,2,3\nc,1,2,3\nd",1,2,3\n'
    with pytest.raises(InputError, match=r"net\.csv:3: a quoted cell runs over rows"):
        read(tmp_path, text)


def test_quote_without_an_end_is_a_character(tmp_path: Path) -> None:
    workload = read(tmp_path, 'Layer,M,N,K\n"a,1,2,3\nb,4,5,6\n')
    assert products(workload) == [("a", (1, 1, 2, 3)), ("b", (1, 4, 5, 6))]


ENCODINGS = (
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1",
)  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "line_end"),
    [(encoding, end) for encoding in ENCODINGS for end in ("\n", "\r\n")]
    # What tells Mac Roman from Windows-1252 is the line end.
    + [("mac-roman", "\r"), ("utf-8", "\r"), ("utf-16-le", "\r")],
)
def test_encodings(tmp_path: Path, encoding: str, line_end: str) -> None:
    text = "Layer;M;N;K\né1;64;32;16\nü;1;2;3\n".replace("\n", line_end)
    assert products(read(tmp_path, text.encode(encoding))) == [
        ("é1", (1, 64, 32, 16)),
        ("ü", (1, 1, 2, 3)),
    ]


def test_rows_with_another_separator_are_read(tmp_path: Path) -> None:
    workload = read(tmp_path, "Layer,M,N,K\na,1,2,3\nb;4;5;6\nc\t7\t8\t9\n")
    assert [layer.m for layer in workload] == [1, 4, 7]


def test_types_of_mnpusim(tmp_path: Path) -> None:
    rows = (
        "Conv1,18,18,3,3,3,16,1,Im2col_conv,-1,-1,-1",
        "copy,200000,128,1,1,1,1,1,Other,-1,-1,-1",
        "pool,8,8,2,2,16,1,2,Pool,-1,-1,-1",
        "QKT,1024,64,64,512,1,1,1,Gemm,-1,-1,-1",
        "GEMM1,256,64,64,8,1,1,1,Dir_Gemm,-1,-2,-1",
        "odd,256,64,63,8,1,1,1,Dir_Gemm,-1,-2,-1",
        "new,4,4,1,1,2,3,1,Winograd,-1,-1,-1",
    )
    header = f"{CONV_HEADER}, Type, IFMAP Base Addr, Filter Base Addr, Ofmap Base Addr,"
    workload = read(tmp_path, "\n".join((header, *rows)))
    assert products(workload) == [
        ("Conv1", (1, 256, 16, 27)),
        ("QKT", (1, 1024, 512, 64)),
        ("GEMM1", (1, 256, 8, 64)),
        ("new", (1, 16, 3, 2)),
    ]
    path = tmp_path / "net.csv"
    assert [line.removeprefix(f"{path}:")[:1] for line in workload.warnings] == ["3", "4", "8"]
    assert workload.missing == (
        f"{path}:7: 'odd, 256, 64, 63, 8, 1, 1, 1, Dir_Gemm, -1, -2, -1' is no layer: its type is "
        "Dir_Gemm, so its sizes are M, K, K, N, but 64 is not 63",
    )


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("c, 99999, 99999, 1, 1, 3, 16, 1", "m is 9999800001; it must be from 1 to"),
        ("DPc, 9, 9, 3, 3, 99999, 99999, 1", "filters is 9999800001; it must be from 1 to"),
        ("c, 9, 9, 3, 3, 0, 16, 1", "channels is 0; it must be from 1 to"),
    ],
)
def test_convolution_out_of_range_is_refused(tmp_path: Path, row: str, text: str) -> None:
    with pytest.raises(InputError, match=rf"net\.csv:3: .*{text}"):
        read(tmp_path, f"{CONV_HEADER},\nok, 9, 9, 3, 3, 3, 16, 1,\n{row},\n")


def test_list_without_a_layer_gives_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no layer in it.*: 'c, 2, 2, 3, 3, 1, 1, 1' is no layer"):
        read(tmp_path, f"{CONV_HEADER}\nc, 2, 2, 3, 3, 1, 1, 1,\n")
