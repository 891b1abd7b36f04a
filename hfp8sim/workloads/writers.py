"""Writers of files: SCALE-Sim's two lists and the native trace, chosen by the target's ending.

The lists are what SCALE-Sim itself reads: one image, one stride, no groups, sizes that include the
padding. Each group is therefore a row of its own. The size of a convolution is the extent that its filter
covers, (P − 1)·stride + R. SCALE-Sim's ⌈(H − R + s)/s⌉ then gives P, and the list has exactly the
workload's multiply-accumulates. A workload that a list has no columns for is refused. A trace holds every
workload.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hfp8sim.errors import InputError, unknown
from hfp8sim.files import write_text
from hfp8sim.network.records import Conv, Layer, Workload, check_phases
from hfp8sim.workloads.readers.trace import save_trace

#: Rows that a list may have. Every group is a row, so that a batched product can give millions.
MAX_ROWS = 100_000

#: Name and sizes of a row.
Line = tuple[str, tuple[int, ...]]

_GEMM_TITLES = ("Layer", "M", "N", "K")
_CONV_TITLES = (
    "Layer name", "IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width", "Channels",
    "Num Filter", "Strides",
)  # fmt: skip


def save_gemm_csv(
    path: str | os.PathLike[str], workload: Workload, phases: Iterable[str] = ("fwd",)
) -> int:
    """Write SCALE-Sim's GEMM list, a row for each product of each layer's `phases`.

    With more than one phase, a row's name is the layer's followed by the phase.

    Returns the number of rows. Raises `InputError`, and keeps an old file, if no layer has such a phase or
    the list would have more than `MAX_ROWS` rows.
    """
    return _write(path, _GEMM_TITLES, _products(workload, tuple(phases)))


def save_conv_csv(path: str | os.PathLike[str], workload: Workload) -> int:
    """Write SCALE-Sim's convolution list of the forward pass.

    A depthwise layer is one row whose name starts with `DP`. A product that is no convolution is written
    as one of a 1×1 filter over M×1 pixels.

    Returns the number of rows. Raises `InputError` for what the list has no column for: batches, dilation,
    strides that differ between the axes. A GEMM list takes those.
    """
    return _write(path, _CONV_TITLES, _convolutions(workload))


def _products(workload: Workload, phases: tuple[str, ...]) -> Iterator[Line]:
    for phase in phases:
        for layer in workload:
            shape = layer.shape(phase)
            if phase in layer.phases:
                name = layer.name if len(phases) == 1 else f"{layer.name} {phase}"
                yield from _grouped(name, shape.groups, (shape.m, shape.n, shape.k))


def _convolutions(workload: Workload) -> Iterator[Line]:
    for layer in workload:
        name = layer.name.replace("DP", "D_P")  # any name with DP is depthwise to SCALE-Sim
        if layer.conv is None:
            shape = layer.shape()
            yield from _grouped(name, shape.groups, (shape.m, 1, 1, 1, shape.k, shape.n, 1))
        else:
            yield from _convolution(layer, name, layer.conv)


def _convolution(layer: Layer, name: str, conv: Conv) -> Iterator[Line]:
    if feature := _unsupported(conv):
        raise InputError(
            f"layer {layer.name!r} has {feature}; SCALE-Sim's convolution list has no column for it; "
            "a GEMM list takes it (--as gemm, kind='gemm')"
        )
    (stride, _), kernel = conv.stride, conv.kernel
    extents = [(out - 1) * stride + size for out, size in zip(conv.output, kernel, strict=True)]
    channels, filters = conv.channels // conv.groups, conv.filters // conv.groups
    if conv.depthwise:  # SCALE-Sim: C layers of one channel, each with all of the row's filters
        yield f"DP_{name}", (*extents, *kernel, conv.groups, filters, stride)
    else:
        yield from _grouped(name, conv.groups, (*extents, *kernel, channels, filters, stride))


def _unsupported(conv: Conv) -> str:
    """The feature that SCALE-Sim's convolution list has no column for, in words; "" if there is none."""
    for feature, value, default in (
        ("a batch of", conv.batch, 1),
        ("dilation", conv.dilation, (1, 1)),
        ("stride", conv.stride, (conv.stride[0],) * 2),
    ):
        if value != default:
            return f"{feature} {value}"
    return ""


def _grouped(name: str, groups: int, sizes: tuple[int, ...]) -> Iterator[Line]:
    """One row, or a row for each of several groups, numbered from 1."""
    if groups == 1:
        yield name, sizes
    else:
        yield from ((f"{name}.{group}", sizes) for group in range(1, groups + 1))


