"""The best configurations of a sweep as files to go on with: profile, machine, recipe, and the command of each."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hfp8sim.errors import InputError
from hfp8sim.files import write_text
from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.machine import Machine
from hfp8sim.recipes import Recipe
from hfp8sim.report.columns import Row
from hfp8sim.sweeps.jobs import Resolver
from hfp8sim.sweeps.keys import PLAIN, cell
from hfp8sim.sweeps.plan import Values
from hfp8sim.sweeps.record import SweepRecord
from hfp8sim.units import Profile

#: Configurations that are written at most.
_MOST = 24

#: Options of `hfp8sim run` and `hfp8sim train` by key.
_OPTIONS = {
    "policy": "--policy", "calibrate": "--calibrate", "phases": "--phase", "time_model": "--time-model",
    "max_macs": "--max-macs", "events_every": "--events", "seed": "--seed", "data": "--data",
    "optimiser": "--optimiser", "rate": "--rate", "batch": "--batch", "steps": "--steps",
    "weights": "--weights",
}  # fmt: skip


class Best(NamedTuple):
    """A configuration of a front, ready to run."""

    row: Row  #: of `SweepRecord.configurations`
    files: dict[str, str]  #: texts by file name
    command: str  #: for the first of its workloads


def best(result: SweepRecord) -> list[Best]:
    """The configurations on the sweep's fronts, the best quality first, at most `_MOST`."""
    rows: dict[int, Row] = {}
    if result.quality:
        for cost in result.costs:
            for row in reversed(result.front(cost).rows):
                rows.setdefault(row["configuration"], row)
    return [_ready(result, row) for row in list(rows.values())[:_MOST]]


def save_best(result: SweepRecord, folder: Path) -> list[Path]:
    """Write the files and commands of the best configurations; returns their paths."""
    chosen = best(result)
    paths = []
    for entry in chosen:
        for name, text in entry.files.items():
            paths.append(write_text(folder / name, text))
    if chosen:
        lines = "".join(f"{entry.command}\n" for entry in chosen)
        paths.append(write_text(folder / "commands.txt", lines))
    return paths


def _ready(result: SweepRecord, row: Row) -> Best:
    values = result.points[row["configuration"]].values
    stem = f"{row['configuration']:04d}"
    resolver = Resolver()
    files: dict[str, str] = {}
    words = ["hfp8sim"]
    if "network" in values:
        words += ["train", str(values["network"])]
        recipe = resolver.recipe(values)
        words += ["--recipe", _recipe_file(recipe, values, stem, files)]
    else:
        words += ["run", str(cell(values["workload"]))]
        name = f"{stem}.profile.toml"
        files[name] = profile_toml(resolver.profile(values))
        words += ["--profile", f"best/{name}"]
    if "network" not in values:
        name = f"{stem}.machine.toml"
        files[name] = machine_toml(resolver.machine(values))
        words += ["--machine", f"best/{name}"]
    for key, option in _OPTIONS.items():
        if values.get(key) not in (None, "", PLAIN[key].default):
            words += [option, str(cell(values[key]))]
    if values.get("time_only"):
        words.append("--time-only")
    return Best(row, files, shlex.join(words))


def _recipe_file(recipe: Recipe, values: Values, stem: str, files: dict[str, str]) -> str:
    """The recipe's argument on the command line, and its file if it is not a shipped one."""
    changed = any(key.startswith(("recipe.", "profile.")) for key in values)
    base = values.get("recipe", "hfp8")
    if isinstance(base, str) and not changed:
        return base
    try:
        files[f"{stem}.recipe.toml"] = recipe_toml(recipe, f"{stem}.profile.toml", files)
    except InputError as error:
        files[f"{stem}.recipe.toml"] = f"# {error}\n"
    return f"best/{stem}.recipe.toml"


# -- TOML --------------------------------------------------------------------------------------------


def profile_toml(profile: Profile) -> str:
    """A profile as a file that `--profile` takes; formats that do not ship are defined in it."""
    fields = {f.name: getattr(profile, f.name) for f in dataclasses.fields(profile)}
    own: dict[str, FloatFormat] = {}
    for name, value in fields.items():
        if isinstance(value, FloatFormat):
            fields[name] = value.name
            if value.name not in formats() or get_format(value.name) != value:
                own[value.name] = value
    text = _table(fields)
    for name, record in own.items():
        properties = {k: v for k, v in dataclasses.asdict(record).items() if k != "name"}
        text += f"\n[format.{_key(name)}]\n{_table(properties)}"
    return text


def machine_toml(machine: Machine) -> str:
    """A machine as a file that `--machine` takes."""
    fields = {f.name: getattr(machine, f.name) for f in dataclasses.fields(machine)}
    sections: dict[str, Any] = {
        name: value for name, value in fields.items() if dataclasses.is_dataclass(value)
    }
    text = _table({name: value for name, value in fields.items() if name not in sections})
    for name, record in sections.items():
        text += f"\n[{name}]\n{_table(dataclasses.asdict(record))}"
    return text


def recipe_toml(recipe: Recipe, profile_file: str, files: dict[str, str]) -> str:
    """A recipe as a file that `--recipe` takes.

    Args:
        profile_file: the name of the profile's file, which is added to `files` where the profile has no name that
            every process knows.

    Raises:
        InputError: a format of a site that has no name in every process.
    """
    profile: Any = recipe.profile
    if isinstance(profile, Profile):
        files[profile_file] = profile_toml(profile)
        profile = profile_file
    top = {
        "name": recipe.name, "summary": recipe.summary, "base": "fp32", "profile": profile,
        "policy": recipe.policy, "rule": recipe.rule, "momentum_roundings": recipe.momentum_roundings,
    }  # fmt: skip
    text = _table(top)
    for name in dict.fromkeys([*recipe.sites, *recipe.quantisers]):
        site = recipe.sites.get(name)
        fields = dataclasses.asdict(site) if site is not None else {}
        if not isinstance(fields.get("format", ""), str):
            raise InputError(f"{recipe.name}: the format of site {name} has no name")
        if name in recipe.quantisers:
            fields["quantiser"] = recipe.quantisers[name]
        text += f"\n[site.{name}]\n{_table(fields)}"
    return text + f"\n[loss_scale]\n{_table(dataclasses.asdict(recipe.loss_scale))}"


def _table(fields: Mapping[str, Any]) -> str:
    return "".join(
        f"{key} = {_value(value)}\n" for key, value in fields.items() if value is not None
    )


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
