"""Each extra without the others: a process that can import the package's own requirements and one extra's alone."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {
    name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name != "dev"
}

#: Hides every top-level module that is in no allowed distribution. `sys.argv[1]` has the hidden names.
HIDE = """
import importlib.machinery, sys
hidden = set(sys.argv.pop(1).split(","))
find = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in hidden else find(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
"""

#: What each extra is for, as code. It may use nothing else that is optional.
USES = {
    "": """
        import numpy as np, hfp8sim as hs
        x = np.ones((4, 4), np.float32)
        fmt = hs.get_format("hfp8-143")
        assert fmt.decode(fmt.encode(x)).sum() == 16
        report = hs.simulate("digits-cnn", time_only=True)
        assert report.to_csv() and report.to_json() and str(report)
        hs.load_safetensors(hs.save_safetensors("a.safetensors", {"x": x}))
        open("no.onnx", "wb").write(b"x")
        for call, words in (
            (report.to_html, "hfp8sim[report]"), (lambda: hs.load_workload("no.onnx"), "hfp8sim[onnx]"),
            (hs.Operand(np.zeros(1, np.uint8), "e5m2").to_torch, "hfp8sim[torch]"),
        ):
            try: call()
            except hs.InputError as error: assert words in str(error), error
            else: raise AssertionError(words)
        """,
    "onnx": """
        import onnx
        from onnx import helper, TensorProto as T, numpy_helper
        import numpy as np, hfp8sim as hs
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
            [helper.make_tensor_value_info("x", T.FLOAT, (2, 3))], [helper.make_tensor_value_info("y", T.FLOAT, (2, 4))],
            [numpy_helper.from_array(np.ones((3, 4), np.float32), "w")])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), "a.onnx")
        hs.quantise_onnx("a.onnx", "b.onnx", "hfp8-143")
        assert hs.load_workload("b.onnx")[0].n == 4
        """,
    "torch": """
        import torch, hfp8sim as hs
        from hfp8sim.workloads import capture
        net = torch.nn.Linear(3, 2)
        work = capture(net, torch.ones(4, 3), lambda y: y.sum())
        assert work[0].k == 3
        import hfp8sim.training
        from hfp8sim.training.data import load_data
        assert load_data("digits").classes == 10
        """,
    "report": """
        import hfp8sim as hs
        assert "</html>" in hs.simulate("digits-cnn", time_only=True).to_html()
        """,
    "yaml": """
        from pathlib import Path
        from hfp8sim.workloads.readers.yaml_files import load_yaml
        Path("a.yaml").write_text("a: [1, 2]")
        assert load_yaml(Path("a.yaml")) == {"a": [1, 2]}
        """,
    "dask": """
        import distributed, hfp8sim as hs
        settings = {"fixed": {"time_only": True}, "vary": {"machine.array.rows": [4, 8]}}
        with distributed.Client(n_workers=1, processes=False, dashboard_address=None) as client:
            result = hs.sweep("digits-cnn", executor=client, **settings)
        assert result.failed == 0 and result.to_csv() == hs.sweep("digits-cnn", **settings).to_csv()
        """,
    "frames": """
        import hfp8sim as hs
        result = hs.sweep("digits-cnn", fixed={"time_only": True})
        assert result.to_frame("pandas")["cycles"][0] == result.rows[0]["cycles"]
        result.to_parquet("points.parquet")
        """,
    "dtypes": """
        import numpy as np, hfp8sim as hs
        codes = hs.Operand(np.zeros(3, np.uint8), "e4m3fn").to_numpy()
        assert hs.get_format(codes.dtype).name == "e4m3fn"
        """,
}  # fmt: skip


def requirements(texts: list[str]) -> set[str]:
    """The distributions that requirements need, with theirs, by normalised name; absent ones are left out."""
    found: set[str] = set()
    waiting = [(text, "") for text in texts]
    while waiting:
        text, extra = waiting.pop()
        requirement, _, marker = text.partition(";")
        if "extra" in marker and (not extra or f'"{extra}"' not in marker.replace("'", '"')):
            continue
        name = normalised(re.match(r"[\w.-]+", requirement.strip())[0])  # type: ignore[index]
        inner = re.search(r"\[([^\]]*)\]", requirement)
        extras = [e.strip() for e in inner[1].split(",")] if inner else [""]
        for each in extras:
            if f"{name}[{each}]" in found:
                continue
            try:
                needed = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            found |= {name, f"{name}[{each}]"}
            waiting += [(text, each) for text in needed]
    return {name for name in found if "[" not in name}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def hidden_modules(allowed: set[str]) -> set[str]:
    """Top-level modules of installed distributions that are in none of the allowed ones."""
    owners = importlib.metadata.packages_distributions()
    return {
        module
        for module, names in owners.items()
        if module not in ("hfp8sim", "tests", "docs", "benchmarks") and not {normalised(n) for n in names} & allowed
    }  # fmt: skip


def test_every_extra_is_used() -> None:
    assert set(USES) == {"", *EXTRAS} - {"all"}


def test_all_is_every_extra() -> None:
    (text,) = EXTRAS["all"]
    assert text.startswith("hfp8sim[")
    assert set(text.removeprefix("hfp8sim[").rstrip("]").split(",")) == set(EXTRAS) - {"all"}


@pytest.mark.parametrize("extra", USES)
def test_extra_works_without_the_others(tmp_path: Path, extra: str) -> None:
    wanted = EXTRAS.get(extra, [])
    for text in wanted:
        name = re.match(r"[\w.-]+", text)[0]  # type: ignore[index]
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
    allowed = requirements([*PROJECT["dependencies"], *wanted])
    hidden = hidden_modules(allowed)
    assert len({"onnx", "torch", "jinja2", "yaml", "dask", "ml_dtypes"} & hidden) >= 2
    code = HIDE + textwrap.dedent(USES[extra])
    command = [sys.executable, "-c", code, ",".join(sorted(hidden))]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
