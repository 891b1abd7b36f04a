"""A kernel: proved arithmetic, a register tile, counting, and an instruction set. And its name.

Names follow XNNPACK's manner: `f32_away_chop_8x3v_lag5__avx512dq` has lanes of float32, rounds to nearest, ties
away from zero, after an adder that chops; its tile has 8 rows of 3 vectors, rounding lags 5 rows behind; and it
is compiled for AVX-512DQ. Defaults are left out; the order of the parts is:

    lane · half · lanewise · sparse · products · order · intra-chunk mode, adder · inter-chunk mode, adder · tile · lag · group
    · overflow · underflow · opening · counting · target
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, TypeVar

from hfp8sim.kernels import target as targets
from hfp8sim.kernels.form import (
    PANEL,
    Adder,
    Counting,
    Form,
    Lane,
    Mode,
    Opening,
    Order,
    Overflow,
    RoundingForm,
    Tiling,
    Underflow,
)
from hfp8sim.kernels.target import TARGETS, Target

_E = TypeVar("_E", bound=StrEnum)


class Kernel(NamedTuple):
    """All that is fixed when a kernel is compiled. Everything else is a number that it takes when it runs."""

    form: Form
    tiling: Tiling
    counting: Counting
    target: Target
    #: A step multiplies vectors of A and of B lane by lane, not an outer product: a lane is a channel.
    lanewise: bool = False
    #: Tiles whose sums stay in binary16's window are computed by the kernel `of_halves`.
    half: bool = False
    #: Steps with a zero of A are left out; the register tile is one row, and the kernel computes a panel of them.
    sparse: bool = False

    @classmethod
    def of(cls, form: Form, counting: Counting, target: Target) -> Kernel:
        """The kernel of a form with the target's tile for it."""
        return cls(form, targets.tiling(target, form, counting), counting, target)

    @property
    def lanes(self) -> int:
        """Lanes of a vector of sums."""
        return self.target.lanes_of(self.form.lane)

    @property
    def columns(self) -> int:
        """Columns of the register tile."""
        return self.tiling.vectors * self.lanes

    @property
    def panels(self) -> int:
        """Panels of columns that the register tile covers."""
        return max(1, self.columns // PANEL)

    @property
    def narrow(self) -> Kernel:
        """The kernel for the panels of columns that are left over by tiles more than one panel wide."""
        if self.panels == 1 or self.sparse:
            return self
        tiling = targets.arranged(self.form, self.counting, 2 * self.tiling.rows, 1)
        return self._replace(tiling=tiling)

    @property
    def of_halves(self) -> Kernel:
        """The kernel that computes the same in lanes of binary16, for tiles whose sums stay in its window."""
        rounding = RoundingForm(self.form.intra.mode, Adder.CHOP)
        form = self.form._replace(
            lane=Lane.FLOAT16, intra=rounding,
            overflow=Overflow.IMPOSSIBLE, underflow=Underflow.IMPOSSIBLE,
        )  # fmt: skip
        return Kernel.of(form, Counting.NONE, self.target)

    @property
    def of_nonzeros(self) -> Kernel:
        """The kernel that computes the same, and leaves out steps with a zero of A."""
        vectors = self.target.sparse
        return self._replace(tiling=Tiling(1, vectors, lag=0, group=vectors), sparse=True)

    @property
    def in_halves(self) -> bool:
        """Whether its lanes are binary16."""
        return self.form.lane is Lane.FLOAT16

    @property
    def strict(self) -> bool:
        """Whether the processor's floating-point environment is changed while the kernel runs."""
        return self.form.directed or self.form.underflow.flushes

    @property
    def vrange(self) -> bool:
        """Whether VRANGE is used."""
        return targets.uses_vrange(self.target, self.form)

    @property
    def ordered(self) -> bool:
        """Whether the code keeps the order in which it is written."""
        tile = self.tiling
        pipelined = tile.lag > 0 or tile.group < tile.rows * tile.vectors
        return bool(self.target.ordered) and pipelined

    # -- the name

    @property
    def name(self) -> str:
        """The kernel's name. `parse` is its inverse."""
        form, tile = self.form, self.tiling
        parts = [f"f{form.lane}"]
        if self.half:
            parts.append("half")
        if self.lanewise:
            parts.append("lanewise")
        if self.sparse:
            parts.append("sparse")
        if form.products != 1:
            parts.append(f"{form.products}p")
        if form.order is not Order.FUSED:
            parts.append(form.order)
        parts += form.intra
        if form.inter != form.intra:
            parts += ["then", *form.inter]
        parts.append(f"{tile.rows}x{tile.vectors}v")
        if tile.lag:
            parts.append(f"lag{tile.lag}")
        if tile.group != tile.rows * tile.vectors:
            parts.append(f"group{tile.group}")
        for value, usual in (
            (form.overflow, Overflow.IMPOSSIBLE),
            (form.underflow, Underflow.IMPOSSIBLE),
            (form.opening, _usual_opening(form)),
            (self.counting, Counting.NONE),
        ):
            if value is not usual:
                parts.append(value)
        return f"{'_'.join(parts)}__{self.target.name}"

    @classmethod
    def parse(cls, name: str) -> Kernel:
        """The kernel of a name.

        Raises:
            ValueError: no kernel has this name.
        """
        try:
            kernel = cls._parsed(name)
        except (KeyError, ValueError):
            kernel = None
        if kernel is None or kernel.name != name:
            raise ValueError(f"no kernel is named {name!r}")
        return kernel

    @classmethod
    def _parsed(cls, name: str) -> Kernel:
        """The kernel of a name that may have more parts, or others than `name` would give."""
        text, _, target = name.partition("__")
        parts = _Parts(text.split("_"))
        lane = Lane(parts.number("f", "", Lane.FLOAT32))
        half, lanewise = parts.skip("half"), parts.skip("lanewise")
        sparse = parts.skip("sparse")
        if (half or lane is Lane.FLOAT16) and TARGETS[target].half is None:
            raise ValueError
        if sparse and not TARGETS[target].sparse:
            raise ValueError
        products = parts.number("", "p", 1)
        order = parts.member(Order, Order.FUSED)
        intra = RoundingForm(parts.member(Mode), parts.member(Adder))
        inter = intra
        if parts.skip("then"):
            inter = RoundingForm(parts.member(Mode), parts.member(Adder))
        rows, vectors = map(int, parts.take().removesuffix("v").split("x"))
        lag, group = parts.number("lag", "", 0), parts.number("group", "", rows * vectors)
        over = parts.member(Overflow, Overflow.IMPOSSIBLE)
        under = parts.member(Underflow, Underflow.IMPOSSIBLE)
        form = Form(lane, products, order, intra, inter, over, under, Opening.ROUNDED)
        form = form._replace(opening=parts.member(Opening, _usual_opening(form)))
        counting = parts.member(Counting, Counting.NONE)
        tiling = Tiling(rows, vectors, lag, group)
        return cls(form, tiling, counting, TARGETS[target], lanewise, half, sparse)


def _usual_opening(form: Form) -> Opening:
    """What a chunk's first step usually is: exact where a step is one product that is rounded."""
    usual = form.one_product and form.intra.mode is not Mode.NONE
    return Opening.EXACT if usual else Opening.ROUNDED


class _Parts:
    """The parts of a name, read one by one."""

    def __init__(self, parts: list[str]) -> None:
        self._parts = parts

    def take(self) -> str:
        """The next part."""
        return self._parts.pop(0) if self._parts else ""

    def skip(self, part: str) -> bool:
        """Whether the next part is this one; then it is read."""
        if self._parts[:1] != [part]:
            return False
        self._parts.pop(0)
        return True

    def number(self, before: str, after: str, usual: int) -> int:
        """The number in the next part, if that is `before`, digits, `after`; else the usual one."""
        part = self._parts[0] if self._parts else ""
        digits = part.removeprefix(before).removesuffix(after)
        if not digits.isdecimal() or part != f"{before}{digits}{after}":
            return usual
        self._parts.pop(0)
        return int(digits)

    def member(self, kind: type[_E], usual: _E | None = None) -> _E:
        """The member of an enumeration that the next part names; else the usual one."""
        part = self._parts[0] if self._parts else ""
        if usual is not None and part not in set(kind):
            return usual
        return kind(self.take())
