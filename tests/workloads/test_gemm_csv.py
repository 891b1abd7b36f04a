"""GEMM lists in the shapes people have them."""

from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.workloads import load_workload

HEADER = "Layer, M, N, K,\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "net.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "QKV, 197, 2304, 768,\nProj, 197, 768, 768,\n",
        "Layer,M,N,K\nQKV,197,2304,768\nProj,197,768,768",
        "\ufeff" + HEADER + "\nQKV, 197, 2304, 768,\n,,,,\n   \nProj, 197, 768, 768,\n",
        "Layer\tM\tN\tK\r\nQKV\t197\t2304\t768\r\nProj\t197\t768\t768\r\n",
        "Layer;M;N;K\nQKV;197;2304;768\nProj;197;768;768\n",
        "QKV, 197, 2304, 768,\nProj, 197, 768, 768,\n",
        "Name,\u00a0K\u00a0, m, N\nQKV, 768, 197, 2304\nProj, 768, 197, 768\n",
        "whatever, comes, first, here\nQKV, 197, 2304, 768,\nProj, 197, 768, 768,\n",
        '"Layer","M","N","K"\n"QKV","197","2304","768"\n"Proj","197.0","768","7.68e2"\n',
        HEADER + "QKV, 197, 2304, 768, # the first\n# a comment\nProj, 197, 768, 768,#x\n",
    ],
)
def test_dialects_agree(tmp_path: Path, text: str) -> None:
    workload = load_workload(write(tmp_path, text))
    assert [(layer.name, layer.shape("fwd")) for layer in workload] == [
        ("QKV", (1, 197, 2304, 768)),
        ("Proj", (1, 197, 768, 768)),
    ]
    assert workload.warnings == ()
    assert workload.name == "net"


def test_utf16_as_spreadsheets_write_it(tmp_path: Path) -> None:
    text = "Layer\tM\tN\tK\r\nQKV\t197\t2304\t768\r\n"
    assert load_workload(write(tmp_path, text.encode("utf-16"))).macs() == 197 * 2304 * 768


def test_groups_by_title(tmp_path: Path) -> None:
    workload = load_workload(write(tmp_path, "Layer,M,N,K,Batch\nQK,9,8,7,12\nPV,9,7,8,\n"))
    assert [layer.groups for layer in workload] == [12, 1]
    assert workload.warnings == ()


def test_repeated_names_are_told_apart(tmp_path: Path) -> None:
    workload = load_workload(write(tmp_path, HEADER + "fc,1,2,3\nfc,1,2,3\nfc,1,2,3\n"))
    assert [layer.name for layer in workload] == ["fc", "fc#2", "fc#3"]


def test_odd_rows_give_one_warning_each_with_their_line(tmp_path: Path) -> None:
    rows = "Encoder,\nQKV, 197, 2304, 768, 3:4,\nbad, 1, two, 3,\nshort, 5,\nok, 1, 2, 3,\n"
    path = write(tmp_path, HEADER + rows)
    workload = load_workload(path)
    assert [layer.name for layer in workload] == ["QKV", "ok"]
    assert [warning.removeprefix(f"{path}:")[:2] for warning in workload.warnings] == [
        "2:",
        "3:",
        "4:",
        "5:",
    ]
    assert "'3:4'" in workload.warnings[1]
    assert "n is 'two', not a whole number" in workload.warnings[2]
    assert "n is missing" in workload.warnings[3]


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
def test_what_cannot_be_read_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_workload(write(tmp_path, text))
