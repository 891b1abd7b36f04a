"""Everything that depends on the processor: one row of `TARGETS` per instruction set.

A row gives the width of vectors, the register tile of each class of forms, the way in which the rounding
direction is set, the extra instructions that may be used, and the block sizes that follow from the caches. The
counterpart in BLIS is a configuration, `config/*/bli_cntx_init_*.c`. To support another processor, add a row, and where
`Direction` has no member for it, a member and its instructions in `_numba/simd.py`.
"""

from __future__ import annotations

import functools
import os
import platform
from enum import StrEnum
from typing import NamedTuple

from numba.core.registry import cpu_target

from hfp8sim.errors import InputError
from hfp8sim.kernels.form import (
    Adder,
    Counting,
    Form,
    Lane,
    Mode,
    Order,
    Overflow,
    Tiling,
    Underflow,
)


class Direction(StrEnum):
    """How a kernel sets the rounding direction of the adder."""

    FIXED = "fixed"
    """Not at all: to nearest, ties to even."""
    MXCSR = "mxcsr"
    """By the control register of x86's vector unit, saved and restored as one word, with its flags and
    flush-to-zero. LLVM's intrinsic `llvm.get.rounding` reads the direction from the x87 unit's control word, which may
    differ, and `llvm.set.rounding` writes both: 1 % slower where K is 64."""
    FPCR = "fpcr"
    """By AArch64's control register, saved and restored as one word. All its other bits are written as zero:
    nothing is flushed, whatever the caller's register says."""
    ARITHMETIC = "arithmetic"
    """The sum and its rounding error are computed exactly, and the direction is applied to them."""


class Implementation(StrEnum):
    """What a kernel of a target is made of."""

    VECTORS = "vectors"
    """LLVM vector operations, written by `microkernel.py`."""
    LOOPS = "loops"
    """The plain loops of `model.py`."""


class Tiles(NamedTuple):
    """Register tiles (rows, vectors per row), by how many registers a form needs beside its sums."""

    simple: tuple[int, int]  #: one float32 product a step; rounding is all that happens to a sum
    watched: tuple[int, int]  #: the same, with the largest magnitude of each sum recorded
    loaded: tuple[int, int]  #: float64 lanes, several products, counting, or limits in each step
    loaded_watched: tuple[int, int]  #: the same, with the largest magnitude recorded
    heavy: tuple[int, int]  #: aligned sums, hashed words, rounding to odd, clamping by comparisons


class HalfLanes(NamedTuple):
    """How a target computes in lanes of binary16, two for each lane of float32."""

    tile: tuple[int, int]  #: the register tile (rows, vectors per row)
    native: bool = True  #: has arithmetic of binary16; False: float32's, each result narrowed


class Blocking(NamedTuple):
    """Sizes that follow from the caches, and from the cost of a thread."""

    line_bytes: int = 64  #: of a cache line: buffers begin with one
    l1_bytes: int = 1 << 16  #: of a panel's block of k: it stays in the first-level cache
    l2_bytes: int = 1 << 18  #: of a group of A's panels: it stays in the second-level cache
    #: Of a block of rows: its panels and results stay in the second-level cache …
    block_bytes: int = 1 << 18
    block_rows: int = (
        64  #: … but it has at least so many rows, for each of which B's panels are read once
    )
    panel_bytes: int = 1 << 25  #: of packed panels of one operand that are held at once
    stream_bytes: int = 1 << 23  #: of packed values of A and B in the stream of a machine's tile
    macs_worth_threads: int = (
        1 << 22
    )  #: multiply-accumulates below which a second thread costs more than it gains


#: Sizes that fit every processor with a second-level cache of 512 KiB or more.
BLOCKING = Blocking()


