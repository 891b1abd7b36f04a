"""Problems of mappers, both in YAML: ZigZag's list of layers and Timeloop's problem.

ZigZag gives an equation, relations between its indices and loop sizes for each layer. Timeloop gives a
shape with projections and an instance with sizes. Both are loop nests, see `nests`. The reader needs the
extra `yaml`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError, located, one_line
from hfp8sim.network.records import MAX_SIZE, Layer, Workload, distinct
from hfp8sim.workloads.readers.nests import Index, layer_of_nest
from hfp8sim.workloads.readers.yaml_files import load_yaml


def load_problem(path: str | os.PathLike[str]) -> Workload:
    """Read a ZigZag workload, which is a list, or a Timeloop problem, which is a mapping, from a YAML file.

    Layers that are no product of weights and inputs, such as pooling and additions, are skipped with a
    warning. Products that are no layer here, such as convolutions along three axes, are in `missing`.
    Raises `InputError`, in one line, for a file that is neither, and for a size out of range.
    """
    source = Path(path)
    document = load_yaml(source)
    warnings: list[str] = []
    missing: list[str] = []
    with located(source):
        if isinstance(document, list):
            layers = _zigzag(document, warnings, missing)
            kind = "ZigZag workload"
        elif isinstance(document, dict) and ("problem" in document or "shape" in document):
            layers = [_timeloop(document.get("problem", document))]
            kind = "Timeloop problem"
        else:
            raise InputError("neither a ZigZag list of layers nor a Timeloop problem")
        if not layers:
            reason = f"; {missing[0]}" if missing else ""
            raise InputError(
                f"no layer in it; at least one must be a product of weights and inputs{reason}"
            )
        names = distinct(layer.name for layer in layers)
        renamed = [layer.replace(name=name) for layer, name in zip(layers, names, strict=True)]
    return Workload(
        source.stem,
        tuple(renamed),
        (f"{kind} {source}",),
        tuple(f"{source}: {warning}" for warning in warnings),
        tuple(f"{source}: {product}" for product in missing),
    )


def _size(label: str, value: Any) -> int:
    """`value` if it is a size; `InputError` names it by `label`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{label} is {value!r:.60}; it must be a whole number")
    if not 1 <= value <= MAX_SIZE:
        raise InputError(f"{label} is {value}; it must be from 1 to {MAX_SIZE}")
    return value


def _list(record: Mapping[Any, Any], key: str, default: list[Any] | None = None) -> list[Any]:
    """The list at `key`; `InputError` if it is missing without a default, or no list."""
    value = record.get(key, default)
    if not isinstance(value, list):
        raise InputError(f"{key!r} is missing" if value is None else f"{key!r} must be a list")
    return value


# --- ZigZag -----------------------------------------------------------------------------------------

_OPERAND = re.compile(r"(\w+)((?:\[\w+\])+)")
_TERM = re.compile(r"(?:(\d+)\*)?([A-Za-z_]\w*)")


def _zigzag(entries: list[Any], warnings: list[str], missing: list[str]) -> list[Layer]:
    layers = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"layer {position} is {entry!r:.60}; it must be a mapping")
        label = entry.get("name", entry.get("id", position))
        name = label if isinstance(label, str) and label.strip() else f"layer {label!r:.60}"
        place = one_line(name, 60)
        try:
            with located(place):
                layers.append(_zigzag_layer(name, entry))
        except _NoProduct as reason:
            warnings.append(f"{place}: {reason}; skipped")
        except _Unreadable as reason:
            missing.append(f"{place}: {reason}")
    return layers


class _NoProduct(Exception):
    """The layer is no product of weights and inputs; the text is the reason."""


class _Unreadable(Exception):
    """The layer is a product of which no layer can be made here; the text is the reason."""


