"""Workloads written to files: SCALE-Sim's two lists, and the native trace, by the target's name.

The lists are what SCALE-Sim itself reads, no more: one image, one stride, no groups, sizes that include
the padding. So a group becomes a row of its own, and a convolution's size is that of the pixels which
its filter sees, (P − 1)·stride + R: SCALE-Sim's ⌈(H − R + s)/s⌉ then gives P, and the list has the
workload's multiply-accumulates exactly. What a list cannot say is refused. The trace says everything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hfp8sim.errors import InputError, unknown
from hfp8sim.files import write_text
from hfp8sim.network.records import Conv, Layer, Workload, check_phases
from hfp8sim.workloads.readers.trace import save_trace

#: Rows beyond which a list is of no use to anyone.
MAX_ROWS = 100_000

Line = tuple[str, tuple[int, ...]]

_GEMM_TITLES = ("Layer", "M", "N", "K")
_CONV_TITLES = (
    "Layer name", "IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width", "Channels",
    "Num Filter", "Strides",
)  # fmt: skip


def save_gemm_csv(
    path: str | os.PathLike[str], workload: Workload, phases: Iterable[str] = ("fwd",)
) -> int:
    """Write SCALE-Sim's GEMM list, a row for each product of each layer's `phases`; the count of rows.

    With more than one phase its name stands behind the layer's. Raises `InputError`, and leaves the old
    file, where no layer has such a phase or the list would pass `MAX_ROWS`.
    """
    wanted = tuple(phases)
    return _write(path, _GEMM_TITLES, _products(workload, wanted))


def save_conv_csv(path: str | os.PathLike[str], workload: Workload) -> int:
    """Write SCALE-Sim's convolution list of the forward pass; the count of rows.

    A depthwise layer is one row whose name starts with `DP`; a product that is no convolution is one
    of a 1×1 filter over M×1 pixels. Raises `InputError` for what the list has no column for: batches,
    dilation, strides that differ between the axes. A GEMM list takes those.
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
        name = layer.name.replace("DP", "D_P")  # SCALE-Sim takes any name with DP as depthwise
        if layer.conv is None:
            groups, m, n, k = layer.shape()
            yield from _grouped(name, groups, (m, 1, 1, 1, k, n, 1))
        else:
            yield from _convolution(layer, name, layer.conv)


def _convolution(layer: Layer, name: str, conv: Conv) -> Iterator[Line]:
    if said := _beyond(conv):
        raise InputError(
            f"layer {layer.name!r} has {said}; SCALE-Sim's convolution list has no column for it; "
            "a GEMM list takes it (--as gemm, kind='gemm')"
        )
    (stride, _), kernel = conv.stride, conv.kernel
    seen = [(out - 1) * stride + size for out, size in zip(conv.output, kernel, strict=True)]
    groups, _, filters, _ = conv.gemm
    if conv.depthwise:  # C layers of one channel, each with all of the row's filters
        yield f"DP_{name}", (*seen, *kernel, groups, filters, stride)
    else:
        channels = conv.channels // groups
        yield from _grouped(name, groups, (*seen, *kernel, channels, filters, stride))


def _beyond(conv: Conv) -> str:
    """What SCALE-Sim's convolution list has no column for, in words; empty where it says all."""
    for said, value, plain in (
        ("a batch of", conv.batch, 1),
        ("dilation", conv.dilation, (1, 1)),
        ("stride", conv.stride, (conv.stride[0],) * 2),
    ):
        if value != plain:
            return f"{said} {value}"
    return ""


def _grouped(name: str, groups: int, sizes: tuple[int, ...]) -> Iterator[Line]:
    """A row, or one for each group, numbered from 1."""
    if groups == 1:
        yield name, sizes
    else:
        yield from ((f"{name}.{group}", sizes) for group in range(1, groups + 1))


