"""Convolution lists: the topology files of SCALE-Sim and of the tools that extended them.

    Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,

Sizes include the padding. There is one image, one stride for both axes, and no group. Further columns
with known titles give padding, batch, groups, dilation, a stride for each axis, and mNPUsim's type of layer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from hfp8sim.errors import InputError
from hfp8sim.network.records import Conv, Layer, Workload
from hfp8sim.workloads.readers import csv_rows
from hfp8sim.workloads.readers.csv_lists import Fields, ListKind, NoProduct, Unreadable, load_list
from hfp8sim.workloads.readers.csv_rows import Row

_TITLES = {
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
    "type": ("type", "layertype"),
}
#: SCALE-Sim's columns, in its order.
_REQUIRED = (
    "name",
    "height",
    "width",
    "filter height",
    "filter width",
    "channels",
    "filters",
    "stride",
)
#: Numbers of a row without which it cannot be a convolution: all but name and stride.
_SIZES = _REQUIRED[1:-1]

#: The note of a list with rows for which `_is_product` holds.
_PRODUCT_NOTE = "filters of 1×K over one channel of width K: such rows are read as GEMMs M×N×K"

#: Types of mNPUsim, normalised: convolutions, products M, K, K, N, and layers without a product.
_CONV_TYPES = ("", "conv", "conv2d", "convolution", "im2colconv")
_GEMM_TYPES = ("gemm", "dirgemm")
_OTHER_TYPES = ("other", "pool", "pooling", "maxpool", "avgpool")

# SCALE-Sim takes any name with DP in it as depthwise, ADPTER too. Here DP must start or end the name.
_DEPTHWISE = re.compile(r"^DP(?=$|[^A-Z]|[A-Z][a-z])|(?<=[^A-Z])DP$")


def load_conv_csv(path: str | os.PathLike[str]) -> Workload:
    """Read a convolution list: columns by title where the header has all eight, else by position.

    Without a padding column the sizes include the padding and the output is rounded up, as SCALE-Sim
    does, ceil((H - R + s) / s). With one, it is rounded down, as the frameworks do. A name that starts
    or ends with `DP`, and the mark `#dw`, make a row depthwise. In mNPUsim's `Type` column, Gemm and
    Dir_Gemm make a row a product whose sizes are M, K, K, N; Other and Pool make it no product. A row with
    one channel whose filter is one row high and as wide as its input is a GEMM, too. Rows with
    numbers that are no layer are in `missing`; rows without are skipped with a warning. Both name the line.
    Raises `InputError` for a size out of range and for a file without a layer.
    """
    return load_list(path, CONV_LIST)


def is_conv_list(rows: list[Row]) -> bool:
    """Whether the rows are convolutions rather than GEMMs.

    They are if the titles name every column of a convolution: a row with fewer numbers is then an
    incomplete convolution. Without such titles they are if more rows have at least the six sizes of a
    convolution than have only the three to five numbers of a GEMM.
    """
    titles = set(csv_rows.normalised_titles(csv_rows.split_header(rows)[0]))
    if all(titles.intersection(_TITLES[field]) for field in _REQUIRED):
        return True
    counts = [row.numbers for row in rows]
    return sum(n >= len(_SIZES) for n in counts) > sum(3 <= n < len(_SIZES) for n in counts)


def _read_layer(fields: Fields) -> Layer:
    kind = csv_rows.normalised(fields.text("type"))
    if kind in _OTHER_TYPES:
        raise NoProduct(f"its type is {fields.text('type')}")
    size = fields.required(*_SIZES)
    if kind in _GEMM_TYPES and size["channels"] == size["filters"] == 1:
        return _product(fields, size)
    if kind not in _CONV_TYPES + _GEMM_TYPES:
        fields.remarks.append(f"type {fields.text('type')!r} is not known; read as a convolution")
    stride = fields.optional("stride")
    if stride is None:
        fields.remarks.append("no stride; taken as 1")
    size["stride height"] = stride or 1
    size["stride width"] = fields.optional("stride width") or size["stride height"]
    padding = fields.optional("padding", least=0)
    for field in ("batch", "groups", "dilation"):
        size[field] = fields.optional(field) or 1
    try:
        conv = _geometry(size, padding)
    except InputError as error:  # the sizes are in range, but do not go together
        raise Unreadable(str(error)) from None
    conv = _depthwise(fields, conv)
    if _is_product(conv):
        fields.notes.append(_PRODUCT_NOTE)
        return Layer(fields.name, "gemm", *conv.gemm[1:])
    return Layer.from_conv(fields.name, conv)


def _is_product(conv: Conv) -> bool:
    """Whether the convolution is an M×K matrix, as an image, times a K×N matrix, as N filters of 1×K.

    Lists of GEMMs are written so. The input gradient of such a product is the product dY·Wᵀ. That of the convolution
    slides the filter over K − 1 positions of padding on each side, and has K times as many multiply-accumulates.
    """
    return (
        conv.kernel == (1, conv.width)
        and conv.width > 1
        and conv == Conv(1, conv.height, conv.width, 1, conv.filters, conv.kernel)
    )


def _product(fields: Fields, size: Mapping[str, int]) -> Layer:
    """The layer of a row of type Gemm: an M×K matrix and a K×N matrix in the columns of input and filter."""
    if size["width"] != size["filter height"]:
        raise Unreadable(
            f"its type is {fields.text('type')}, so its sizes are M, K, K, N, "
            f"but {size['width']} is not {size['filter height']}"
        )
    groups = (fields.optional("batch") or 1) * (fields.optional("groups") or 1)
    return Layer(
        fields.name, "gemm", size["height"], size["filter width"], size["width"], groups
    )  # fmt: skip


def _geometry(size: dict[str, int], padding: int | None) -> Conv:
    """The convolution of a row; `padding` is None where the sizes include it."""
    inputs = (size["height"], size["width"])
    kernel = (size["filter height"], size["filter width"])
    strides = (size["stride height"], size["stride width"])
    dilation = size["dilation"]
    if padding is None:
        bottom, right = (
            _round_up(*axis, dilation) for axis in zip(inputs, kernel, strides, strict=True)
        )
        sides = (0, bottom, 0, right)
    else:
        sides = (padding, padding, padding, padding)
    return Conv(
        batch=size["batch"],
        height=size["height"],
        width=size["width"],
        channels=size["channels"],
        filters=size["filters"],
        kernel=kernel,
        stride=strides,
        padding=sides,
        dilation=(dilation, dilation),
        groups=size["groups"],
    )


def _round_up(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Pixels to add at the far edge so that the output size is rounded up, as in SCALE-Sim.

    0 for a kernel that is larger than the input: such a row stays an error.
    """
    reach = dilation * (kernel - 1)
    return -(size - reach - 1) % stride if size > reach else 0


