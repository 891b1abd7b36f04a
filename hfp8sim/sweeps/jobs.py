"""Jobs: the points of a sweep with every name resolved, and the key of their content.

A key is a digest of everything that the result depends on: the sources of the emulator, the workload's layers and
tensors, the records of profile, machine and recipe, the seed. Equal keys mean equal results, so a file named by
the key can be taken over by any sweep.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hfp8sim._numba.sources import this_package
from hfp8sim.errors import InputError, check_whole_number, located
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.machine import Machine, get_machine
from hfp8sim.network import Workload, check_phases
from hfp8sim.recipes import Recipe, get_recipe
from hfp8sim.recipes.defaults import training_defaults
from hfp8sim.simulation.provenance import digest, profile_fields
from hfp8sim.simulation.run import DEFAULT_MAX_MACS
from hfp8sim.sweeps.keys import PLAIN, cell
from hfp8sim.sweeps.plan import UnfitError, Values
from hfp8sim.sweeps.store import LAYOUT
from hfp8sim.systems import System, load_system
from hfp8sim.timing import get_model
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.policy import parse
from hfp8sim.workloads import load_workload

#: Multiply-accumulates that a layer and phase costs beside its values; for the estimate of the time left.
_TASK_MACS = 1 << 21

_FORMATS = ("a_format", "b_format", "error_format", "accumulator", "between_chunks")


@dataclasses.dataclass(frozen=True)
class Job:
    """One point as a worker takes it. It can be pickled.

    Attributes:
        key: digest of `settings`; the name of the point's file.
        settings: what the result depends on, in JSON's own types.
        arguments: of `simulate`, or of a training.
        training: whether it is a training.
        formats: that the profiles name, for processes that have not registered them.
        work: about how long it takes, in multiply-accumulates or training steps.
        threads: worker threads; no result depends on them.
        checkpoint: the file that a training writes its network into; "" for none.
    """

    key: str
    settings: dict[str, Any]
    arguments: dict[str, Any]
    training: bool
    formats: tuple[FloatFormat, ...]
    work: int
    threads: int | None = None
    checkpoint: str = ""


class Resolver:
    """Names of workloads, profiles, machines and recipes as records, each read once."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._records: dict[tuple[str, str], Any] = {}
        self._computed: dict[tuple[Callable[[Any], Any], int], tuple[Any, Any]] = {}
        self._macs: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        self._changed: dict[tuple[int, str], tuple[Any, Any]] = {}

    def lookup(self, point: Values, key: str) -> Any:
        """The value of any key at a point; formats by name.

        Raises:
            InputError: a key that points of this kind do not have.
        """
        if key in point:
            return cell(point[key])
        owner, dot, field = key.partition(".")
        if not dot:
            return PLAIN[key].default if PLAIN[key].default is not None else ""
        if owner == "machine":
            return self.machine(point)[field]
        if owner == "system" and (system := self.system(point)) is not None:
            return functools.reduce(getattr, field.split("."), system)
        if owner == "profile":
            value = getattr(self.profile(point), field)
            return value.name if isinstance(value, FloatFormat) else value
        raise InputError(f"{key} is not among the sweep's keys")

    # -- records -------------------------------------------------------------------------------------

    def machine(self, point: Values) -> Machine:
        """The point's machine with its changed keys."""
        base: Machine = self._named("machine", self._machine_name(point), get_machine)
        changes = _changes(point, "machine.")
        with _unfit():
            machine: Machine = self._replaced(base, changes)
        return machine

    def _replaced(self, base: Any, changes: dict[str, Any]) -> Any:
        """A record with some fields changed, made once."""
        if not changes:
            return base
        entry = id(base), repr(changes)
        if entry not in self._changed:
            self._changed[entry] = base, base.replace(**changes)
        return self._changed[entry][1]

    def _machine_name(self, point: Values) -> str | Machine:
        """The machine that a point names; else that of its system, or the default."""
        if "machine" in point or "system" not in point:
            return point.get("machine", PLAIN["machine"].default)  # type: ignore[no-any-return]
        system: System = self._named("system", point["system"], load_system)
        return system.machine or PLAIN["machine"].default  # type: ignore[no-any-return]

    def system(self, point: Values) -> System | None:
        """The point's system with its changed keys; None without one."""
        if "system" not in point:
            return None
        base: System = self._named("system", point["system"], load_system)
        changes = _changes(point, "system.")
        link = {k.partition(".")[2]: v for k, v in changes.items() if k.startswith("link.")}
        fields = {key: value for key, value in changes.items() if not key.startswith("link.")}
        with _unfit():
            return base.replace(**fields, link=dataclasses.replace(base.link, **link))

    def profile(self, point: Values) -> Profile:
        """The point's profile with its changed fields; of a training, that of its recipe."""
        if "recipe" in point or "network" in point:
            return get_profile(self.recipe(point).profile)
        base = self._named("profile", point.get("profile", PLAIN["profile"].default), get_profile)
        with _unfit():
            profile: Profile = self._replaced(base, _changes(point, "profile."))
        return profile

    def recipe(self, point: Values) -> Recipe:
        """The point's recipe with its changed keys, and with the changed fields of its profile."""
        recipe: Recipe = self._named("recipe", point.get("recipe", "hfp8"), get_recipe)
        changes = _changes(point, "recipe.")
        with _unfit():
            recipe = recipe.replace(**changes) if changes else recipe
        if not _changes(point, "profile."):
            return recipe
        if not recipe.emulated:
            raise UnfitError(
                f"recipe {recipe.name} emulates no product, so that no profile.* changes it"
            )
        with _unfit():
            profile = get_profile(recipe.profile).replace(**_changes(point, "profile."))
        return recipe.replace(profile=profile)

    def workload(self, source: str | Workload, weights: bool) -> Workload:
        """The workload, without its values unless `weights`."""
        if isinstance(source, Workload):
            return source
        what = "workload" if weights else "shapes"
        loaded: Workload = self._named(
            what, source, lambda name: load_workload(name, weights=weights)
        )
        return loaded

    def check_names(self, point: Values) -> None:
        """`InputError` for a name of a point that is unknown, apart from how its values fit together."""
        if "network" in point:
            self._named("recipe", point.get("recipe", "hfp8"), get_recipe)
        else:
            self._named("profile", point.get("profile", PLAIN["profile"].default), get_profile)
            self.workload(point["workload"], not point.get("time_only"))
        self._named("machine", self._machine_name(point), get_machine)

    def _named(self, what: str, source: Any, load: Any) -> Any:
        """The record of a name, read once; a record is returned as it is."""
        if not isinstance(source, str | Path):
            return load(source)
        entry = what, str(source)
        if entry not in self._records:
            self._records[entry] = load(source)
        return self._records[entry]

    def _once(self, function: Callable[[Any], Any], record: Any) -> Any:
        """What a function gives for a record, computed once. The record is kept, so that its `id` stays its own."""
        entry = function, id(record)
        if entry not in self._computed:
            self._computed[entry] = record, function(record)
        return self._computed[entry][1]

    def _layer_macs(self, workload: Workload, phases: tuple[str, ...]) -> list[int]:
        """Multiply-accumulates of each layer and phase, computed once."""
        entry = self._once(digest, workload), phases
        if entry not in self._macs:
            self._macs[entry] = [
                layer.shape(phase).macs
                for layer in workload
                for phase in phases
                if phase in layer.phases
            ]
        return self._macs[entry]

    def bits(self, point: Values) -> dict[str, int]:
        """The widths of the point's formats: the widest operand, the accumulator, the total of chunks."""
        if "network" in point and not self.recipe(point).emulated:
            return {"operand_bits": 32, "accumulator_bits": 32, "between_bits": 32}
        profile = self.profile(point)
        operands = (profile.a_format, profile.b_format, profile.error_format)
        return {
            "operand_bits": max(get_format(fmt).bits for fmt in operands),
            "accumulator_bits": get_format(profile.accumulator).bits,
            "between_bits": get_format(profile.between_chunks).bits,
        }

    # -- jobs ----------------------------------------------------------------------------------------

    def job(self, point: Values) -> Job:
        """The job of a point.

        Raises:
            InputError: values that do not fit together.
        """
        return self._training(point) if "network" in point else self._run(point)

    def _run(self, point: Values) -> Job:
        time_only = bool(point.get("time_only", False))
        source = point["workload"]
        workload = self.workload(source, not time_only)
        machine, profile = self.machine(point), self.profile(point)
        rules = parse(point.get("policy"))
        phases = check_phases(
            part.strip()
            for part in str(cell(point.get("phases", PLAIN["phases"].default))).split(",")
        )
        max_macs = point.get("max_macs", DEFAULT_MAX_MACS) or None
        seed = check_whole_number(point.get("seed", 0), "seed", 0)
        model = get_model(point.get("time_model") or machine.time_model).name
        events_every = check_whole_number(point.get("events_every", 1), "events_every", 1)
        arguments = {
            "workload": source, "machine": machine, "profile": profile, "seed": seed, "phases": phases,
            "policy": rules, "time_model": model, "max_macs": max_macs, "time_only": time_only,
            "events_every": events_every, "calibrate": point.get("calibrate"),
            "system": self.system(point),
        }  # fmt: skip
        settings = {
            "layout": LAYOUT,
            "sources": sources("hfp8sim.simulation"),
            "workload": self._once(digest, workload),
            "machine": self._once(machine_fields, machine),
            "profile": self._once(plain_profile, profile),
            "policy": [[rule, plain_profile(other)] for rule, other in rules],
            "system": system_fields(self.system(point)),
        } | {
            name: arguments[name]
            for name in (
                "seed", "phases", "time_model", "max_macs", "time_only", "events_every", "calibrate",
            )
        }  # fmt: skip
        macs = self._layer_macs(workload, phases)
        least = 0 if time_only else 1 << 62
        most = min(least, max_macs or least)
        work = sum(min(count, most) + _TASK_MACS for count in macs)
        return self._made(settings, arguments, False, [profile, *(p for _, p in rules)], work)

    def _training(self, point: Values) -> Job:
        recipe, machine = self.recipe(point), self.machine(point)
        names = (
            "network",
            "data",
            "optimiser",
            "rate",
            "momentum",
            "decay",
            "batch",
            "steps",
            "seed",
            "weights",
        )
        given = training_defaults(str(point["network"]))._asdict() | {
            name: point[name] for name in names if name in point
        }
        checkpoint = str(point.get("checkpoint") or "")
        model = get_model(point.get("time_model") or machine.time_model).name
        arguments = {
            "settings": given, "recipe": recipe, "machine": machine, "time_model": model,
            "system": self.system(point),
        }  # fmt: skip
        settings = {
            "layout": LAYOUT,
            "sources": sources("hfp8sim.training.runs"),
            "network_source": _network_source(str(given["network"])),
            "torch": _torch_version(),
            "machine": self._once(machine_fields, machine),
            "time_model": model,
            "system": system_fields(self.system(point)),
            "recipe": repr(recipe),
        } | given
        if given.get("weights"):
            given["weights"] = str(given["weights"])
            settings["weights"] = _file_digest(given["weights"])
        if checkpoint:
            settings["checkpoint"] = checkpoint
        profiles = [get_profile(recipe.profile)] if recipe.emulated else []
        profiles += [profile for _, profile in parse(recipe.policy)] if recipe.emulated else []
        job = self._made(settings, arguments, True, profiles, int(given.get("steps", 300)))
        return dataclasses.replace(job, checkpoint=checkpoint)

    def _made(
        self, settings: dict[str, Any], arguments: dict[str, Any], training: bool,
        profiles: list[Profile], work: int,
    ) -> Job:  # fmt: skip
        plain = json.loads(json.dumps(settings, sort_keys=True))
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        values = (getattr(p, name) for p in profiles for name in _FORMATS)
        named = dict.fromkeys(get_format(value) for value in values if isinstance(value, str))
        return Job(key, plain, arguments, training, tuple(named), work, self._threads)


