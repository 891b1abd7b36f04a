"""Results as JUnit XML, which continuous integration servers show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

from hfp8sim.files import write_text
from hfp8sim.verify.check import Result


def write_junit(
    path: str | Path,
    suite: str,
    results: Iterable[tuple[str, Result]],
    properties: Mapping[str, str] | None = None,
) -> Path:
    """Write a test suite with one test case for each result; it fails where the result differed."""
    rows = list(results)
    failures = sum(bool(result.differed) for _, result in rows)
    root = ElementTree.Element(
        "testsuite", name=suite, tests=str(len(rows)), failures=str(failures), errors="0"
    )
    listed = ElementTree.SubElement(root, "properties")
    for name, value in (properties or {}).items():
        ElementTree.SubElement(listed, "property", name=name, value=value)
    for name, result in rows:
        case = ElementTree.SubElement(root, "testcase", classname=suite, name=name)
        if result.differed:
            message = f"{result.differed} of {result.tried} differ"
            ElementTree.SubElement(case, "failure", message=message).text = result.first
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')
