"""Convolution lists: the topology files of SCALE-Sim and of the tools that extended them.

    Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,

Sizes include the padding, there is one image, one stride for both axes, and no group. A file may say
more by the titles of further columns: padding, batch, groups, dilation, a stride per axis.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from hfp8sim.errors import InputError
from hfp8sim.network.records import Conv, Layer, Workload, distinct
from hfp8sim.workloads.readers import csv_rows
from hfp8sim.workloads.readers.csv_rows import Row

_POSITIONS = {
    "name": 0,
    "height": 1,
    "width": 2,
    "filter height": 3,
    "filter width": 4,
    "channels": 5,
    "filters": 6,
    "stride": 7,
}
_NAMES = {
    "name": ("layername", "layer", "name", "layerid"),
    "height": ("ifmapheight", "inputheight", "ifmaph", "ih", "h"),
    "width": ("ifmapwidth", "inputwidth", "ifmapw", "iw", "w"),
    "filter height": ("filterheight", "kernelheight", "filterh", "fh", "r"),
    "filter width": ("filterwidth", "kernelwidth", "filterw", "fw", "s"),
    "channels": ("channels", "channel", "numchannels", "inputchannels", "c"),
    "filters": ("numfilter", "numfilters", "filters", "outputchannels", "k", "f"),
    "stride": ("strides", "stride", "strideheight", "strideh"),
    "stride width": ("stridewidth", "stridew"),
    "padding": ("pad", "padding", "pads"),
    "batch": ("batch", "batchsize"),
    "groups": ("groups", "group"),
    "dilation": ("dilation", "dilations", "dil"),
}
_OPTIONAL = {"stride width": 1, "padding": 0, "batch": 1, "groups": 1, "dilation": 1}  # least value

# SCALE-Sim takes any name with DP in it as depthwise, ADPTER too; here it must start or end the name.
_DEPTHWISE = re.compile(r"^DP(?=$|[^A-Z]|[A-Z][a-z])|(?<=[^A-Z])DP$")


def is_conv_table(table: list[Row]) -> bool:
    """True where rows hold at least the six numbers that only a convolution needs, or the titles name all of
    them: a shorter row is a torn one then, and no GEMM."""
    if _titled(csv_rows.split_header(table)[0]):
        return True
    counts = [sum(csv_rows.number(c) is not None for c in row.cells[1:]) for row in table]
    return sum(count >= 6 for count in counts) > sum(3 <= count < 6 for count in counts)


def _titled(header: Row | None) -> bool:
    """Whether the titles name all that a convolution needs."""
    titles = {csv_rows.key_of(cell) for cell in header.cells} if header else set()
    return all(titles & set(_NAMES[field]) for field in _POSITIONS)


def load_conv_csv(path: str | os.PathLike[str]) -> Workload:
    """Read a convolution list: columns by title where the header has all eight, else by position.

    Without a padding column the sizes include the padding and the output is rounded up, as SCALE-Sim
    does, ceil((H - R + s) / s); with one, it is rounded down, as the frameworks do. A name that starts
    or ends with `DP`, and the mark `#dw`, make a row depthwise. Rows that are no layer are skipped,
    and odd ones read, with one warning each that names the line. Raises `InputError` for a size out
    of range and for a file without a layer.
    """
    header, table = csv_rows.split_header(csv_rows.rows(path))
    columns = csv_rows.find_columns(header, _NAMES, _POSITIONS)
    unused = csv_rows.unused_columns(header, columns.values())
    layers: list[Layer] = []
    warnings: list[str] = []
    for row in table:
        layer, odd = _read(path, row, columns, unused)
        if layer is not None:
            layers.append(layer)
        if odd:
            warnings.append(f"{path}:{row.line}: {'; '.join(odd)}")
    if not layers:
        raise InputError(
            f"{path}: no layer in it; rows must read 'name, input height, width, filter height, "
            "width, channels, filters, stride' with whole numbers from 1"
        )
    names = distinct(layer.name for layer in layers)
    named = [layer.replace(name=name) for layer, name in zip(layers, names, strict=True)]
    notes = [f"convolution list {path}"]
    if "padding" not in columns:
        notes.append("no padding column: the sizes are taken as including it")
    notes += csv_rows.unused_note(header, unused)
    return Workload(Path(path).stem, tuple(named), tuple(notes), tuple(warnings))


def _read(
    path: str | os.PathLike[str], row: Row, columns: dict[str, int], unused: set[int]
) -> tuple[Layer | None, list[str]]:
    """The layer in a row (None: it is none) and what is odd about the row."""
    odd: list[str] = []
    fields = [field for field in _POSITIONS if field not in ("name", "stride")]
    read = csv_rows.sizes(path, row, columns, fields)
    if isinstance(read, str):
        return None, [f"{row.label()} is no layer: {read}; skipped"]
    stride = csv_rows.optional(path, row, columns, "stride", 1, odd)
    if stride is None:
        odd.append("no stride; taken as 1")
    extra = {
        field: csv_rows.optional(path, row, columns, field, least, odd)
        for field, least in _OPTIONAL.items()
    }
    csv_rows.unknown_cells(row, set(columns.values()) | unused, odd)
    try:
        conv = _geometry(read, stride or 1, extra)
        conv = _depthwise(row, conv, odd)
        return Layer.from_conv(row.cell(columns["name"]) or f"line {row.line}", conv), odd
    except InputError as error:
        return None, [f"{row.label()} is no layer: {error}; skipped"]


def _geometry(read: dict[str, int], stride: int, extra: dict[str, int | None]) -> Conv:
    strides = (stride, extra["stride width"] or stride)
    kernel = (read["filter height"], read["filter width"])
    dilation = extra["dilation"] or 1
    pad = extra["padding"]
    if pad is None:  # the window may slide over the far edge: SCALE-Sim rounds the output up
        over = [
            -(size - dilation * (k - 1) - 1) % s if size > dilation * (k - 1) else 0
            for size, k, s in zip((read["height"], read["width"]), kernel, strides, strict=True)
        ]
        padding = (0, over[0], 0, over[1])
    else:
        padding = (pad, pad, pad, pad)
    return Conv(
        batch=extra["batch"] or 1,
        height=read["height"],
        width=read["width"],
        channels=read["channels"],
        filters=read["filters"],
        kernel=kernel,
        stride=strides,
        padding=padding,
        dilation=(dilation, dilation),
        groups=extra["groups"] or 1,
    )


def _depthwise(row: Row, conv: Conv, odd: list[str]) -> Conv:
    """The geometry of a row that is marked as depthwise, at its true shape.

    DP stands for C layers of one channel each, with all of the row's filters. Rows marked `#dw` list
    either one channel, or one filter, or the multiplied filters.
    """
    channels, filters = conv.channels, conv.filters
    if _DEPTHWISE.search(row.cells[0]):
        return replace(conv, groups=channels, filters=channels * filters)
    if row.comment.lower() not in ("dw", "depthwise") or conv.groups > 1:
        return conv
    if channels == 1:
        return replace(conv, channels=filters, groups=filters)
    if filters == 1:
        return replace(conv, filters=channels, groups=channels)
    if filters % channels == 0:
        return replace(conv, groups=channels)
    odd.append(f"marked #dw, but {filters} filters are no multiple of {channels} channels")
    return conv
