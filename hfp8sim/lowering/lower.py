"""Layers into programs: registers, loops, and half a dozen instructions in the middle."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.vocabulary import mode_number, overflow_number
from hfp8sim.isa import Layer, Program, Symbol, encode, format_word
from hfp8sim.isa.table import COUNTERS, CSR_BY_NAME, OPERANDS
from hfp8sim.lowering.tiling import Demand, Nest, choose, image_registers
from hfp8sim.machine.arithmetic import multiply_registers
from hfp8sim.machine.config import Machine, get_machine
from hfp8sim.network.phases import Job, LayerLike, job
from hfp8sim.timing.models import check_model, time_gemm, time_sound
from hfp8sim.timing.parts import LayerTime
from hfp8sim.units.profile import Profile, get_profile

_U32 = (1 << 32) - 1
_U64 = (1 << 64) - 1


@dataclasses.dataclass(frozen=True)
class Finish:
    """What POST does with the sums. By default they come out as they are.

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


def lower_layer(
    layer: LayerLike,
    phase: str = "fwd",
    machine: str | Machine = "rapid-core",
    profile: str | Profile = "hfp8",
    *,
    finish: Finish | None = None,
    seed: int = 0,
    stream: int = 0,
    tile: tuple[int, int, int] | None = None,
) -> Program:
    """The program of one layer in one phase.

    Inputs are `x` and `w` (fwd), `dy` and `w` (dgrad) or `x` and `dy` (wgrad), and `bias` where `finish`
    has one; the output is `y`, `dx` or `dw`. Tensors have the shapes of `lowering.shapes`.

    Args:
        seed, stream: of stochastic roundings; group g draws from stream + g.
        tile: (m, n, k) instead of the chosen sizes.

    Returns:
        A program of some dozens of words, whatever the layer's size.

    Raises:
        InputError: an unknown name, a size no register holds, or a layer no tile of which fits the
            machine; the message says what the smallest tile needs.
    """
    machine, profile, work = get_machine(machine), get_profile(profile), job(layer, phase)
    for what, value in (("seed", seed), ("stream", stream)):
        if not 0 <= value <= _U64:
            raise InputError(f"{what} is {value}, must be 0 ≤ {what} < 2^64")
    with _about(layer, phase):
        program = _lower(work, phase, machine, profile, finish or Finish(), seed, stream, tile)
    (span,) = program.layers
    span = dataclasses.replace(span, name=layer.name)
    return dataclasses.replace(program, layers=(span,))


@contextmanager
def _about(layer: LayerLike, phase: str) -> Iterator[None]:
    """Whatever is refused inside is refused of this layer."""
    try:
        yield
    except InputError as error:
        raise InputError(f"layer {layer.name!r} ({phase}): {error}") from None


def _lower(
    work: Job, phase: str, machine: Machine, profile: Profile, finish: Finish, seed: int, stream: int,
    tile: tuple[int, int, int] | None,
) -> Program:  # fmt: skip
    """The program of a job, as a layer without a name."""
    formats = _formats(profile, phase, finish)
    demand = _demand(profile, formats)
    nest = choose(work, demand, machine, tile)
    symbols = _symbols(work, formats)
    values = _registers(work, nest, profile, finish, formats, symbols, seed, stream)
    words = [encode("csrw", csr=CSR_BY_NAME[n].address, value=v & _U32) for n, v in values.items()]
    words += _body(work, nest, finish, bool(demand.d_bytes))
    span = Layer("", phase, 0, len(words), _compulsory(work, formats, symbols))
    return Program(np.array([*words, encode("halt")], np.uint64), symbols, (span,))


def _formats(profile: Profile, phase: str, finish: Finish) -> dict[str, FloatFormat]:
    """The format of each port's tensor."""
    a, b = profile.operand_formats(phase)
    c = get_format(finish.format) if finish.format else profile.result_format
    formats = {"a": a, "b": b, "c": c}
    if finish.bias_format:
        formats["d"] = get_format(finish.bias_format)
    return formats


