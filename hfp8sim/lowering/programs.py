"""Layers into programs: registers, loops, and half a dozen instructions in the innermost one."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from hfp8sim.errors import InputError, located
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.registry import is_registered
from hfp8sim.formats.vocabulary import mode_number, overflow_number
from hfp8sim.isa import Program, ProgramLayer, Symbol, encode, format_word
from hfp8sim.isa.table import COUNTERS, CSR_BY_NAME, OPERANDS
from hfp8sim.lowering.images import image_registers
from hfp8sim.lowering.splits import Split, best_split
from hfp8sim.lowering.tiling import Demand, Nest, choose
from hfp8sim.machine.arithmetic import multiply_registers
from hfp8sim.machine.catalog import get_machine
from hfp8sim.machine.config import Machine
from hfp8sim.network import Layer, PhaseGemm, phase_gemm
from hfp8sim.units.profile import Profile, get_profile

_U32 = (1 << 32) - 1
_U64 = (1 << 64) - 1


@dataclasses.dataclass(frozen=True)
class Finish:
    """What POST does with the sums. By default it stores them unchanged.

    `format` is that of the results (empty: the accumulator's own); `clamp` is a pair of its codes.
    `scale` is a power of two's exponent. With `bias_format` the program has an input `bias`.
    """

    format: str | FloatFormat = ""
    rounding: str = "nearest-away"
    overflow: str = "saturate"
    bias_format: str | FloatFormat = ""
    relu: bool = False
    clamp: tuple[int, int] | None = None
    scale: int = 0


class LayerPhase(NamedTuple):
    """One layer in one phase, the profile that computes it, and its first random stream.

    `network.phase_stream` gives the stream by the layer's place in its network; `simulate` uses the same.
    """

    layer: Layer
    phase: str
    profile: str | Profile
    stream: int


def lower_layer(
    layer: Layer,
    phase: str = "fwd",
    machine: str | Machine = "rapid-core",
    profile: str | Profile = "hfp8",
    *,
    finish: Finish | None = None,
    seed: int = 0,
    stream: int = 0,
    tile: tuple[int, int, int] | None = None,
    split: Split | None = None,
) -> Program:
    """The program of one layer in one phase.

    Inputs are `x` and `w` (fwd), `dy` and `w` (dgrad) or `x` and `dy` (wgrad), and `bias` where `finish`
    has one; the output is `y`, `dx` or `dw`. Tensors have the shapes of `Layer.tensor_shape`.

    Args:
        seed, stream: of stochastic roundings, unsigned 64 bits; group g draws from stream + g.
        tile: (m, n, k) instead of the chosen sizes.
        split: of the cores along the groups, m and n. On a machine with a ring, whose fetches serve several
            cores, `best_split` chooses it; on any other one the cores share the iterations of one loop.

    Returns:
        A program of some dozens of words, whatever the layer's size.

    Raises:
        InputError: an unknown name, a size that no register holds, a split that cuts K or has too many shares,
            or a layer no tile of which fits the machine; the message gives what the smallest tile needs.
    """
    machine, profile, work = get_machine(machine), get_profile(profile), phase_gemm(layer, phase)
    for name, value in (("seed", seed), ("stream", stream)):
        if not 0 <= value <= _U64:
            raise InputError(f"{name} is {value}, must be 0 ≤ {name} < 2^64")
    with located(f"layer {layer.name!r} ({phase})"):
        program = lower_gemm(
            work, phase, machine, profile,
            finish=finish, seed=seed, stream=stream, tile=tile, split=split,
        )  # fmt: skip
    (span,) = program.layers
    return dataclasses.replace(program, layers=(dataclasses.replace(span, name=layer.name),))


def lower_workload(
    layers: Iterable[LayerPhase],
    machine: str | Machine = "rapid-core",
    *,
    finish: Finish | None = None,
    seed: int = 0,
    split: Split | None = None,
) -> Program:
    """One program for several layers and phases, one after the other; arguments as for `lower_layer`.

    Raises:
        InputError: no layer, two tensors of one name, or what `lower_layer` refuses.
    """
    programs = [
        lower_layer(
            layer, phase, machine, profile, finish=finish, seed=seed, stream=stream, split=split
        )
        for layer, phase, profile, stream in layers
    ]
    if not programs:
        raise InputError("there is no layer to lower; give at least one")
    return programs[0] if len(programs) == 1 else Program.join(programs)


def lower_gemm(
    work: PhaseGemm,
    phase: str,
    machine: Machine,
    profile: Profile,
    *,
    finish: Finish | None = None,
    seed: int = 0,
    stream: int = 0,
    tile: tuple[int, int, int] | None = None,
    split: Split | None = None,
) -> Program:
    """The program of one phase's GEMM, as a layer without a name; arguments as for `lower_layer`."""
    finish = unscaled(finish, profile, phase)
    formats = _formats(profile, phase, finish)
    _check_clamp(finish, formats["c"])
    symbols = _symbols(work, formats)
    demand = _demand(profile, formats)
    if split is None and machine.ring.receivers > 1 and machine.cores > 1:
        compulsory = _compulsory(work, formats, symbols)
        split = best_split(work.gemm, machine, demand.operand_bits, compulsory)
    nest = choose(work, demand, machine, tile, split)
    registers = _tile_registers(work, nest)
    registers |= _tensor_registers(work, formats, symbols, sum(profile.operand_scales(phase)))
    registers |= multiply_registers(profile, formats["a"], formats["b"])
    registers |= _stream_registers(work, seed, stream) | _post_registers(finish)
    words = [
        _csrw(CSR_BY_NAME[name].address, value & _U32)
        for name, value in _changed_registers(registers).items()
    ]
    words += _loops(work, nest, finish, bias="d" in formats)
    layer = ProgramLayer("", phase, 0, len(words), _compulsory(work, formats, symbols))
    return Program(np.array([*words, encode("halt")], np.uint64), symbols, (layer,))


@functools.lru_cache(4096)
def _csrw(register: int, value: int) -> int:
    """The word that writes a register: the layers of a network have most of them in common."""
    return encode("csrw", csr=register, value=value)


def unscaled(finish: Finish | None, profile: Profile, phase: str) -> Finish:
    """What POST does, with the scales of the operands divided out.

    Without a `finish` the sums stay in their format. They overflow there by the profile's policy.
    """
    scale = sum(profile.operand_scales(phase))
    if finish is None:
        return Finish(overflow=profile.overflow, scale=-scale) if scale else Finish()
    return dataclasses.replace(finish, scale=finish.scale - scale) if scale else finish


def _check_clamp(finish: Finish, result: FloatFormat) -> None:
    """`InputError` for a clamp whose codes are no numbers of the result's format, or in the wrong order."""
    if finish.clamp is None:
        return
    low, high = result.decode(finish.clamp)
    if not low <= high:
        raise InputError(
            f"clamp is {finish.clamp[0]:#x}:{finish.clamp[1]:#x}, from {low:g} to {high:g} in {result.name}; "
            "the first must be the smaller number"
        )


def compulsory_bytes(work: PhaseGemm, phase: str, profile: Profile) -> int:
    """Bytes that must move between DRAM and scratchpads even if those held everything.

    Every element that the GEMM reads or writes counts once. Of an unfolded image those are the pixels
    that a tap reads; of other tensors they are all elements.
    """
    formats = _formats(profile, phase, Finish())
    return _compulsory(work, formats, _symbols(work, formats))


# -- tensors in DRAM -----------------------------------------------------------------------------------


def _formats(profile: Profile, phase: str, finish: Finish) -> dict[str, FloatFormat]:
    """The format of each port's tensor: a, b, c, and d where there is a bias."""
    a, b = profile.operand_formats(phase)
    c = get_format(finish.format) if finish.format else profile.result_format
    formats = {"a": a, "b": b, "c": c}
    if finish.bias_format:
        formats["d"] = get_format(finish.bias_format)
    return formats


def _demand(profile: Profile, formats: dict[str, FloatFormat]) -> Demand:
    size = {port: fmt.dtype.itemsize for port, fmt in formats.items()}
    return Demand(
        a_bytes=size["a"],
        b_bytes=size["b"],
        c_bytes=size["c"],
        d_bytes=size.get("d", 0),
        operand_bits=max(formats["a"].bits, formats["b"].bits),
        chunk=profile.chunk_length,
        step=profile.products_per_step,
    )


def _symbols(work: PhaseGemm, formats: dict[str, FloatFormat]) -> tuple[Symbol, ...]:
    """The layer's tensors, one after the other in DRAM."""
    tensors = [
        ("input", work.a.tensor, "a", work.a.shape),
        ("input", work.b.tensor, "b", work.b.shape),
    ]
    if "d" in formats:
        tensors.append(("input", "bias", "d", (work.gemm.groups * work.gemm.n,)))
    tensors.append(("output", work.c.tensor, "c", work.c.shape))
    symbols: list[Symbol] = []
    for role, name, port, shape in tensors:
        line, fmt = symbols[-1].stop if symbols else 0, formats[port]
        symbols.append(Symbol(name, role, line, fmt.name if is_registered(fmt) else fmt, shape))
    return tuple(symbols)


def _compulsory(
    work: PhaseGemm, formats: dict[str, FloatFormat], symbols: tuple[Symbol, ...]
) -> int:
    """`compulsory_bytes`, with the formats and tensors given."""
    gemm, image, shape = work.gemm, work.a.image, work.a.shape
    if image is None:
        elements = gemm.groups * gemm.m * gemm.k
    else:
        elements = shape[0] * image.pixels_read * shape[3]
    unread = (math.prod(shape) - elements) * formats["a"].dtype.itemsize
    return sum(symbol.bytes for symbol in symbols) - unread


# -- registers -----------------------------------------------------------------------------------------


def _tile_registers(work: PhaseGemm, nest: Nest) -> dict[str, int]:
    """Sizes of the GEMM and of a tile, and the buffers in scratchpad and accumulators."""
    gemm = work.gemm
    values = {"m": gemm.m, "n": gemm.n, "k": gemm.k, "groups": gemm.groups}
    values |= dict(zip(("tile.m", "tile.n", "tile.k"), nest.tile))
    if any(nest.grid):
        values |= dict(zip(("split.g", "split.i", "split.j"), nest.grid, strict=True))
    for port, buffer in (("a", nest.a), ("b", nest.b), ("c", nest.c), ("acc", nest.acc)):
        if buffer.slots > 1:
            values |= {f"{port}.slots": buffer.slots, f"{port}.slot_rows": buffer.slot_rows}
    return values


def _tensor_registers(
    work: PhaseGemm, formats: dict[str, FloatFormat], symbols: tuple[Symbol, ...], scale: int
) -> dict[str, int]:
    """Where the tensors lie in DRAM, by their views, and the formats of result and bias.

    POST adds the bias vector to sums that are 2^scale times too large. An exponent bias that is smaller by
    `scale` makes the vector as large.
    """
    lines = {symbol.name: symbol.line for symbol in symbols}
    views = {"a": work.a, "b": work.b, "c": work.c}
    values = {"c.format": format_word(formats["c"])}
    for port, view in views.items():
        values |= {f"{port}.base": lines[view.tensor], f"{port}.pitch": view.pitch}
    if "d" in formats:
        scaled = formats["d"].with_bias(formats["d"].bias - scale)
        values |= {"d.base": lines["bias"], "d.format": format_word(scaled)}
    if work.gemm.groups > 1:
        values |= {f"{port}.group": view.group for port, view in views.items()}
        if "d" in formats:
            values["d.group"] = work.gemm.n
    values |= {"b.block": work.b.block, "b.block_step": work.b.block_step}
    if work.a.image is not None:
        values |= image_registers(work.a.image)
    return values


def _stream_registers(work: PhaseGemm, seed: int, stream: int) -> dict[str, int]:
    """Seed and stream of stochastic roundings."""
    values = {
        "seed.low": seed & _U32,
        "seed.high": seed >> 32,
        "stream.low": stream & _U32,
        "stream.high": stream >> 32,
    }
    return values | ({"stream.group": 1} if work.gemm.groups > 1 else {})


def _post_registers(finish: Finish) -> dict[str, int]:
    """What POST does with the sums."""
    values = {
        "c.rounding": mode_number(finish.rounding),
        "c.overflow": overflow_number(finish.overflow),
        "post.scale": finish.scale,
    }
    if finish.clamp is not None:
        values |= {"post.low": finish.clamp[0], "post.high": finish.clamp[1]}
    return values


def _changed_registers(values: dict[str, int]) -> dict[str, int]:
    """The registers that differ from their reset values, in the order of the table; `InputError` for a
    value that a register does not hold."""
    changed = {}
    for csr in CSR_BY_NAME.values():
        value = values.get(csr.name, csr.reset)
        if not csr.low <= value <= csr.high:
            raise InputError(
                f"{csr.name} would be {value}; the register holds {csr.low}..{csr.high}"
            )
        if value != csr.reset:
            changed[csr.name] = value
    return changed


# -- instructions --------------------------------------------------------------------------------------


def _loops(work: PhaseGemm, nest: Nest, finish: Finish, *, bias: bool) -> list[int]:
    """The loop nest of `hfp8sim.lowering.tiling` in instructions, with a fence behind it."""
    loads = _loads(work, nest)

    def loads_at(level: str) -> list[int]:
        return [word for port, word in loads.items() if nest.levels[port] == level]

    inner = "j" if nest.outer == "i" else "i"
    tile = _tile(work, nest, finish, bias, loads_at("tile"))
    outer_body = loads_at("outer") + _loop(nest, inner, tile)
    group_body = loads_at("group") + _loop(nest, nest.outer, outer_body)
    if bias:
        group_body.insert(0, encode("ld", operand=OPERANDS.index("d"), dst=nest.d.row))
    return [*_loop(nest, "g", group_body), encode("fence")]


def _loads(work: PhaseGemm, nest: Nest) -> dict[str, int]:
    """The LD of each operand; none where there is nothing to sum."""
    if work.gemm.k == 0:
        return {}
    a_flags = [
        name
        for name, is_set in (("image", work.a.image is not None), ("t", work.a.transposed))
        if is_set
    ]
    b_flags = [
        name for name, is_set in (("t", work.b.transposed), ("turned", work.b.turned)) if is_set
    ]
    return {
        "a": encode("ld", *a_flags, operand=OPERANDS.index("a"), dst=nest.a.row),
        "b": encode("ld", *b_flags, operand=OPERANDS.index("b"), dst=nest.b.row),
    }


def _tile(
    work: PhaseGemm, nest: Nest, finish: Finish, bias: bool, loads: list[int]
) -> list[int]:  # fmt: skip
    """One tile of the result: clear, multiply along k, finish, store."""
    steps = []
    if work.gemm.k:
        multiply = "mm" if work.a.image is None else "cv"
        steps = [
            *loads,
            encode("ldw", weights=nest.b.row),
            encode(multiply, acc=nest.acc.row, src=nest.a.row),
        ]
    flags = ["bias"] * bias + ["relu"] * finish.relu + ["clamp"] * (finish.clamp is not None)
    return [
        encode("clr", acc=nest.acc.row),
        *_loop(nest, "k", steps),
        encode("post", *flags, dst=nest.c.row, total=nest.acc.row),
        encode("st", src=nest.c.row),
    ]


def _loop(nest: Nest, counter: str, body: list[int]) -> list[int]:
    """`body` repeated over a counter; without a LOOP where it runs once."""
    count = nest.counts[counter]
    if count == 1:
        return body
    flags = ["spread"] if counter in nest.spread else []
    number = COUNTERS.index(counter)
    return [encode("loop", *flags, counter=number, count=count, body=len(body)), *body]
