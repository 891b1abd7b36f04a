"""Options that several commands share, each declared once."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from hfp8sim.errors import InputError
from hfp8sim.report.forms import COMPARISON_FORMS, FORMS

if TYPE_CHECKING:
    from hfp8sim.network import Workload
    from hfp8sim.units import Profile

WorkloadArgument = Annotated[str, typer.Argument(help="a shipped workload's name, or a file")]
WorkloadsArgument = Annotated[
    list[str],
    typer.Argument(
        help="a shipped workload's name, or a file; of several, or of a folder's files, a line each"
    ),
]
BatchOption = Annotated[
    int | None, typer.Option("--batch", help="the mini-batch of a shipped network or an ONNX model")
]
DimOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="NAME=SIZE",
        help="the size of an ONNX model's free dimension, by its name or by INPUT:AXIS",
    ),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME=1x3x48x320", help="the shape of an ONNX model's input"),
]
InputsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--inputs",
        metavar="[NAME=]FILE",
        help="run an ONNX model on this array (.npy), or on arrays by input name (.npz)",
    ),
]
AllowPartialOption = Annotated[
    bool, typer.Option("--allow-partial", help="run a model of which products cannot be read")
]
MachineOption = Annotated[
    str, typer.Option("--machine", help="a preset's name, a TOML file, or a SCALE-Sim .cfg")
]
ProfileOption = Annotated[str, typer.Option("--profile", help="the arithmetic: `hfp8sim profiles`")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE,…", help="change a profile's fields")
]
PolicyOption = Annotated[
    str,
    typer.Option(
        "--policy",
        metavar="RULE=PROFILE,…",
        help="layers with another profile: first, last, depthwise or a pattern of names",
    ),
]
PhaseOption = Annotated[str, typer.Option("--phase", help="phases, comma-separated")]
TimeModelOption = Annotated[
    str | None,
    typer.Option(
        "--time-model",
        # A literal: to import the registry here would slow down `--help`. A test compares the names.
        help="pipelined, scalesim-os, scalesim-ws, scalesim-is or multicast; else the machine's own",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="of drawn tensors and stochastic rounding")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="worker threads; all cores by default")
]
MaxMacsOption = Annotated[
    int,
    typer.Option(
        "--max-macs",
        help="emulate a sample of a layer's outputs beyond this many MACs; 0: never",
    ),
]
TimeOnlyOption = Annotated[
    bool, typer.Option("--time-only", help="compute no values: how long every layer takes, at once")
]
EventsOption = Annotated[
    int,
    typer.Option(
        "--events", metavar="N", help="count events in one of N blocks of 64 rows; 1: in all"
    ),
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        "--columns", metavar="NAME,…", help="the columns of a CSV; all of them by default"
    ),
]

CalibrateOption = Annotated[
    str | None,
    typer.Option(
        "--calibrate",
        metavar="METHOD",
        help="choose each operand's exponent bias or scale: none, max, percentile, percentile=P or mse",
    ),
]
CalibrateOnOption = Annotated[
    str | None,
    typer.Option(
        "--calibrate-on", metavar="WORKLOAD", help="calibrate on the tensors of this trace or model"
    ),
]

#: The forms of `--format`, from the registry of renderers.
ReportForm = enum.StrEnum("ReportForm", {name: name for name in FORMS})  # type: ignore[misc]
ComparisonForm = enum.StrEnum(  # type: ignore[misc]
    "ComparisonForm", {name: name for name in COMPARISON_FORMS}
)
REPORT_TABLE, COMPARISON_TABLE = ReportForm("table"), ComparisonForm("table")

FormOption = Annotated[ReportForm, typer.Option("--format", help="form of the report")]
ComparisonFormOption = Annotated[
    ComparisonForm, typer.Option("--format", help="form of the comparison")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="write the report into this directory")
]

#: Missing products that a refusal names.
_MOST_LINES = 6
#: The defaults of `--phase` and `--max-macs`.
ALL_PHASES, MAX_MACS = "fwd,dgrad,wgrad", 1 << 28


@dataclasses.dataclass(repr=False, eq=False)
class RunOptions:
    """What `run` and `compare` take to run a workload."""

    batch: BatchOption = None
    dim: DimOption = None
    machine: MachineOption = "rapid-core"
    profile: ProfileOption = "hfp8"
    set_: SetOption = None
    policy: PolicyOption = ""
    phase: PhaseOption = ALL_PHASES
    time_model: TimeModelOption = None
    seed: SeedOption = 0
    threads: ThreadsOption = None
    max_macs: MaxMacsOption = MAX_MACS
    time_only: TimeOnlyOption = False
    events: EventsOption = 1
    input_: InputOption = None
    inputs: InputsOption = None
    allow_partial: AllowPartialOption = False
    calibrate: CalibrateOption = None
    calibrate_on: CalibrateOnOption = None

    def load(self, workload: str) -> Workload:
        """The workload of the argument, the batch and the free dimensions.

        Raises `InputError` if products of it cannot be read, unless `--allow-partial` is given.
        """
        from hfp8sim.cli.common import say

        loaded = load(
            workload, self.batch, self.dim, self.input_, self.inputs, time_only=self.time_only
        )
        if loaded.missing and not self.allow_partial:
            for line in (*loaded.warnings, *loaded.missing[1:_MOST_LINES]):
                say(line)
            if len(loaded.missing) > _MOST_LINES:
                say(f"and {len(loaded.missing) - _MOST_LINES} more; `convert` lists all")
            count = f"{len(loaded.missing)} product{'s' if len(loaded.missing) > 1 else ''}"
            raise InputError(
                f"{loaded.missing[0]}; {count} missing, --allow-partial runs the others"
            )
        return loaded

    def arithmetic(self) -> Profile:
        """The profile with the fields of `--set`."""
        return chosen_profile(self.profile, self.set_)

    def common(self) -> dict[str, Any]:
        """What `simulate` takes from the options that `--vary` cannot change."""
        from hfp8sim.simulation.variants import split_list

        if self.max_macs < 0:
            raise InputError(f"--max-macs is {self.max_macs}, must be 0 or more")
        return {
            "phases": split_list(self.phase),
            "policy": self.policy,
            "threads": self.threads,
            "max_macs": self.max_macs or None,
            "time_only": self.time_only,
            "events_every": self.events,
            "calibrate_on": self.calibrate_on,
        }


@functools.cache
def _run_parameters() -> dict[str, inspect.Parameter]:
    """The fields of `RunOptions` as parameters of a function."""
    hints = get_type_hints(RunOptions, include_extras=True)
    return {
        field.name: inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY,
            default=field.default, annotation=hints[field.name],
        )
        for field in dataclasses.fields(RunOptions)
    }  # fmt: skip


def with_run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace a command's parameter of type `RunOptions` by one option for each of its fields."""
    fields = _run_parameters()
    parameters: list[inspect.Parameter] = []
    place = ""
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.annotation is RunOptions:
            place = parameter.name
            parameters += fields.values()
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def expanded(**values: Any) -> Any:
        options = RunOptions(**{name: values.pop(name) for name in fields})
        return command(**{place: options}, **values)

    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return expanded


