"""The matrix products among PyTorch's operators, as its dispatcher sees them.

Every function of PyTorch, in Python, C++ or TorchScript, ends in operators of its dispatcher. `READ` has those
whose products are recorded. `UNREAD` and `MAY_BE_PRODUCT` name those that are products and are not recorded.
An outer product and a Kronecker product are element-wise multiplications there, as are sums of products that a
model writes as such: they are no matrix products. Solvers and factorisations are none either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hfp8sim.network.records import Conv
from hfp8sim.workloads.readers import nests, tensor_layouts

Tensor = Any
#: Labels of the axes of two operands and their product.
Loops = tuple[list[str], list[str], list[str]]
#: Reads one call: (recorder, name for the layer, arguments by name, result).
Rule = Callable[[Any, str, Mapping[str, Any], Tensor], None]


# --- matrix products --------------------------------------------------------------------------------


def _product(a_key: str, b_key: str) -> Rule:
    """NumPy's matmul of two arguments. What is added to the product is no part of it."""

    def record(rec: Any, operator: str, given: Mapping[str, Any], result: Tensor) -> None:
        a, b = given[a_key], given[b_key]
        _warn_of_scale(rec, operator, given)
        if a.dim() == b.dim() == 3:
            (a, a_loops), (b, b_loops) = _shared(a, ["b", "m", "k"]), _shared(b, ["b", "k", "n"])
            loops = (a_loops, b_loops, ["b", "m", "n"])
        else:
            loops = nests.matmul_loops(a.dim(), b.dim())
        rec.product(operator, a, b, result, loops)

    return record


def _shared(operand: Tensor, loops: list[str]) -> tuple[Tensor, list[str]]:
    """A batch of matrices. If all are one and the same in memory, that matrix without the axis of the batch."""
    if operand.shape[0] > 1 and operand.stride(0) == 0:
        return operand.select(0, 0), loops[1:]
    return operand, loops


def _summed_batch(rec: Any, operator: str, given: Mapping[str, Any], result: Tensor) -> None:
    """addbmm: the sum runs over the batch too."""
    _warn_of_scale(rec, operator, given)
    loops = (["b", "m", "k"], ["b", "k", "n"], ["m", "n"])
    rec.product(operator, given["batch1"], given["batch2"], result, loops)


def _warn_of_scale(rec: Any, operator: str, given: Mapping[str, Any]) -> None:
    if given.get("alpha", 1) != 1 or "scale_a" in given:
        rec.warn(operator, "scales its product, so its errors are those of the scaled one")


# --- convolutions -----------------------------------------------------------------------------------


def _convolution(rec: Any, operator: str, given: Mapping[str, Any], result: Tensor) -> None:
    (x, before), w = rec.unpadded(given["input"]), given["weight"]
    spatial = w.dim() - 2
    if spatial > 2:
        rec.miss(operator, f"it has {spatial} spatial axes; a layer has at most two")
        return
    batch, height, width = image(x, spatial)
    kernel = pair(tuple(w.shape[2:]), spatial, 1)
    stride, dilation = (pair(given[key], spatial, 1) for key in ("stride", "dilation"))
    pad = pair(given["padding"], spatial, 0)
    left, right, top, bottom = [*before, 0, 0, 0, 0][:4]
    groups = given["groups"]
    if given["transposed"]:
        extra = pair(given["output_padding"], spatial, 0)
        conv = tensor_layouts.transposed_conv(
            (batch, w.shape[0], height, width),
            (*w.shape[:2], *kernel),
            stride,
            (pad[0], pad[0] - extra[0], pad[1], pad[1] - extra[1]),
            dilation,
            groups,
        )
    else:
        conv = Conv(
            batch=batch,
            height=height,
            width=width,
            channels=w.shape[1] * groups,
            filters=w.shape[0],
            kernel=kernel,
            stride=stride,
            padding=(pad[0] + top, pad[0] + bottom, pad[1] + left, pad[1] + right),
            dilation=dilation,
            groups=groups,
        )
    rec.convolution(operator, x, w, result, conv, transposed=given["transposed"])


def image(x: Tensor, spatial: int) -> tuple[int, int, int]:
    """(batch, height, width). A tensor without a batch axis has batch 1, a signal has height 1."""
    batch = x.shape[0] if x.dim() == spatial + 2 else 1
    sizes = tuple(x.shape[-spatial:])
    return (batch, *pair(sizes, spatial, 1))


def pair(value: Any, spatial: int, missing: int) -> tuple[int, int]:
    """(height, width) of one number or of one for each axis; the height of a signal is `missing`."""
    values = [int(v) for v in value] if isinstance(value, tuple | list) else [int(value)] * spatial
    values = values * spatial if len(values) == 1 else values
    return (missing, values[0]) if spatial == 1 else (values[0], values[1])


# --- tables -----------------------------------------------------------------------------------------

#: The rule of each operator that is read. In-place forms and those with `out` follow the same rule.
READ: dict[str, Rule] = {
    "aten::mm": _product("self", "mat2"),
    "aten::bmm": _product("self", "mat2"),
    "aten::mv": _product("self", "vec"),
    "aten::dot": _product("self", "tensor"),
    "aten::vdot": _product("self", "other"),
    "aten::addmm": _product("mat1", "mat2"),
    "aten::addmv": _product("mat", "vec"),
    "aten::baddbmm": _product("batch1", "batch2"),
    "aten::addbmm": _summed_batch,
    "aten::_int_mm": _product("self", "mat2"),
    "aten::_scaled_mm": _product("self", "mat2"),
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
}
#: Operators with products inside of them, and why they are not read.
UNREAD = {
    "aten::_trilinear": "it multiplies three operands at once",
    "aten::_euclidean_dist": "its product is inside of a distance",
    "aten::_addmm_activation": "its product is fused with an activation",
    "aten::affine_grid_generator": "its product with the grid is inside of the operator",
    "aten::linalg_matrix_exp": "its products are inside of the operator",
    "aten::linalg_pinv": "its products are inside of the operator",
    "aten::_compute_linear_combination": "its product is inside of the operator",
    "aten::_foreach_mm": "its products are inside of the operator",
    "aten::conv_tbc": "its axes are time, batch, channel",
}
#: Names of operators, of PyTorch or of others, that are products as far as their names tell.
MAY_BE_PRODUCT = re.compile(
    r"(^|_)(mm|bmm|addmm|baddbmm|addbmm|sspaddmm|hspmm|smm|matmul|gemm|linear|mv|mha|attention"
    r"|conv(_?(transpose|depthwise|dilated))?_?[123]?d?|convolution|lstm|gru|rnn)(_|\d|$)"
)
#: Operators with such names that hold no product: packing of weights, interpolation, parts of a cell.
NO_PRODUCT = re.compile(
    r"_prepack|_unpack|_flatten_weight|upsample_|_reorder_|_fused_(gru|lstm)_cell"
)


def unread(operator: str) -> str:
    """Why an operator that is not in `READ` is missing from a capture; "" if it holds no product.

    Args:
        operator: its name with its namespace, such as `aten::mm`.
    """
    if operator in UNREAD:
        return UNREAD[operator]
    name = operator.split("::")[-1]
    if "sparse" in name or name in ("hspmm", "sspaddmm"):
        return "an operand is sparse" if MAY_BE_PRODUCT.search(name) else ""
    if MAY_BE_PRODUCT.search(name) and not NO_PRODUCT.search(name):
        return "its products are inside of a fused operator"
    return ""


def is_product(operator: str) -> bool:
    """Whether an operator holds matrix products."""
    return operator in READ or bool(unread(operator))