def _demand(profile: Profile, formats: dict[str, FloatFormat]) -> Demand:
    size = {port: fmt.dtype.itemsize for port, fmt in formats.items()}
    return Demand(
        size["a"], size["b"], size["c"], size.get("d", 0),
        max(formats["a"].bits, formats["b"].bits), profile.chunk_length, profile.products_per_step,
    )  # fmt: skip


def _symbols(work: Job, formats: dict[str, FloatFormat]) -> tuple[Symbol, ...]:
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
        if not _goes_by_name(fmt):
            raise InputError(
                f"a program names the formats of its tensors, and {name}'s, {fmt.name!r}, is not "
                "registered; hs.register_format does that"
            )
        symbols.append(Symbol(name, role, line, fmt.name, shape))
    return tuple(symbols)


def _goes_by_name(fmt: FloatFormat) -> bool:
    try:
        return get_format(fmt.name) == fmt
    except InputError:
        return False


def _compulsory(work: Job, formats: dict[str, FloatFormat], symbols: tuple[Symbol, ...]) -> int:
    """Bytes that must move whatever fits: every element that the job touches, once. Of an image these
    are the pixels that some tap falls on; of other tensors all."""
    gemm, image, shape = work.gemm, work.a.image, work.a.shape
    used = gemm.groups * gemm.m * gemm.k if image is None else shape[0] * image.touched * shape[3]
    unused = (math.prod(shape) - used) * formats["a"].dtype.itemsize
    return sum(symbol.bytes for symbol in symbols) - unused


def _registers(
    work: Job, nest: Nest, profile: Profile, finish: Finish, formats: dict[str, FloatFormat],
    symbols: tuple[Symbol, ...], seed: int, stream: int,
) -> dict[str, int]:  # fmt: skip
    """Every register that differs from its reset value, in the order of the table."""
    lines = {symbol.name: symbol.line for symbol in symbols}
    gemm = work.gemm
    values = {"m": gemm.m, "n": gemm.n, "k": gemm.k, "groups": gemm.groups}
    values |= dict(zip(("tile.m", "tile.n", "tile.k"), nest.tile))
    values |= multiply_registers(profile, formats["a"], formats["b"])
    for port, operand in (("a", work.a), ("b", work.b), ("c", work.c)):
        values |= {f"{port}.base": lines[operand.tensor], f"{port}.pitch": operand.pitch}
    values["c.format"] = format_word(formats["c"])
    if "d" in formats:
        values |= {"d.base": lines["bias"], "d.format": format_word(formats["d"])}
    if gemm.groups > 1:
        steps = {"a": work.a.group, "b": work.b.group, "c": work.c.group, "d": gemm.n}
        values |= {f"{port}.group": step for port, step in steps.items() if port in formats}
        values["stream.group"] = 1
    for port, buffer in (("a", nest.a), ("b", nest.b), ("c", nest.c), ("acc", nest.acc)):
        if buffer.slots > 1:
            values |= {f"{port}.slots": buffer.slots, f"{port}.slot_rows": buffer.slot_rows}
    values |= {"b.block": work.b.block, "b.block_step": work.b.block_step}
    if work.a.image is not None:
        values |= image_registers(work.a.image)
    values |= {
        "seed.low": seed & _U32, "seed.high": seed >> 32,
        "stream.low": stream & _U32, "stream.high": stream >> 32,
        "c.rounding": mode_number(finish.rounding), "c.overflow": overflow_number(finish.overflow),
        "post.scale": finish.scale,
    }  # fmt: skip
    if finish.clamp is not None:
        values |= {"post.low": finish.clamp[0], "post.high": finish.clamp[1]}
    kept = {}
    for csr in CSR_BY_NAME.values():
        value = values.get(csr.name, csr.reset)
        if not csr.low <= value <= csr.high:
            raise InputError(
                f"{csr.name} would be {value}; the register holds {csr.low}..{csr.high}"
            )
        if value != csr.reset:
            kept[csr.name] = value
    return kept


