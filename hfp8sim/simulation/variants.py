"""Variants of a run: profiles with changed fields, and every combination of varied options."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hfp8sim.errors import InputError, unknown
from hfp8sim.machine import Machine, get_machine
from hfp8sim.simulation.calibration import Method
from hfp8sim.timing import get_model
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.profile import SETTABLE, TOGETHER


class Variant(NamedTuple):
    """One run of a grid."""

    name: str  #: the varied values, comma-separated
    options: dict[str, Any]  #: `simulate`'s machine, profile, time_model, seed and calibrate


def split_list(text: str) -> list[str]:
    """`fwd, dgrad` as a list; empty parts are left out."""
    return [part.strip() for part in text.split(",") if part.strip()]


def changed_profile(profile: str | Profile, assignments: Sequence[str]) -> Profile:
    """A profile with fields replaced, values typed as the field is.

    Args:
        assignments: texts of `key=value`, one or more with commas between.

    Raises:
        InputError: an unknown profile or field, or a value that the field cannot take.
    """
    base = get_profile(profile)
    fields = dict(_assignment(text, base) for text in split_list(",".join(assignments)))
    return base.replace(**fields) if fields else base


def _assignment(text: str, profile: Profile) -> tuple[str, Any]:
    """The field and the value of one `key=value`."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{text!r}: write it as key=value, as in chunk_length=32")
    key = key.strip().removeprefix("profile.")  # as a sweep's key has it
    if key not in SETTABLE:
        raise unknown("profile field", key, SETTABLE)
    if key in TOGETHER or not isinstance(getattr(profile, key), int):
        return key, value
    try:
        return key, int(value)
    except ValueError:
        raise InputError(f"{key}={value}: {key} must be an integer") from None


def combinations(varied: Sequence[str]) -> Iterator[dict[str, str]]:
    """Every combination of the values of `key=value,value,…` texts; the last key varies fastest."""
    axes: dict[str, list[str]] = {}
    for text in varied:
        key, equals, values = text.partition("=")
        parts = split_list(values)
        if not equals or not parts:
            raise InputError(f"--vary {text!r}: write it as key=value,value,…")
        axes.setdefault(key, []).extend(parts)
    for chosen in itertools.product(*axes.values()):
        yield dict(zip(axes, chosen, strict=True))


def variants(
    varied: Sequence[str],
    machine: str | Machine,
    profile: str | Profile,
    assignments: Sequence[str],
    time_model: str | None,
    seed: int,
    calibrate: str | None = None,
) -> list[Variant]:
    """The runs of a grid, all checked before the first one starts.

    Args:
        varied: texts of `key=value,value,…`; a key is machine, profile, time_model, seed, calibrate, or a
            field of the profile. Several give every combination.
        machine, profile, assignments, time_model, seed, calibrate: what is not varied.

    Raises:
        InputError: a value that `simulate` would refuse, or fewer than two runs.
    """
    fixed = {
        "machine": machine, "profile": profile, "time_model": time_model, "seed": seed,
        "calibrate": calibrate,
    }  # fmt: skip
    planned = []
    for chosen in combinations(varied):
        options: dict[str, Any] = fixed | {k: v for k, v in chosen.items() if k in fixed}
        fields = [f"{k}={v}" for k, v in chosen.items() if k not in fixed]
        options["machine"] = get_machine(options["machine"])
        options["profile"] = changed_profile(options["profile"], [*assignments, *fields])
        if options["time_model"] is not None:
            get_model(options["time_model"])
        options["seed"] = _whole_number("seed", options["seed"])
        if options["calibrate"] is not None:
            Method.of(options["calibrate"])
        planned.append(Variant(", ".join(chosen.values()), options))
    if len(planned) < 2:
        raise InputError(
            f"--vary {varied[0]!r}: a comparison needs two values or more, as in chunk_length=16,64"
        )
    return planned


def _whole_number(key: str, value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise InputError(f"--vary {key}={value}: {key} must be an integer") from None
