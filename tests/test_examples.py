"""The examples run, and the page on them lists each with its first sentence."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb"))


def load(name: str) -> Any:
    """An example as a module."""
    (path,) = (ROOT / "examples").glob(f"{name}_*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_are_numbered() -> None:
    numbers = [path.name.split("_")[0] for path in FILES]
    assert numbers == [f"{n:02}" for n in range(1, len(FILES) + 1)]


def test_page_lists_every_example_with_its_first_sentence() -> None:
    page = (ROOT / "docs" / "examples.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| `examples/(\S+?)` \| (.+?) \|$", page, re.M))
    assert set(listed) == {path.name for path in FILES}
    for path in FILES:
        if path.suffix == ".py":
            sentence = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]
            assert listed[path.name] == sentence


@pytest.mark.parametrize(
    ("name", "words"), [("01", "sum SQNR"), ("03", "mine  lowest SQNR"), ("04", "mine on edge-8x8")]
)
def test_example_runs(capsys: Any, monkeypatch: Any, name: str, words: str) -> None:
    monkeypatch.setattr("sys.argv", ["example"])
    load(name).main()
    assert words in capsys.readouterr().out


def test_example_of_onnx_weights(tmp_path: Path, capsys: Any) -> None:
    from tests.interop.test_onnx_weights import save

    load("05").main(str(save(tmp_path / "a.onnx")), str(tmp_path / "b.onnx"), "hfp8-143")
    assert "k: Operand(hfp8-143" in capsys.readouterr().out and (tmp_path / "b.onnx").exists()


def test_example_of_torch_tensors(capsys: Any) -> None:
    pytest.importorskip("torch")
    load("06").main()
    assert capsys.readouterr().out.splitlines() == [
        "(2, 4, 4, 4) True", "Operand(e4m3fn, shape=(2, 8, 6, 6)) True", "uint8 bfloat16",
    ]  # fmt: skip
