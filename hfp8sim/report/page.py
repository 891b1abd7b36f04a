"""The templates of all HTML pages (jinja2): each page is one self-contained file without network access.

`report/page.html` has the style of all pages. A template of another room extends it.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from hfp8sim.errors import InputError, printable


def fill_page(template: str = "report/page.html", **values: Any) -> str:
    """The page with the values that the template names; `InputError` where jinja2 is missing.

    Args:
        template: its path in the package.
    """
    page: str = _templates().get_template(template).render(**values)
    return page


@functools.cache
def _templates() -> Any:
    try:
        import jinja2
    except ImportError:
        raise InputError("HTML reports need jinja2: pip install 'hfp8sim[report]'") from None
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(
            lambda path: (resources.files("hfp8sim") / path).read_text("utf-8")
        ),
        autoescape=True,
        finalize=_printable_text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _printable_text(value: Any) -> Any:
    """A value of the page; HTML has no control codes, and drawings are no plain text."""
    return printable(value) if type(value) is str else value