def _write(path: str | os.PathLike[str], titles: tuple[str, ...], lines: Iterable[Line]) -> int:
    """Write titles and rows, each with the final comma that SCALE-Sim requires; returns the rows' number."""
    rows, names = [titles], set[str]()
    for name, sizes in lines:
        if len(rows) > MAX_ROWS:
            raise InputError(
                f"{path}: more than {MAX_ROWS} rows, since every group is one; a trace (.npz) keeps "
                "groups together"
            )
        rows.append((_unique(_cell(name), names), *map(str, sizes)))
    if len(rows) == 1:
        raise InputError(f"{path}: nothing to write; no layer has such a phase")
    write_text(Path(path), "".join(", ".join(row) + ",\n" for row in rows))
    return len(rows) - 1


def _cell(name: str) -> str:
    """The name without separators, comment marks, quotes and unprintable characters."""
    printable = "".join("_" if c in ',;#"' or not c.isprintable() else c for c in name)
    return " ".join(printable.split()) or "layer"


def _unique(name: str, names: set[str]) -> str:
    """The name, followed by the first number that makes it differ from all `names`; added to them."""
    unique, count = name, 1
    while unique in names:
        count += 1
        unique = f"{name}_{count}"
    names.add(unique)
    return unique


# --- the table of writers ---------------------------------------------------------------------------


def _write_trace(path: Path, workload: Workload, phases: tuple[str, ...] | None) -> str:
    if phases is not None:
        workload = _restricted(workload, phases)
    save_trace(path, workload)
    tensors = sum(len(layer.tensors) for layer in workload)
    return f"trace of {len(workload)} layers with {tensors or 'no'} tensors"


def _restricted(workload: Workload, phases: tuple[str, ...]) -> Workload:
    """The workload with the given phases alone; layers that have none of them are left out."""
    common = ((layer, [p for p in layer.phases if p in phases]) for layer in workload)
    layers = tuple(layer.replace(phases=tuple(ps)) for layer, ps in common if ps)
    return dataclasses.replace(workload, layers=layers)


def _write_conv_list(path: Path, workload: Workload, phases: tuple[str, ...] | None) -> str:
    if phases not in (None, ("fwd",)):
        raise InputError(
            f"{path}: a convolution list has the forward pass only; a GEMM list has all"
        )
    return f"convolution list of {save_conv_csv(path, workload)} rows"


def _write_gemm_list(path: Path, workload: Workload, phases: tuple[str, ...] | None) -> str:
    return f"GEMM list of {save_gemm_csv(path, workload, phases or ('fwd',))} rows"


class Writer(NamedTuple):
    """One kind of file that `save_workload` writes."""

    suffixes: tuple[str, ...]  #: endings of such files; "" is a directory
    #: (path, workload, phases or None) to a description of what was written
    write: Callable[[Path, Workload, tuple[str, ...] | None], str]


#: Kinds of file: the native trace, SCALE-Sim's convolution list and its GEMM list.
WRITERS = {
    "trace": Writer((".npz", ""), _write_trace),
    "conv": Writer((".csv",), _write_conv_list),
    "gemm": Writer((".csv",), _write_gemm_list),
}


def save_workload(
    path: str | os.PathLike[str],
    workload: Workload,
    kind: str | None = None,
    phases: Iterable[str] | None = None,
) -> str:
    """Write a workload to a file, whole or not at all.

    Args:
        path: a trace ends in `.npz`, or has no ending and is a directory; a list ends in `.csv`.
        kind: one of `WRITERS`. By default a `.csv` is a convolution list if the workload has convolutions,
            only the forward pass is written and the list has columns for all of it; else a GEMM list.
        phases: the phases to write; by default all of them in a trace, `fwd` in a list.

    Returns a description of what was written. Raises `InputError` for other endings, for a workload that a
    list has no columns for, and if nothing can be written.
    """
    target = Path(path)
    selected = None if phases is None else check_phases(phases)
    suffix = target.suffix.lower()
    kinds = [kind for kind, writer in WRITERS.items() if suffix in writer.suffixes]
    if not kinds:
        raise InputError(
            f"{target}: no writer for {suffix!r} files; give .npz, .csv or a directory"
        )
    if kind is None:
        kind = kinds[0]
        if kind == "conv" and not _fits_conv_list(workload, selected):
            kind = "gemm"
    if kind not in WRITERS:
        raise unknown("kind of file", kind, list(WRITERS))
    if kind not in kinds:
        endings = " or ".join(suffix or "nothing" for suffix in WRITERS[kind].suffixes)
        raise InputError(f"{target}: a {kind} file must end in {endings}")
    return WRITERS[kind].write(target, workload, selected)


def _fits_conv_list(workload: Workload, phases: tuple[str, ...] | None) -> bool:
    """Whether the workload has convolutions and a convolution list has columns for what is written."""
    convs = [layer.conv for layer in workload if layer.conv is not None]
    return phases in (None, ("fwd",)) and bool(convs) and not any(map(_unsupported, convs))
