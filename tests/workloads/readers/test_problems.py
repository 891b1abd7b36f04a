"""ZigZag and Timeloop problems."""

from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.workloads import load_workload

pytest.importorskip("yaml")

CONV = """
- id: 0
  name: stem
  operator_type: Conv
  equation: O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]
  dimension_relations: [ix=2*ox+1*fx, iy=2*oy+1*fy]
  loop_dims: [B, K, C, OY, OX, FY, FX]
  loop_sizes: [2, 64, 3, 112, 112, 7, 7]
  pr_loop_dims: [IX, IY]
  pr_loop_sizes: [224, 224]
  padding: [[3, 2], [3, 2]]
  operand_precision: {W: 8, I: 8, O: 16, O_final: 8}
  operand_source: {I: 0, W: 0}
"""
TIMELOOP = """
problem:
  version: 0.4
  shape: !Problem
    name: CNN-Layer
    dimensions: [C, K, R, S, N, P, Q]
    coefficients:
    - {name: Wstride, default: 1}
    - {name: Hstride, default: 1}
    - {name: Wdilation, default: 1}
    - {name: Hdilation, default: 1}
    data-spaces:
    - name: Weights
      projection: [[[C]], [[K]], [[R]], [[S]]]
    - name: Inputs
      projection: [[[N]], [[C]], [[R, Wdilation], [P, Wstride]], [[S, Hdilation], [Q, Hstride]]]
    - name: Outputs
      projection: [[[N]], [[K]], [[Q]], [[P]]]
      read-write: True
  instance: {C: 3, K: 64, R: 11, S: 5, P: 55, Q: 27, N: 2, Wstride: 4, Hdilation: 2}
"""
GEMM = """
shape:
  name: gemm_ABZ
  dimensions: [M, N, K]
  data_spaces:
    - {name: A, projection: [[[M]], [[K]]]}
    - {name: B, projection: [[[N]], [[K]]]}
    - {name: Z, projection: [[[M]], [[N]]], read_write: True}
instance: {M: 197, N: 2304, K: 768}
"""