def _write(path: str | os.PathLike[str], titles: tuple[str, ...], lines: Iterable[Line]) -> int:
    """Titles and rows, each with the comma at its end that SCALE-Sim wants."""
    rows, taken = [titles], set[str]()
    for name, sizes in lines:
        if len(rows) > MAX_ROWS:
            raise InputError(
                f"{path}: more than {MAX_ROWS} rows, since every group is one; a trace (.npz) keeps "
                "groups together"
            )
        rows.append((_unique(_cell(name), taken), *map(str, sizes)))
    if len(rows) == 1:
        raise InputError(f"{path}: nothing to write; no layer has such a phase")
    write_text(Path(path), "".join(", ".join(row) + ",\n" for row in rows))
    return len(rows) - 1


def _cell(name: str) -> str:
    """A name without what ends a cell, starts a comment or is cut off by readers."""
    kept = "".join("_" if c in ',;#"' or not c.isprintable() else c for c in name)
    return " ".join(kept.split()) or "layer"


def _unique(name: str, taken: set[str]) -> str:
    """The name, or with the first number that makes it new."""
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    taken.add(unique)
    return unique


# --- any of them -----------------------------------------------------------------------------------


def _trace(path: Path, workload: Workload, phases: tuple[str, ...] | None) -> str:
    kept = workload if phases is None else _restricted(workload, phases)
    save_trace(path, kept)
    tensors = sum(len(layer.tensors) for layer in kept)
    return f"trace of {len(kept)} layers with {tensors or 'no'} tensors"


def _restricted(workload: Workload, phases: tuple[str, ...]) -> Workload:
    """The layers that have some of the phases, with those alone."""
    some = ((layer, [p for p in layer.phases if p in phases]) for layer in workload)
    layers = tuple(layer.replace(phases=tuple(kept)) for layer, kept in some if kept)
    return Workload(workload.name, layers, workload.notes, workload.warnings)


def _conv_list(path: Path, workload: Workload, phases: tuple[str, ...] | None) -> str:
    if phases not in (None, ("fwd",)):
        raise InputError(
            f"{path}: a convolution list has the forward pass only; a GEMM list has all"
        )
    return f"convolution list of {save_conv_csv(path, workload)} rows"


def _gemm_list(path: Path, workload: Workload, phases: tuple[str, ...] | None) -> str:
    return f"GEMM list of {save_gemm_csv(path, workload, phases or ('fwd',))} rows"


WRITERS: dict[str, Callable[[Path, Workload, tuple[str, ...] | None], str]] = {
    "trace": _trace,
    "conv": _conv_list,
    "gemm": _gemm_list,
}
"""Kinds of file: the native trace, SCALE-Sim's convolution list, and its GEMM list."""


def save_workload(
    path: str | os.PathLike[str],
    workload: Workload,
    kind: str | None = None,
    phases: Iterable[str] | None = None,
) -> str:
    """Write a workload whole or not at all; what was written, in words.

    Args:
        path: a trace ends in `.npz`, or in nothing for a directory; a list ends in `.csv`.
        kind: one of `WRITERS`. Without it a `.csv` is a convolution list where the forward pass of a
            network with convolutions is written and such a list can say it, else a GEMM list.
        phases: those that are written; without them all in a trace, `fwd` in a list.

    Raises `InputError` for other endings, for what a list cannot say and where nothing can be written.
    """
    target = Path(path)
    wanted = None if phases is None else check_phases(phases)
    suffix = target.suffix.lower()
    fitting = {".csv": ("conv", "gemm"), ".npz": ("trace",), "": ("trace",)}.get(suffix, ())
    if not fitting:
        raise InputError(
            f"{target}: no writer for {suffix!r} files; give .npz, .csv or a directory"
        )
    if kind is None:
        convs = [layer.conv for layer in workload if layer.conv is not None]
        flat = wanted not in (None, ("fwd",)) or not convs or any(map(_beyond, convs))
        kind = fitting[-1] if flat else fitting[0]
    if kind not in WRITERS:
        raise unknown("kind of file", kind, list(WRITERS))
    if kind not in fitting:
        raise InputError(
            f"{target}: a {kind} file must end in {'.npz or nothing' if kind == 'trace' else '.csv'}"
        )
    return WRITERS[kind](target, workload, wanted)