def _depthwise(fields: Fields, conv: Conv) -> Conv:
    """The geometry of a row that is marked as depthwise, with its groups.

    `DP` in the name stands for C layers of one channel each, with all of the row's filters. Rows with the
    mark `#dw` list either one channel, or one filter, or the multiplied filters.
    """
    channels, filters = conv.channels, conv.filters
    if _DEPTHWISE.search(fields.row.cells[0]):
        return replace(conv, groups=channels, filters=channels * filters)
    if fields.row.comment.lower() not in ("dw", "depthwise") or conv.groups > 1:
        return conv
    if channels == 1:
        return replace(conv, channels=filters, groups=filters)
    if filters == 1:
        return replace(conv, filters=channels, groups=channels)
    if filters % channels == 0:
        return replace(conv, groups=channels)
    fields.remarks.append(
        f"marked #dw, but {filters} filters are no multiple of {channels} channels"
    )
    return conv


CONV_LIST = ListKind(
    name="convolution list",
    titles=_TITLES,
    positions={field: column for column, field in enumerate(_REQUIRED)},
    read_layer=_read_layer,
    row_format=(
        "'name, input height, width, filter height, width, channels, filters, stride' "
        "with whole numbers from 1"
    ),
    absent_notes={"padding": "no padding column: the sizes are taken as including it"},
)