def write(folder: Path, text: str, name: str = "net.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_zigzag_convolution(tmp_path: Path) -> None:
    layer = load_workload(write(tmp_path, CONV))[0]
    assert layer.name == "stem"
    assert layer.shape() == (1, 2 * 112 * 112, 64, 147)
    assert layer.conv is not None
    assert (layer.conv.height, layer.conv.stride, layer.conv.padding) == (224, (2, 2), (3, 2, 3, 2))


def test_zigzag_without_padding(tmp_path: Path) -> None:
    text = "\n".join(line for line in CONV.splitlines() if "padding" not in line)
    conv = load_workload(write(tmp_path, text, "net.yml"))[0].conv
    assert conv is not None
    assert (conv.height, conv.padding, conv.output) == (229, (0, 0, 0, 0), (112, 112))


@pytest.mark.parametrize(
    ("equation", "dims", "sizes", "shape"),
    [
        ("O[b][k]+=W[k][c]*I[b][c]", "B, K, C", "4, 10, 64", (1, 4, 10, 64)),
        ("O[b][k]+=I[b][c]*W[c][k]", "B, C, K", "512, 64, 32", (1, 512, 32, 64)),
        ("O[h][q][k]+=A[h][q][d]*B[h][k][d]", "H, Q, K, D", "8, 9, 7, 64", (8, 9, 7, 64)),
        (
            "O[b][g][oy][ox]+=W[g][fy][fx]*I[b][g][iy][ix]",
            "B, G, OY, OX, FY, FX",
            "1, 32, 14, 14, 3, 3",
            (32, 196, 1, 9),
        ),
        (
            "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
            "B, G, K, C, OY, OX, FY, FX",
            "2, 4, 8, 3, 14, 14, 3, 1",
            (4, 392, 8, 9),
        ),
        (
            "O[t][b][k][oy][ox]+=W[k][c][fy][fx]*I[t][b][c][iy][ix]",
            "T, B, K, C, OY, OX, FY, FX",
            "4, 2, 8, 3, 5, 5, 3, 3",
            (1, 200, 8, 27),
        ),
    ],
)
def test_zigzag_equations(
    tmp_path: Path, equation: str, dims: str, sizes: str, shape: tuple
) -> None:
    relations = "[ix=1*ox+1*fx, iy=oy+2*fy]" if "[ix]" in equation else "[]"
    text = (
        f"- operator_type: any\n  equation: {equation}\n  dimension_relations: {relations}\n"
        f"  loop_dims: [{dims}]\n  loop_sizes: [{sizes}]\n"
    )
    assert load_workload(write(tmp_path, text))[0].shape() == shape


def test_zigzag_skips_layers_without_weights(tmp_path: Path) -> None:
    pool = CONV.replace("stem", "pool").replace("operator_type: Conv", "operator_type: Pooling")
    add = "\n- {id: 7, operator_type: Add, equation: 'O[b]=X[b]*Y[b]', loop_dims: [B], loop_sizes: [2]}\n"
    workload = load_workload(write(tmp_path, CONV + pool + add))
    assert [layer.name for layer in workload] == ["stem"]
    assert "pool: operator 'Pooling' is no matrix product; skipped" in workload.warnings[0]
    assert "layer 7: operator 'Add'" in workload.warnings[1]


def test_timeloop_convolution(tmp_path: Path) -> None:
    layer = load_workload(write(tmp_path, TIMELOOP))[0]
    assert layer.name == "CNN-Layer"
    assert layer.shape() == (1, 2 * 55 * 27, 64, 3 * 55)
    assert layer.conv is not None
    assert (layer.conv.stride, layer.conv.dilation) == ((4, 1), (1, 2))
    assert (layer.conv.height, layer.conv.width) == (54 * 4 + 11, 26 + 9)


def test_timeloop_gemm(tmp_path: Path) -> None:
    assert load_workload(write(tmp_path, GEMM))[0].shape() == (1, 197, 2304, 768)
    text = "problem:" + GEMM.replace("\n", "\n  ").replace("instance: {", "").replace("}\n", "\n")
    flat = "problem:" + GEMM.split("instance")[0].replace("\n", "\n  ") + "M: 5\n  N: 6\n  K: 7\n"
    assert text != flat
    assert load_workload(write(tmp_path, flat))[0].shape() == (1, 5, 6, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no YAML"),
        ("3", "neither a ZigZag list of layers nor a Timeloop problem"),
        ("[]", "no layer in it"),
        ("[3]", "layer 0 is 3; it must be a mapping"),
        ("- {id: 0}", "layer 0: 'equation' is missing"),
        (CONV.replace("O[b][k][oy][ox]+=", ""), "is not of the form"),
        (CONV.replace("112, 112", "112"), "7 loop_dims have 6 loop_sizes"),
        (CONV.replace("112, 112", "112, 0"), "size of 'OX' is 0; it must be from 1"),
        (CONV.replace("112, 112", "112, x"), "size of 'OX' is 'x'; it must be a whole number"),
        (CONV.replace("FX]", "FZ]"), "loop 'fx' has no size"),
        (CONV.replace("ix=2*ox", "ix=2*"), "relation 'ix=2*+1*fx' is not of the form"),
        (CONV.replace("[3, 2], [3, 2]", "[3, 2]"), "must give a pair for each"),
        (CONV.replace("[3, 2], [3, 2]", "[3, 2], [3, -2]"), "must not be negative"),
        (CONV.replace("W[k][c]", "W[k][c][z]"), "loop 'z' has no size"),
        (TIMELOOP.replace("C: 3, ", ""), "dimension 'C' has no size"),
        (TIMELOOP.replace("[R, Wdilation]", "[R, W]"), "coefficient 'W' of a projection is not"),
        (TIMELOOP.replace("[R, Wdilation]", "[Wdilation]"), "must have exactly one dimension"),
        (TIMELOOP.replace("      read-write: True\n", ""), "0 written and 3 read data spaces"),
        (TIMELOOP.replace("R: 11", "R: -1"), "size of 'R' is -1"),
        ("problem: {shape: cnn}", "write the shape itself into the file"),
        ("problem: {instance: {}}", "'shape' is missing"),
        (GEMM.replace("[[[N]], [[K]]]", "[[[N]], [[K]], [[M]]]"), None),
        (GEMM.replace("[[[N]], [[K]]]", "[[[N]]]"), "loop 'K' indexes one operand only"),
    ],
)
def test_problem_errors(tmp_path: Path, text: str, message: str | None) -> None:
    path = write(tmp_path, text)
    if message is None:  # M in every operand: a batch of products, unusual and right
        assert load_workload(path)[0].shape() == (197, 1, 2304, 768)
        return
    with pytest.raises(InputError) as caught:
        load_workload(path)
    line = str(caught.value)
    assert message in line and line.startswith(str(path)) and "\n" not in line


def test_zigzag_products_that_cannot_be_read_are_missing(tmp_path: Path) -> None:
    names = "O[b]+=W[b][c]*I[b][c]*S[c]", "O[b][x][y][z]+=W[i][j][k]*I[b][p][q][r]"
    relations = "[p=x+i, q=y+j, r=z+k]"
    entries = "".join(
        f"- {{name: l{n}, equation: '{equation}', dimension_relations: {relations}, "
        "loop_dims: [B, C, X, Y, Z, I, J, K], loop_sizes: [2, 3, 4, 4, 4, 2, 2, 2]}\n"
        for n, equation in enumerate(names)
    )
    path = write(tmp_path, entries + CONV)
    workload = load_workload(path)
    assert [layer.name for layer in workload] == ["stem"]
    assert workload.missing == (
        f"{path}: l0: equation '{names[0]}' has more than two operands",
        f"{path}: l1: it slides along more than two axes; convolutions here have at most two",
    )
    with pytest.raises(InputError, match=r"no layer in it.*l0: equation"):
        load_workload(write(tmp_path, entries))