def load(
    workload: str,
    batch: int | None,
    dims: list[str] | None,
    shapes: list[str] | None = None,
    files: list[str] | None = None,
    *,
    time_only: bool = False,
) -> Workload:
    """The workload that the argument and the options name; its values are left out if `time_only`."""
    from hfp8sim.workloads import load_workload

    if files and not workload.lower().endswith(".onnx"):
        raise InputError(f"{workload}: --inputs goes with an ONNX model")
    inputs = input_arrays(files)
    values = False if time_only else True if inputs else None
    return load_workload(
        workload, batch, sizes(dims, shapes), inputs=inputs, values=values, weights=not time_only
    )


def input_arrays(files: list[str] | None) -> dict[str, Any]:
    """The arrays of `--inputs`, by input name; the name is "" for an array that is given without one."""
    import numpy as np

    from hfp8sim.cli.common import read_arrays

    arrays: dict[str, Any] = {}
    for text in files or ():
        name, _, path = ("", "", text) if Path(text).exists() else text.rpartition("=")
        if Path(path).suffix.lower() != ".npy":
            arrays |= read_arrays(Path(path))
            continue
        try:
            # Mapped first, since that compares the size that the file declares with its own.
            arrays[name] = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or 'not an .npy file'}") from None
        except (ValueError, EOFError):
            raise InputError(f"{path}: torn, or not an .npy file of a plain array") from None
    return arrays


def sizes(
    dims: list[str] | None, shapes: list[str] | None = None
) -> dict[str, int | tuple[int, ...]]:
    """Texts `name=size` and `name=1x3x48x320` as a dict."""
    by_name: dict[str, int | tuple[int, ...]] = {}
    for text in dims or ():
        name, equals, size = text.rpartition("=")
        if not equals or not size.isdecimal():
            raise InputError(f"--dim {text!r}: write it as name=size, as in sequence=128")
        by_name[name] = int(size)
    for text in shapes or ():
        name, equals, shape = text.rpartition("=")
        numbers = shape.lower().split("x")
        if not equals or not all(number.isdecimal() for number in numbers):
            raise InputError(f"--input {text!r}: write it as name=shape, as in x=1x3x48x320")
        by_name[name] = tuple(map(int, numbers))
    return by_name


def chosen_profile(profile: str, assignments: list[str] | None) -> Profile:
    """The profile of `--profile` with the fields of `--set`."""
    from hfp8sim.simulation.variants import changed_profile

    return changed_profile(profile, assignments or [])


def calibrated(
    workload: Workload, profile: Profile, method: str | None, on: str | None, **options: Any
) -> Workload:
    """The workload with the calibration of `--calibrate` and `--calibrate-on`; as it is without them."""
    from hfp8sim.simulation import calibrate

    if method is None:
        if on is not None:
            raise InputError("--calibrate-on needs --calibrate max, percentile or mse")
        return workload
    return calibrate(workload, profile, method, on=on, **options)


def csv_columns(text: str, form: str) -> list[str]:
    """The columns of `--columns`; none: all. `InputError` for unknown ones, or another form than CSV."""
    from hfp8sim.errors import unknown
    from hfp8sim.report.columns import FLAT
    from hfp8sim.simulation.variants import split_list

    names = split_list(text)
    if names and form != "csv":
        raise InputError(f"--columns goes with --format csv, not {form}")
    for name in names:
        if name not in FLAT:
            raise unknown("column", name, FLAT)
    return names