def _body(work: Job, nest: Nest, finish: Finish, bias: bool) -> list[int]:
    """The loop nest around one tile."""
    image = work.a.image is not None
    a_flags = [name for name, on in (("image", image), ("t", work.a.transposed)) if on]
    b_flags = [name for name, on in (("t", work.b.transposed), ("turned", work.b.turned)) if on]
    c_flags = ["bias"] * bias + ["relu"] * finish.relu + ["clamp"] * (finish.clamp is not None)
    loads = {
        "a": encode("ld", *a_flags, operand=OPERANDS.index("a"), dst=nest.a.row),
        "b": encode("ld", *b_flags, operand=OPERANDS.index("b"), dst=nest.b.row),
    }
    levels = {"a": nest.a_level, "b": nest.b_level}

    def load(level: str) -> list[int]:
        return [word for port, word in loads.items() if levels[port] == level]

    def loop(counter: str, body: list[int]) -> list[int]:
        if nest.counts[counter] == 1:
            return body
        flags = ["spread"] if nest.spread == counter else []
        place = COUNTERS.index(counter)
        head = encode("loop", *flags, counter=place, count=nest.counts[counter], body=len(body))
        return [head, *body]

    inner = "j" if nest.outer == "i" else "i"
    multiply = encode("cv" if image else "mm", acc=nest.acc.row, src=nest.a.row)
    steps = [*load("tile"), encode("ldw", weights=nest.b.row), multiply]
    if work.gemm.k == 0:
        steps = []
    tile = [
        encode("clr", acc=nest.acc.row),
        *loop("k", steps),
        encode("post", *c_flags, dst=nest.c.row, total=nest.acc.row),
        encode("st", src=nest.c.row),
    ]
    ahead = load("group") if work.gemm.k else []
    if bias:
        ahead = [encode("ld", operand=OPERANDS.index("d"), dst=nest.d.row), *ahead]
    nested = loop(nest.outer, (load("outer") if work.gemm.k else []) + loop(inner, tile))
    return [*loop("g", ahead + nested), encode("fence")]


def lower_workload(
    layers: list[tuple[LayerLike, str, str | Profile]],
    machine: str | Machine = "rapid-core",
    seed: int = 0,
) -> Program:
    """One program for several (layer, phase, profile), one after the other; layer number i of the list
    draws from streams from i·2^32 on."""
    if not layers:
        raise InputError("there is no layer to lower; give at least one")
    return Program.join(
        [
            lower_layer(layer, phase, machine, profile, seed=seed, stream=number << 32)
            for number, (layer, phase, profile) in enumerate(layers)
        ]
    )


def time_layer(
    layer: LayerLike,
    phase: str = "fwd",
    profile: str | Profile = "hfp8",
    machine: str | Machine = "rapid-core",
    model: str | None = None,
) -> LayerTime:
    """The time of one layer in one phase: its program under `pipelined`, a closed form under
    `scalesim-*`. Errors are those of `lower_layer` and `time_program`."""
    machine, profile, work = get_machine(machine), get_profile(profile), job(layer, phase)
    model = check_model(model or machine.time_model)
    with _about(layer, phase):
        time = _time(work, phase, machine, profile, model)
    return dataclasses.replace(time, name=layer.name, phase=phase)


@functools.lru_cache(maxsize=1024)  # networks repeat their layers
def _time(work: Job, phase: str, machine: Machine, profile: Profile, model: str) -> LayerTime:
    finish = Finish()
    if model == "pipelined":
        program = _lower(work, phase, machine, profile, finish, 0, 0, None)
        return time_sound(program, machine, model).layers[0]
    formats = _formats(profile, phase, finish)
    compulsory = _compulsory(work, formats, _symbols(work, formats))
    bits = max(formats["a"].bits, formats["b"].bits)
    return time_gemm(work.gemm, machine, model, bits, compulsory)


def layer_time(
    layer: LayerLike, phase: str, profile: str | Profile, machine: str | Machine, model: str | None
) -> dict[str, Any]:
    """`time_layer` as the time columns of a report."""
    machine = get_machine(machine)
    time = time_layer(layer, phase, profile, machine, model)
    return {
        "cycles": time.cycles,
        **time.parts._asdict(),
        "utilisation": time.utilisation(machine),
        "time_us": machine.seconds(time.cycles) * 1e6,
        "tflops": time.tflops(machine),
        "bytes": time.bytes,
        "bytes_compulsory": time.compulsory,
        "bytes_capacity": time.bytes - time.compulsory,
        "bound_by": time.bound_by,
    }