def _zigzag_layer(name: str, entry: Mapping[str, Any]) -> Layer:
    equation = entry.get("equation")
    if not isinstance(equation, str):
        raise InputError("'equation' is missing")
    operator = str(entry.get("operator_type", ""))
    if re.search("pool|^add", operator, re.IGNORECASE):
        raise _NoProduct(f"operator {operator!r:.60} is no matrix product")
    sizes = _zigzag_sizes(entry)
    relations = _relations(_list(entry, "dimension_relations", []))
    out, operands = _equation(equation)
    if len(operands) < 2:
        raise _NoProduct(f"equation {equation!r:.80} has one operand")
    if len(operands) > 2:
        raise _Unreadable(f"equation {equation!r:.80} has more than two operands")
    weights, inputs = _weights_and_inputs(operands, relations, entry)

    def indices(subscripts: list[str]) -> list[Index]:
        result = [relations.get(name, ((name, 1),)) for name in subscripts]
        for loop in (loop for index in result for loop, _ in index):
            if loop not in sizes:
                raise InputError(f"loop {loop!r} has no size; loop_dims gives {', '.join(sizes)}")
        return result

    padding = _zigzag_padding(entry, relations)
    nest = indices(weights), indices(inputs), indices(out), padding
    try:
        return layer_of_nest(name, sizes, *nest)
    except InputError as error:
        raise _Unreadable(str(error)) from None


def _zigzag_sizes(entry: Mapping[str, Any]) -> dict[str, int]:
    dims, sizes = _list(entry, "loop_dims"), _list(entry, "loop_sizes")
    if len(dims) != len(sizes):
        raise InputError(f"{len(dims)} loop_dims have {len(sizes)} loop_sizes")
    return {
        str(dim).lower(): _size(f"size of {dim!r:.40}", size)
        for dim, size in zip(dims, sizes, strict=True)
    }


def _relations(texts: list[Any]) -> dict[str, Index]:
    """`ix=2*ox+1*fx` as `{"ix": (("ox", 2), ("fx", 1))}`."""
    relations: dict[str, Index] = {}
    for text in texts:
        left, equals, right = str(text).replace(" ", "").lower().partition("=")
        terms = [_TERM.fullmatch(term) for term in right.split("+")]
        if not equals or not all(terms):
            raise InputError(f"relation {text!r:.80} is not of the form 'ix=2*ox+1*fx'")
        index = tuple((t[2], _size("a coefficient", int(t[1] or 1))) for t in terms if t)
        relations[left] = index
    return relations