def _changes(point: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The point's values of keys with a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in point.items() if key.startswith(prefix)}


@contextlib.contextmanager
def _unfit() -> Iterator[None]:
    """Mark an `InputError` inside the `with` block as one of values that do not fit together."""
    try:
        yield
    except InputError as error:
        raise UnfitError(str(error)) from None


@functools.cache
def sources(module: str) -> str:
    """A digest of all sources that a module can reach."""
    return this_package().digest(module)


def plain_profile(profile: Profile) -> dict[str, Any]:
    """A profile as a key holds it: every field but the summary, formats by all their properties."""
    fields = profile_fields(profile)
    del fields["summary"]
    for name in _FORMATS:
        record = dataclasses.asdict(get_format(getattr(profile, name)))
        del record["source"]
        fields[name] = record
    return fields


def machine_fields(machine: Machine) -> dict[str, Any]:
    """A machine as a key holds it: without its name and remarks."""
    remarks = ("name", "summary", "assumed", "inferred", "notes")
    return {k: v for k, v in dataclasses.asdict(machine).items() if k not in remarks}


def system_fields(system: System | None) -> dict[str, Any] | None:
    """A system as a key holds it: without its names."""
    if system is None:
        return None
    remarks = ("name", "summary", "machine")
    fields = {k: v for k, v in dataclasses.asdict(system).items() if k not in remarks}
    return fields | {"sources": sources("hfp8sim.systems")}


def _network_source(network: str) -> str:
    """A digest of the file that defines a network of the user's; "" for a shipped one."""
    module, colon, _ = network.partition(":")
    if not colon:
        return ""
    with located(f"network {network}"):
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError) as error:
            raise InputError(str(error)) from None
        if spec is None or not spec.origin:
            raise InputError(f"there is no module {module}")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def _file_digest(path: str) -> str:
    """A digest of a file; `InputError` if it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


@functools.cache
def _torch_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        raise InputError('trainings need an extra: pip install "hfp8sim[torch]"') from None
