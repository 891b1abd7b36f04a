"""Constraints of a sweep: expressions over the keys of a point.

An expression has numbers, texts, keys, `+ - * / // %`, comparisons, `in`, `and`, `or` and `not`. A key that the
sweep does not vary has the value of the point's profile or machine.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from hfp8sim.errors import InputError, unknown
from hfp8sim.sweeps.keys import all_keys
from hfp8sim.units.profile import FIELDS

#: A constraint that a caller gives: whether to keep the point with these values.
Predicate = Callable[[Mapping[str, Any]], object]

_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip


class Constraint:
    """An expression that holds for the points to keep.

    Raises:
        InputError: a text that is no such expression, or an unknown key.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError):
            raise InputError(f"where {text!r}: no expression, as in chunk_length <= 64") from None
        self._check(self._tree)

    def __call__(self, lookup: Callable[[str], Any]) -> bool:
        """Whether the expression holds for a point, whose value of a key is `lookup(key)`."""
        try:
            return bool(self._value(self._tree, lookup))
        except (TypeError, ZeroDivisionError) as error:
            raise InputError(f"where {self.text!r}: {error}") from None

    def _check(self, node: ast.AST) -> None:
        """`InputError` for a part that expressions do not have."""
        if isinstance(node, ast.Name | ast.Attribute):
            key = full_key(_dotted(node))
            if key not in all_keys():
                with_prefix = unknown("key", _dotted(node), [*all_keys(), *FIELDS])
                raise InputError(f"where {self.text!r}: {with_prefix}")
            return
        parts: list[ast.AST] = []
        if isinstance(node, ast.BoolOp):
            parts = [*node.values]
        elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            parts = [node.left, node.right]
        elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            parts = [node.operand]
        elif isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.List | ast.Tuple):
            parts = [*node.elts]
        elif not (
            isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str)
        ):
            raise InputError(
                f"where {self.text!r}: {ast.unparse(node)!r} is not allowed; write keys, numbers, texts, "
                "+ - * / // %, comparisons, in, and, or, not"
            )  # fmt: skip
        for part in parts:
            self._check(part)

    def _value(self, node: ast.AST, lookup: Callable[[str], Any]) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.List | ast.Tuple):
            return [self._value(item, lookup) for item in node.elts]
        if isinstance(node, ast.BoolOp):
            values = (self._value(item, lookup) for item in node.values)
            return all(values) if isinstance(node.op, ast.And) else any(values)
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left, lookup), self._value(node.right, lookup)
            return _BINARY[type(node.op)](left, right)
        if isinstance(node, ast.UnaryOp):
            return _UNARY[type(node.op)](self._value(node.operand, lookup))
        if isinstance(node, ast.Compare):
            left = self._value(node.left, lookup)
            for op, comparator in zip(node.ops, node.comparators, strict=True):
                right = self._value(comparator, lookup)
                if not _COMPARE[type(op)](left, right):
                    return False
                left = right
            return True
        return lookup(full_key(_dotted(node)))


def full_key(name: str) -> str:
    """A key, of which a profile's field can leave out `profile.`."""
    return f"profile.{name}" if name in FIELDS and name not in all_keys() else name


def _dotted(node: ast.AST) -> str:
    """The dotted name that a chain of attributes spells."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)