class Target(NamedTuple):
    """An instruction set. The name is the last part of kernel names."""

    name: str
    machines: tuple[str, ...]  #: names of the architecture, as `platform.machine` gives them
    features: frozenset[str]  #: features that Numba must report
    lanes: int  #: float32 lanes of a vector
    fused: bool  #: has a fused multiply-add
    direction: Direction
    tiles: Tiles
    flush: bool = False  #: can flush subnormal results to zero
    vrange: bool = False  #: has VRANGE, which selects by magnitude
    #: The constraint of a vector register in inline assembly, for targets whose code keeps its order.
    #: LLVM schedules 512-bit code badly: it puts all multiplications of a step before all roundings.
    ordered: str = ""
    #: Of every eight sums, those that nearest-even rounds by multiplications. The equivalent sequence of
    #: subtractions uses other execution ports.
    multiplied: tuple[int, ...] = (0, 2, 5)
    implementation: Implementation = Implementation.VECTORS
    blocking: Blocking = BLOCKING
    half: HalfLanes | None = None  #: lanes of binary16; None: they would gain nothing
    #: Vectors of the one row of a register tile that leaves out steps with a zero of A; 0: no kernel does. Their
    #: roundings take as long as the latency of a row's step.
    sparse: int = 0

    def lanes_of(self, lane: Lane) -> int:
        """Lanes of a vector of floats of another type than float32."""
        return self.lanes * Lane.FLOAT32 // lane

    @property
    def directed(self) -> bool:
        """Whether sums can be rounded in another direction than to nearest."""
        return self.direction is not Direction.FIXED


_X86, _ARM = ("x86_64", "amd64"), ("aarch64", "arm64")
#: 32 registers hold 24 sums, operands, and the numbers of a rounding. More independent sums hide more of the
#: latency from one step to the next.
_TILES_32 = Tiles((8, 3), (4, 3), (16, 1), (8, 1), (8, 1))
_TILES_16 = Tiles((8, 1), (8, 1), (8, 1), (8, 1), (8, 1))
_TILES_LOOPS = Tiles((16, 1), (16, 1), (16, 1), (16, 1), (16, 1))


def _x86(
    name: str, features: str, lanes: int, tiles: Tiles, vrange: bool = False, ordered: str = "",
    half: HalfLanes | None = None, sparse: int = 0,
) -> Target:  # fmt: skip
    needs = frozenset(f"+{feature}" for feature in features.split())
    return Target(
        name, _X86, needs, lanes, "+fma" in needs, Direction.MXCSR, tiles,
        flush=True, vrange=vrange, ordered=ordered, half=half, sparse=sparse,
    )  # fmt: skip


def _avx512(name: str, features: str = "", half: HalfLanes | None = None) -> Target:
    """AVX-512 with VRANGE, and with more features."""
    needs = f"avx512f avx512dq fma {features}"
    return _x86(name, needs, 16, _TILES_32, vrange=True, ordered="v", half=half, sparse=4)


#: Instruction sets; the first one that the processor has is used.
_ROWS = (
    _avx512("avx512fp16", "avx512bw avx512fp16", HalfLanes((8, 3))),
    _avx512("avx512dq"),
    _x86("avx512", "avx512f fma", 16, _TILES_32, ordered="v", sparse=4),
    _x86("avx2fma", "avx2 fma", 8, _TILES_16),
    _x86("avx2", "avx2", 8, _TILES_16),
    _x86("sse2", "", 4, _TILES_16),
    # AArch64 flushes before rounding, x86 after it: the proofs of `flush` are x86's.
    Target(
        "neonfp16",
        _ARM,
        frozenset({"+fullfp16"}),
        4,
        True,
        Direction.FPCR,
        _TILES_16,
        half=HalfLanes((8, 2)),
    ),
    Target("neon", _ARM, frozenset(), 4, True, Direction.FPCR, _TILES_16),
    Target("genericfma", ("ppc64le", "s390x"), frozenset(), 4, True, Direction.FIXED, _TILES_16),
)
#: Portable vector operations, for an architecture without a row.
GENERIC = Target("generic", (), frozenset(), 4, False, Direction.FIXED, _TILES_16)
#: The readable loops of `model.py`, for any architecture: slow, and the same bits.
MODEL = Target(
    "model", (), frozenset(), 16, True, Direction.ARITHMETIC, _TILES_LOOPS, flush=True, implementation=Implementation.LOOPS
)  # fmt: skip
#: Lanes of binary16 without the instructions for them: the bits of `avx512fp16`, slowly.
PROMOTED = _avx512("avx512half", "avx512bw", HalfLanes((8, 3), native=False))
#: All targets by name.
TARGETS = {target.name: target for target in (*_ROWS, GENERIC, MODEL, PROMOTED)}


