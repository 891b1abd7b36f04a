"""Hooks of the site's build: what the theme would load from the network comes with the site."""

from __future__ import annotations

from typing import Any

from mkdocs.utils import get_relative_url

#: With it, search works in pages that are opened from the disk.
_SHIM, _LOCAL_SHIM = "https://unpkg.com/iframe-worker/shim", "js/iframe-worker-shim.js"


def on_post_page(output: str, page: Any, config: Any) -> str:
    """A page with the address of the script in the site."""
    return output.replace(_SHIM, get_relative_url(_LOCAL_SHIM, page.url))


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """The same for pages without a source, such as 404.html."""
    return output_content.replace(_SHIM, _LOCAL_SHIM)
