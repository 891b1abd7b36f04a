"""The template of all HTML pages, page.html (jinja2): one self-contained file without network access."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from hfp8sim.errors import InputError, printable


def fill_page(**values: Any) -> str:
    """The page with the values that page.html names; `InputError` where jinja2 is missing."""
    page: str = _template().render(**values)
    return page


@functools.cache
def _template() -> Any:
    try:
        import jinja2
    except ImportError:
        raise InputError("HTML reports need jinja2: pip install 'hfp8sim[report]'") from None
    source = (resources.files(__package__) / "page.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_printable_text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(source)


def _printable_text(value: Any) -> Any:
    """A value of the page; HTML has no control codes, and drawings are no plain text."""
    return printable(value) if type(value) is str else value
