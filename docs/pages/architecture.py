"""The generated parts of docs/architecture.md: the extensions of tests/test_architecture.py, as they are run."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

from docs.pages.markdown import filled

PAGE = Path(__file__).parents[1] / "architecture.md"
TESTS = PAGE.parents[1] / "tests" / "test_architecture.py"


def page() -> str:
    """The page with the code of today."""
    return filled(
        PAGE.read_text("utf-8"), reader=body("test_new_reader"), model=body("test_new_time_model")
    )


def body(function: str) -> str:
    """The body of a test function as a block of Markdown."""
    text = TESTS.read_text("utf-8")
    node = next(
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    lines = text.splitlines()[node.body[0].lineno - 1 : node.end_lineno]
    code = textwrap.dedent("\n".join(lines))
    return f"```python\n{code}\n```\n"
