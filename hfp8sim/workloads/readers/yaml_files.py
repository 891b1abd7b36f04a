"""YAML files: parsed safely, within bounds, with what Timeloop's own front end adds to YAML.

- `{{include_text('other.yaml')}}` is replaced by the text of that file. The path is relative to the file.
- `<<: *x` copies the keys of x that a mapping does not have; it is part of YAML 1.1.
- `<<<: *x` does the same for nested mappings, too, and joins lists: first the mapping's own, then those of x.
  The tag `!nomerge` before a list keeps it as it is.

Other tags are ignored. The reader needs the extra `yaml`.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError, one_line
from hfp8sim.workloads.readers.csv_rows import read_text

#: Bounds of a document: characters of all its files, files, and nodes if every alias is written out.
MAX_CHARACTERS, MAX_FILES, MAX_NODES = 1 << 24, 64, 1 << 20

_INCLUDE = re.compile(r"""\{\{\s*include_text\(\s*(['"])(?P<path>[^'"\n]*)\1\s*\)\s*\}\}""")
_TEMPLATE = re.compile(r"\{\{.*|\{%.*")
_MERGE = "<<<"


class _OwnList(list):  # type: ignore[type-arg]
    """A list with the tag `!nomerge`."""


def load_yaml(source: Path) -> Any:
    """The document of a file: mappings, lists, texts and numbers.

    Raises `InputError` of one line for a file that is no YAML or beyond the bounds, and without the extra.
    """
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise InputError('reading YAML needs an extra: pip install "hfp8sim[yaml]"') from None
    text = _Includes().text(source)
    try:
        loader = _loader(yaml)(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(yaml, node)
        return _merged(loader.construct_document(node))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        template = _TEMPLATE.search(text)
        known = "of templates, only {{include_text('FILE.yaml')}} is read, not "
        reason = known + one_line(repr(template[0]), 60) if template else one_line(error)
        raise InputError(f"{source}: no YAML: {reason}") from None


class _Includes:
    """Replaces includes by the texts of files, as many and as long as the bounds allow."""

    def __init__(self) -> None:
        self._files = self._characters = 0

    def text(self, path: Path) -> str:
        """The text of a file with all its includes."""
        self._files += 1
        if self._files > MAX_FILES:
            raise InputError(f"{path}: more than {MAX_FILES} files include each other")
        text = read_text(path)
        self._characters += len(text)
        if self._characters > MAX_CHARACTERS:
            raise InputError(f"{path}: more than {MAX_CHARACTERS} characters of YAML")
        return _INCLUDE.sub(lambda match: self._included(path, match["path"]), text)

    def _included(self, path: Path, name: str) -> str:
        relative = Path(name)
        if relative.is_absolute() or relative.suffix.lower() not in (".yaml", ".yml"):
            raise InputError(
                f"{path}: includes {name!r:.80}; it must be a relative path of a YAML file"
            )
        target = path.parent / relative
        try:
            regular = target.is_file()
        except (OSError, ValueError):
            regular = False
        if not regular:
            raise InputError(f"{path}: includes {name!r:.80}, which is no file there")
        return self.text(target)


def _loader(yaml: Any) -> Any:
    """The safe loader, which here ignores tags such as `!Problem`."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    def untagged(loader: Any, tag: str, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            items = loader.construct_sequence(node, deep=True)
            return _OwnList(items) if tag == "nomerge" else items
        return loader.construct_scalar(node)

    Loader.add_multi_constructor("!", untagged)
    return Loader


def _check_size(yaml: Any, root: Any) -> None:
    """`InputError` if the document is too large once every alias is written out, or contains itself."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in open_nodes:
            raise InputError("an alias refers to a node that contains it")
        open_nodes.add(id(node))
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        total = 1
        for child in children:
            total += sum(map(size, child)) if isinstance(child, tuple) else size(child)
        open_nodes.discard(id(node))
        sizes[id(node)] = total
        return total

    if size(root) > MAX_NODES:
        raise InputError(f"more than {MAX_NODES} values, with all aliases written out")


def _merged(value: Any) -> Any:
    """The value with all keys `<<<` replaced by what they merge."""
    if isinstance(value, list):
        return type(value)(map(_merged, value))
    if not isinstance(value, dict):
        return value
    own = {key: _merged(item) for key, item in value.items() if key != _MERGE}
    if _MERGE in value:
        bases = value[_MERGE]
        for base in bases if isinstance(bases, list) else [bases]:
            if not isinstance(base, dict):
                raise InputError(f"'<<<' merges {base!r:.60}; it must be a mapping")
            own = _union(own, _merged(base))
    return own


def _union(first: Any, second: Any) -> Any:
    """`first`, completed by `second`."""
    if isinstance(first, dict) and isinstance(second, dict):
        both = {key: _union(first[key], second[key]) for key in first if key in second}
        return {**second, **first, **both}
    if isinstance(first, list) and isinstance(second, list) and not isinstance(first, _OwnList):
        return first + second
    return first