def _equation(text: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Loops of the output, and names and loops of the operands."""
    left, _, right = text.replace(" ", "").partition("=")
    output = _OPERAND.fullmatch(left.rstrip("+"))
    operands = [_OPERAND.fullmatch(part) for part in right.split("*")]
    if not output or not right or not all(operands):
        raise InputError(f"equation {text!r:.80} is not of the form 'O[b][k]+=W[k][c]*I[b][c]'")
    return _subscripts(output[2]), [(m[1], _subscripts(m[2])) for m in operands if m]


def _subscripts(text: str) -> list[str]:
    return [loop.lower() for loop in re.findall(r"\[(\w+)\]", text)]


def _weights_and_inputs(
    operands: list[tuple[str, list[str]]], relations: Mapping[str, Index], entry: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """(loops of the weights, loops of the inputs).

    An operand with a relation, that is with a sliding window, is the input. Otherwise the operand that is
    called W, or that `constant_operands` names, is the weight.
    """
    (first, a), (second, b) = operands
    if any(loop in relations for loop in a + b):
        return (b, a) if any(loop in relations for loop in a) else (a, b)
    constant = entry.get("constant_operands")
    weight = "W" if "W" in (first, second) else None
    if weight is None and isinstance(constant, list) and len(constant) == 1:
        weight = str(constant[0])
    return (a, b) if first == weight else (b, a)


def _zigzag_padding(
    entry: Mapping[str, Any], relations: Mapping[str, Index]
) -> dict[str, tuple[int, int]]:
    """(before, after) of each output loop. The list `padding` has the order of `pr_loop_dims`."""
    dims, pairs = entry.get("pr_loop_dims"), entry.get("padding")
    if dims is None or pairs is None:
        return {}
    if not isinstance(dims, list) or not isinstance(pairs, list) or len(dims) != len(pairs):
        raise InputError("'padding' must give a pair for each of 'pr_loop_dims'")
    padding = {}
    for dim, pair in zip(dims, pairs, strict=True):
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(p) is int for p in pair):
            raise InputError(
                f"padding of {dim!r:.40} is {pair!r:.60}; it must be two whole numbers"
            )
        if not all(0 <= p <= MAX_SIZE for p in pair):
            raise InputError(f"padding of {dim!r:.40} is {pair!r:.60}; it must not be negative")
        for loop, _ in relations.get(str(dim).lower(), ()):
            padding[loop] = (pair[0], pair[1])
    return padding


# --- Timeloop ---------------------------------------------------------------------------------------


def _timeloop(problem: Any) -> Layer:
    """The layer of a problem's shape and instance."""
    if not isinstance(problem, dict):
        raise InputError(f"'problem' is {problem!r:.60}; it must be a mapping")
    shape = problem.get("shape")
    if isinstance(shape, str):
        raise InputError(f"shape {shape!r:.60} is a name; write the shape itself into the file")
    if not isinstance(shape, dict):
        raise InputError("'shape' is missing; a problem has a shape and an instance")
    instance = problem.get("instance", problem)
    if not isinstance(instance, dict):
        raise InputError("'instance' must be a mapping of sizes")
    sizes = _timeloop_sizes(shape, instance)
    operands, out = _data_spaces(shape, sizes, _coefficients(shape, instance))
    (first, a), (_, b) = operands
    if any(len(index) > 1 for index in a):
        inputs, weights = a, b
    elif any(len(index) > 1 for index in b) or first.lower().startswith("w"):
        inputs, weights = b, a
    else:
        inputs, weights = a, b
    named = [owner.get("name") for owner in (problem, shape)]
    name = next((name for name in named if isinstance(name, str) and name.strip()), "problem")
    return layer_of_nest(name, sizes, weights, inputs, out)


def _timeloop_sizes(shape: Mapping[str, Any], instance: Mapping[str, Any]) -> dict[str, int]:
    """The size of each dimension."""
    sizes = {}
    for dim in map(str, _list(shape, "dimensions")):
        if dim not in instance:
            raise InputError(f"dimension {dim!r:.40} has no size in the instance")
        sizes[dim] = _size(f"size of {dim!r:.40}", instance[dim])
    return sizes


def _data_spaces(
    shape: Mapping[str, Any], sizes: Mapping[str, int], coefficients: Mapping[str, int]
) -> tuple[list[tuple[str, list[Index]]], list[Index]]:
    """(name and indices of the two operands, indices of the result)."""
    read: list[tuple[str, list[Index]]] = []
    written: list[list[Index]] = []
    for space in _list(shape, "data_spaces" if "data_spaces" in shape else "data-spaces"):
        if not isinstance(space, dict):
            raise InputError(f"data space {space!r:.60} must be a mapping")
        indices = [_index(index, sizes, coefficients) for index in _list(space, "projection")]
        if space.get("read_write", space.get("read-write", False)):
            written.append(indices)
        else:
            read.append((str(space.get("name", "")), indices))
    if len(written) != 1 or len(read) != 2:
        raise InputError(
            f"{len(written)} written and {len(read)} read data spaces; a product has 1 and 2"
        )
    return read, written[0]


def _coefficients(shape: Mapping[str, Any], instance: Mapping[str, Any]) -> dict[str, int]:
    """The value of each coefficient: the instance's, else its default, else 1."""
    values = {}
    for record in _list(shape, "coefficients", []):
        if not isinstance(record, dict) or "name" not in record:
            raise InputError(f"coefficient {record!r:.60} must be a mapping with a name")
        name = str(record["name"])
        value = instance.get(name, record.get("default", 1))
        values[name] = _size(f"coefficient {name!r:.40}", value)
    return values


def _index(index: Any, sizes: Mapping[str, int], coefficients: Mapping[str, int]) -> Index:
    """The index of a sum of products such as `[[R, Wdilation], [P, Wstride]]`, or of a single name."""
    terms = index if isinstance(index, list) else [index]
    result = []
    for term in terms:
        parts = [str(part) for part in (term if isinstance(term, list) else [term])]
        loops = [part for part in parts if part in sizes]
        factors = [part for part in parts if part not in sizes]
        if len(loops) != 1:
            raise InputError(f"term {term!r:.60} of a projection must have exactly one dimension")
        value = 1
        for factor in factors:
            if factor not in coefficients:
                raise InputError(f"coefficient {factor!r:.40} of a projection is not declared")
            value *= coefficients[factor]
        result.append((loops[0], value))
    return tuple(result)
