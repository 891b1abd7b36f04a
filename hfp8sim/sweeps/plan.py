"""The plan of a sweep: axes, and the points that a grid, a list or a random sample has of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.sweeps.constraints import Constraint, Predicate, full_key
from hfp8sim.sweeps.keys import CASES, PLAIN, cell, check_keys, is_training

#: The values of one point by key.
Values = dict[str, Any]


class UnfitError(InputError):
    """Values of a point that do not fit together, each of which is one that its key can have."""


#: Draws of a random sample for each point before the plan gives up.
_DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers low..high of an axis.

    A grid takes every `step`-th number, or `count` numbers of equal distance, or of equal ratio if `log`. A random
    sample takes any of these numbers; without `step` and `count` any number of the range.
    """

    low: float
    high: float
    step: float | None = None
    count: int | None = None
    log: bool = False

    def __post_init__(self) -> None:
        numbers = (self.low, self.high, *([] if self.step is None else [self.step]))
        if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers):
            raise InputError(f"{self.text}: low, high and step must be numbers")
        if self.high < self.low or (self.log and self.low <= 0):
            raise InputError(f"{self.text}: low must not exceed high, and log needs low > 0")
        if self.step is not None and (self.step <= 0 or self.count is not None or self.log):
            raise InputError(f"{self.text}: step must be positive, without count and log")
        if self.count is not None:
            check_whole_number(self.count, "count", 1)

    @property
    def text(self) -> str:
        """The range in error texts."""
        return f"range {self.low}..{self.high}"

    @property
    def whole(self) -> bool:
        """Whether its numbers are integers."""
        return all(x is None or isinstance(x, int) for x in (self.low, self.high, self.step))

    def values(self) -> list[Any] | None:
        """The numbers of a grid; None for a range without `step` and `count`."""
        if self.step is not None:
            count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
            return [self.low + i * self.step for i in range(count)]
        if self.count is None:
            return None
        last = max(self.count - 1, 1)
        return list(dict.fromkeys(self._at(i / last) for i in range(self.count)))

    def draw(self, share: float) -> Any:
        """The number at a share 0 ≤ share < 1 of the range."""
        numbers = self.values()
        if numbers is not None:
            return numbers[int(share * len(numbers))]
        if self.whole and not self.log:
            return int(self.low) + int(share * (self.high - self.low + 1))
        return self._at(share)

    def _at(self, share: float) -> Any:
        if self.log:
            number = self.low * (self.high / self.low) ** share
        else:
            number = self.low + (self.high - self.low) * share
        return round(number) if self.whole else number


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep computes.

    Attributes:
        axes: values by key, or a `Range`; a key with one value is fixed.
        points: of a list: values by key for each point, beside those of the axes.
        samples: random settings; each is computed for every workload, network, data set and seed. None for a grid
            or a list.
        sample_seed: of the random sample.
        where: constraints; a point must satisfy all.
        name: in reports.
        quality: the measure that reports compare with costs; None chooses by the kind of points.
        costs: the measures that reports compare it with; empty chooses likewise.

    Raises:
        InputError: an unknown key, an axis without values, keys of runs beside keys of trainings.
    """

    axes: Mapping[str, Sequence[Any] | Range]
    points: tuple[Values, ...] = ()
    samples: int | None = None
    sample_seed: int = 0
    where: tuple[str | Predicate, ...] = ()
    name: str = "sweep"
    quality: str | None = None
    costs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = [*self.axes, *(key for point in self.points for key in point)]
        check_keys(list(dict.fromkeys(keys)))
        for key, values in self.axes.items():
            if not isinstance(values, Range):
                _check_axis(key, values)
        if self.samples is not None:
            check_whole_number(self.samples, "samples", 1)
            if self.points:
                raise InputError("samples go with axes, not with a list of points")
            if all(key in CASES for key in self.axes):
                raise InputError("samples need a key to draw beside workloads and seeds")
        if not any(key in ("workload", "network") for key in keys):
            raise InputError(
                "a sweep needs workloads to run or networks to train, as in workloads=['digits-cnn']"
            )
        if self.training and "network" not in keys:
            raise InputError("recipes need networks to train, as in networks=['cnn']")
        for constraint in self.where:
            if isinstance(constraint, str):
                Constraint(constraint)

    @property
    def keys(self) -> list[str]:
        """The keys of all points, in the order of a table's columns."""
        keys = dict.fromkeys([*self.axes, *(key for point in self.points for key in point)])
        order = list(PLAIN)
        return sorted(
            keys,
            key=lambda k: (
                order.index(k.partition(".")[0]) if k != "seed" else len(order),
                "." in k,
            ),
        )

    @property
    def training(self) -> bool:
        """Whether the points are trainings."""
        return is_training([*self.axes, *(key for point in self.points for key in point)])

    def values(self, lookup: Callable[[Values, str], Any]) -> list[Values]:
        """The values of every point, in order and each once.

        Args:
            lookup: the value of a key at a point, for constraints.

        Raises:
            InputError: no point, or a random sample with fewer distinct points than asked for.
        """
        constraints = [_predicate(constraint, lookup) for constraint in self.where]
        if self.samples is None:
            chosen = _distinct(p for p in self._grid(self.keys) if all(c(p) for c in constraints))
        else:
            chosen = self._sample(self.samples, constraints)
        if not chosen:
            raise InputError("no point of the sweep satisfies its constraints")
        return chosen

    def _grid(self, keys: list[str]) -> Iterator[Values]:
        """Every combination of some keys, the last one fastest, for each point of a list."""
        own_axes = [key for key in keys if key in self.axes]
        lists = []
        for key in own_axes:
            axis = self.axes[key]
            values = axis.values() if isinstance(axis, Range) else list(axis)
            if values is None:
                raise InputError(f"{key}: a grid needs the step or the count of a range")
            lists.append(values)
        for own in self.points or ({},):
            for combination in itertools.product(*lists):
                point = dict(zip(own_axes, combination, strict=True)) | own
                yield {key: point[key] for key in keys if key in point}

    def _sample(self, samples: int, constraints: list[Callable[[Values], bool]]) -> list[Values]:
        """The points of so many distinct random settings that have a point."""
        cases = list(self._grid([key for key in self.keys if key in CASES]))
        chosen: list[Values] = []
        found: set[Any] = set()
        for settings in self._draws(samples):
            if _frozen(settings) in found:
                continue
            points = [{k: (case | settings)[k] for k in self.keys} for case in cases]
            kept = [point for point in points if all(c(point) for c in constraints)]
            if kept:
                found.add(_frozen(settings))
                chosen += kept
            if len(found) == samples:
                return _distinct(chosen)
        if not found:
            return []
        raise InputError(
            f"the axes and constraints have about {len(found)} settings, fewer than samples={samples}"
        )

    def _draws(self, samples: int) -> Iterator[Values]:
        """Random settings. `random.Random.random` gives the same numbers in every version of Python."""
        generator = random.Random(self.sample_seed)
        keys = [key for key in self.keys if key not in CASES]
        for _ in range(_DRAWS * samples):
            settings = {}
            for key in keys:
                axis, share = self.axes[key], generator.random()
                settings[key] = (
                    axis.draw(share) if isinstance(axis, Range) else axis[int(share * len(axis))]
                )
            yield settings