@pytest.mark.parametrize("name", ["a: [b]{c}", "x" * 300, "two  spaces", "tab\there", "\x1b[31m"])
def test_names_are_read_as_written(tmp_path: Path, name: str) -> None:
    quoted = '"' + name.encode("unicode_escape").decode() + '"'
    assert load_workload(write(tmp_path, CONV.replace("stem", quoted)))[0].name == name


PROBLEM_BASE = """
problem_base: &problem_base
  version: 0.4
  shape:
    name: CNN-Layer
    dimensions: [C, M, P]
    data_spaces:
    - {name: Weights, projection: [[[C]], [[M]]]}
    - {name: Inputs, projection: [[[P]], [[C]]]}
    - {name: Outputs, projection: [[[P]], [[M]]], read_write: True}
  instance: {C: 1, M: 1, P: 7}
"""
LAYER = """{{include_text('../base.yaml')}}
problem:
  <<<: *problem_base
  name: layer 3
  instance: {C: 16, M: 64}
"""


def write_problem(folder: Path, base: str = PROBLEM_BASE, layer: str = LAYER) -> Path:
    write(folder, base, "base.yaml")
    (folder / "net").mkdir(exist_ok=True)
    return write(folder / "net", layer)


def test_timeloop_includes_and_merges(tmp_path: Path) -> None:
    layer = load_workload(write_problem(tmp_path))[0]
    assert (layer.name, layer.shape()) == ("layer 3", (1, 7, 64, 16))


def test_timeloop_merges_at_one_level_only(tmp_path: Path) -> None:
    """With `<<`, the instance replaces the one of the base."""
    path = write_problem(tmp_path, layer=LAYER.replace("<<<", "<<"))
    with pytest.raises(InputError, match="dimension 'P' has no size"):
        load_workload(path)


def test_merged_lists_are_joined(tmp_path: Path) -> None:
    base = PROBLEM_BASE.replace("[C, M, P]", "[M, P]")
    layer = LAYER + "  shape: {dimensions: TAG[C]}\n"
    joined = load_workload(write_problem(tmp_path, base, layer.replace("TAG", "")))[0]
    assert joined.shape() == (1, 7, 64, 16)
    path = write_problem(tmp_path, base, layer.replace("TAG", "!nomerge "))
    with pytest.raises(InputError, match=r"term .* must have exactly one dimension"):
        load_workload(path)


def laughs(levels: int, line: str) -> str:
    """Each level refers to the one below ten times."""
    lines = ["l0: &l0 {C: 1}"]
    for level in range(1, levels):
        aliases = ", ".join([f"*l{level - 1}"] * 10)
        lines.append(f"l{level}: &l{level} " + line.replace("ALIASES", aliases))
    return "\n".join([*lines, "shape: *l1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(9, "[ALIASES]"), "more than 1048576 values, with all aliases written out"),
        (laughs(9, "{<<: [ALIASES]}"), "more than 1048576 values"),
        (laughs(9, "{<<<: [ALIASES]}"), "more than 1048576 values"),
        ("shape: &a [*a]", "an alias refers to a node that contains it"),
        ("shape: &a {<<: *a}", "an alias refers to a node that contains it"),
        ("shape: &a {x: {<<<: *a}}", "an alias refers to a node that contains it"),
        ("problem: {<<<: 3}", "'<<<' merges 3; it must be a mapping"),
        ("shape: " + "[" * 2000, "no YAML"),
        ("{{include_text('net.yaml')}}", "more than 64 files include each other"),
        ("{{include_text('other.yaml')}}", "which is no file there"),
        ("{{include_text('/etc/hosts.yaml')}}", "it must be a relative path of a YAML file"),
        ("{{include_text('../../etc/passwd')}}", "it must be a relative path of a YAML file"),
        ("{{include_text('..')}}", "it must be a relative path of a YAML file"),
        ("shape: {% if x %}", "of templates, only {{include_text('FILE.yaml')}} is read"),
        ("shape: {{include('a.yaml', 'b')}}", "not \"{{include('a.yaml', 'b')}}\""),
    ],
)
def test_hostile_yaml(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_workload(path)
    line = str(caught.value)
    assert message in line and line.startswith(str(path)) and "\n" not in line


def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(InputError, match=r'pip install "hfp8sim\[yaml\]"'):
        load_workload(write(tmp_path, CONV))