#: Targets that may be chosen for any processor.
PORTABLE = (GENERIC.name, MODEL.name)


@functools.cache
def host_target() -> Target:
    """The target that Numba compiles for, by its own settings (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES).

    The environment variable HFP8SIM_TARGET chooses another one: a portable one, `generic` or `model`, or
    `avx512half` on a processor with AVX-512.

    Raises:
        InputError: HFP8SIM_TARGET is none of these.
    """
    chosen = os.environ.get("HFP8SIM_TARGET")
    if chosen:
        choices = (*PORTABLE, PROMOTED.name) if runs(PROMOTED) else PORTABLE
        if chosen not in choices:
            raise InputError(f"HFP8SIM_TARGET is {chosen!r}, must be {' or '.join(choices)}")
        return TARGETS[chosen]
    return next((target for target in _ROWS if runs(target)), GENERIC)


def runs(target: Target) -> bool:
    """Whether the processor that Numba compiles for has all that a row of x86 or AArch64 needs."""
    machine = platform.machine().lower()
    return machine in target.machines and target.features <= set(_features().split(","))


def processor_has(feature: str) -> bool:
    """Whether the processor that Numba compiles for has a feature, as LLVM spells it."""
    return f"+{feature}" in _features().split(",")


@functools.cache
def _features() -> str:
    """The features of the processor that Numba compiles for, as LLVM spells them."""
    features: str = cpu_target.target_context.codegen().magic_tuple()[2]
    return features


def tiling(target: Target, form: Form, counting: Counting) -> Tiling:
    """The register tile of a form on a target."""
    rows, vectors = _tile(target, form, counting)
    if target.implementation is Implementation.LOOPS:
        return Tiling(rows, vectors, lag=0, group=rows * vectors)
    return arranged(form, counting, rows, vectors)


def _tile(target: Target, form: Form, counting: Counting) -> tuple[int, int]:
    """(rows, vectors per row) as large as the registers hold."""
    tiles, watched = target.tiles, form.overflow is Overflow.NAN
    if form.lane is Lane.FLOAT16:
        assert target.half is not None
        return target.half.tile
    if (
        form.order is Order.ALIGNED
        or form.intra.mode is Mode.HASH
        or form.intra.adder is Adder.ODD
        or (form.overflow is Overflow.CLAMP and not uses_vrange(target, form))
    ):
        return tiles.heavy
    limits = form.overflow is Overflow.REPLACE or form.underflow is Underflow.COMPARE
    counts = counting is not Counting.NONE
    if form.lane is Lane.FLOAT64 or form.products != 1 or counts or limits:
        return tiles.loaded_watched if watched else tiles.loaded
    return tiles.watched if watched else tiles.simple


def arranged(form: Form, counting: Counting, rows: int, vectors: int) -> Tiling:
    """A register tile of given size, with the order of its sums.

    Rounding lags five eighths of the rows behind, where nothing forbids it: the processor then always has both
    multiplications and roundings to do. Otherwise sums are computed in groups. A compiler would put all
    multiplications first, for their latency, and run out of registers.
    """
    lag = 5 * rows // 8 if form.idempotent and counting is Counting.NONE else 0
    group = rows * vectors
    if counting is Counting.UNCHANGED:
        group = 8
    elif form.products == 2 or counting is Counting.EVENTS:
        group = 4
    return Tiling(rows, vectors, lag, group)


def uses_vrange(target: Target, form: Form) -> bool:
    """Whether limits are applied by VRANGE: it takes vectors of float32."""
    limited = form.overflow in (Overflow.CLAMP, Overflow.NAN)
    return target.vrange and form.lane is Lane.FLOAT32 and limited