def _check_axis(key: str, values: Sequence[Any]) -> None:
    """`InputError` for an axis that has no values, or two records of one name."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise InputError(f"{key} is {values!r:.60}; it must be a list of values or a range")
    if not values:
        raise InputError(f"{key} has no values")
    cells = [cell(value) for value in values]
    for number, (value, own) in enumerate(zip(values, cells)):
        if not isinstance(value, str) and own in cells[:number] and isinstance(own, str):
            raise InputError(f"two values of {key} are named {own!r}; give each its own name")


def _predicate(
    constraint: str | Predicate, lookup: Callable[[Values, str], Any]
) -> Callable[[Values], bool]:
    """Whether a point satisfies a constraint. A point whose values do not fit together does: it fails later."""
    expression = Constraint(constraint) if isinstance(constraint, str) else None

    def kept(point: Values) -> bool:
        try:
            if expression is not None:
                return expression(lambda key: lookup(point, key))
            return bool(constraint(_View(point, lookup)))  # type: ignore[operator]
        except UnfitError:
            return True

    return kept


def _frozen(point: Values) -> tuple[Any, ...]:
    """A point as a key of a dict: equal for equal names and numbers of one type."""
    return tuple((key, type(value).__name__, cell(value)) for key, value in point.items())


def _distinct(points: Iterable[Values]) -> list[Values]:
    """The points, each once."""
    return list({_frozen(point): point for point in points}.values())


class _View(Mapping[str, Any]):
    """A point as a caller's constraint reads it: any key, varied or not."""

    def __init__(self, point: Values, lookup: Callable[[Values, str], Any]) -> None:
        self._point, self._lookup = point, lookup

    def __getitem__(self, key: str) -> Any:
        return self._lookup(self._point, full_key(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self._point)

    def __len__(self) -> int:
        return len(self._point)


# -- files -------------------------------------------------------------------------------------------

_TOP = ("name", "samples", "sample_seed", "where", "quality", "costs", "vary", "fixed", "points")


def load_plan(path: str | Path) -> Plan:
    """The plan of a TOML file (docs/sweeps.md).

    Raises:
        InputError: a file that cannot be read, is not TOML, or has an unknown key or a value of a wrong type.
    """
    from hfp8sim.errors import located
    from hfp8sim.files import read_toml

    tables = read_toml(path)
    with located(path):
        return plan_from_tables({"name": Path(path).stem} | tables)


def plan_from_tables(tables: dict[str, Any]) -> Plan:
    """The plan of the tables of a TOML file."""
    from hfp8sim.errors import unknown
    from hfp8sim.sweeps.keys import LISTS

    for key in tables:
        if key in PLAIN and key not in LISTS.values():
            raise InputError(
                f"key {key!r} goes below [fixed], or with a list of values below [vary]"
            )
        if key not in (*LISTS, *_TOP):
            raise unknown("key", key, [*LISTS, *_TOP])
    axes: dict[str, Any] = {}
    for plural, key in LISTS.items():
        if plural in tables:
            axes[key] = _axis(plural, tables[plural])
    for key, value in _flat("", _table("vary", tables)).items():
        if key in axes:
            raise InputError(f"[vary] {key} is given twice")
        axes[key] = _axis(f"[vary] {key}", value)
    for key, value in _flat("", _table("fixed", tables)).items():
        if key in axes:
            raise InputError(f"[fixed] {key} is given twice")
        axes[key] = [value]
    points = tables.get("points", [])
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise InputError("points must be tables [[points]]")
    return Plan(
        axes, tuple(_flat("", point) for point in points), tables.get("samples"),
        _whole(tables, "sample_seed", 0), _texts(tables, "where"), _text(tables, "name", "sweep"),
        _text(tables, "quality", None), _texts(tables, "costs"),
    )  # fmt: skip


def _table(name: str, tables: dict[str, Any]) -> dict[str, Any]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"[{name}] must be a table")
    return table


_RANGE = tuple(field.name for field in dataclasses.fields(Range))


def _flat(prefix: str, table: dict[str, Any]) -> dict[str, Any]:
    """A table's values by dotted key; ranges stay tables."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and not set(value) <= set(_RANGE):
            flat |= _flat(f"{prefix}{key}.", value)
        else:
            flat[prefix + key] = value
    return flat


def _axis(where: str, value: Any) -> Any:
    """The values of an axis in a file."""
    if isinstance(value, dict):
        if not {"low", "high"} <= set(value):
            raise InputError(f"{where}: a range needs low and high")
        return Range(**value)
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list of values, or a range {{low = …, high = …}}")
    return value


def _whole(tables: dict[str, Any], key: str, default: int) -> int:
    return check_whole_number(tables.get(key, default), key, 0)


def _text(tables: dict[str, Any], key: str, default: Any) -> Any:
    value = tables.get(key, default)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{key} must be a text")
    return value


def _texts(tables: dict[str, Any], key: str) -> tuple[str, ...]:
    """A list of texts; one text is a list of one."""
    value = tables.get(key, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{key} must be a list of texts")
    return tuple(texts)
