"""Commands that make, show and compare reports."""

from __future__ import annotations

import enum
import itertools
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfp8sim.cli.common import (
    BatchOption,
    DimOption,
    WorkloadArgument,
    app,
    console,
    load,
    progress_bar,
    say,
)
from hfp8sim.errors import InputError
from hfp8sim.report.forms import COMPARISON_FORMS, FORMS

if TYPE_CHECKING:
    from hfp8sim.report.report import Report
    from hfp8sim.units import Profile

#: Exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130

#: Seconds between two writings of the report so far.
CHECKPOINT_SECONDS = 10.0


Form = enum.StrEnum("Form", {name: name for name in FORMS})  # type: ignore[misc]
CompareForm = enum.StrEnum("CompareForm", {name: name for name in COMPARISON_FORMS})  # type: ignore[misc]

TABLE, COMPARE_TABLE = Form("table"), CompareForm("table")

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
        metavar="RULE=PROFILE,…",
        help="layers with another profile: first, last, depthwise or a pattern of names",
    ),
]
PhaseOption = Annotated[str, typer.Option("--phase", help="phases, comma-separated")]
TimeModelOption = Annotated[
    str | None,
    typer.Option(help="pipelined, scalesim-os, scalesim-ws or scalesim-is; else the machine's own"),
]
ColumnsOption = Annotated[
    str, typer.Option(metavar="NAME,…", help="the columns of a CSV; all of them by default")
]
SeedOption = Annotated[int, typer.Option(help="of drawn tensors and stochastic rounding")]
ThreadsOption = Annotated[int | None, typer.Option(help="worker threads; all cores by default")]
MaxMacsOption = Annotated[
    int, typer.Option(help="emulate a sample of a layer's outputs beyond this many MACs; 0: never")
]
TimeOnlyOption = Annotated[
    bool, typer.Option("--time-only", help="compute no values: how long every layer takes, at once")
]


def settings(profile: str, assignments: list[str]) -> Profile:
    """A profile with fields replaced, values typed as the field is.

    Args:
        assignments: texts of `key=value`, one or more with commas between.
    """
    from hfp8sim.units import get_profile

    chosen = get_profile(profile)
    fields = dict(assignment(text, chosen) for text in listed(",".join(assignments)))
    return chosen.replace(**fields) if fields else chosen


def assignment(text: str, profile: Profile) -> tuple[str, Any]:
    """The field and value of one `key=value`."""
    from hfp8sim.errors import unknown
    from hfp8sim.units.profile import FIELDS

    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text!r}: write it as key=value")
    if key not in FIELDS:
        raise unknown("profile field", key, FIELDS)
    if not isinstance(getattr(profile, key), int):
        return key, value
    try:
        return key, int(value)
    except ValueError:
        raise InputError(f"--set {key}={value}: {key} must be an integer") from None


def listed(text: str) -> list[str]:
    """`fwd,dgrad` as a list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def csv_columns(text: str, output: Form) -> list[str]:
    """The columns a CSV file is to hold; none: all. `InputError` for unknown ones, or another form."""
    from hfp8sim.errors import unknown
    from hfp8sim.report.columns import FLAT

    names = listed(text)
    if names and output.value != "csv":
        raise InputError(f"--columns goes with --format csv, not {output.value}")
    for name in names:
        if name not in FLAT:
            raise unknown("column", name, FLAT)
    return names


def macs_limit(max_macs: int) -> int | None:
    """What `simulate` takes for --max-macs."""
    if max_macs < 0:
        raise InputError(f"--max-macs is {max_macs}, must be 0 or more")
    return max_macs or None


@app.command()
def run(
    workload: WorkloadArgument,
    batch: BatchOption = None,
    dim: DimOption = None,
    machine: MachineOption = "rapid-core",
    profile: ProfileOption = "hfp8",
    set_: SetOption = None,
    policy: PolicyOption = "",
    phase: PhaseOption = "fwd,dgrad,wgrad",
    time_model: TimeModelOption = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    max_macs: MaxMacsOption = 1 << 28,
    time_only: TimeOnlyOption = False,
    out: Annotated[Path | None, typer.Option(help="write the report into this directory")] = None,
    output: Annotated[Form, typer.Option("--format", help="form of the report")] = TABLE,
    columns: ColumnsOption = "",
    timeline: Annotated[
        Path | None, typer.Option(help="write a Chrome/Perfetto trace here")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="go on from the partial report in --out, if there is one"),
    ] = False,
) -> None:
    """Run a workload and report accuracy and throughput, layer by layer."""
    import hfp8sim as hs
    from hfp8sim.files import check_folder, write_text
    from hfp8sim.simulation.run import Interrupted
    from hfp8sim.timing import check_timeline

    chosen, limit = settings(profile, set_ or []), macs_limit(max_macs)
    names = csv_columns(columns, output)
    if timeline:
        check_timeline(time_model or hs.get_machine(machine).time_model)
        check_folder(timeline.parent)
    loaded = load(workload, batch, dim)
    for warning in loaded.warnings if output.value != "table" or out else ():
        say(warning)  # the table has them below it
    kept = Kept(out, loaded.name)
    before = kept.read(resume)
    try:
        with (
            stoppable(lambda: leave(kept, output, names)) as stop,
            progress_bar(loaded.name) as bar,
        ):
            report = hs.simulate(
                loaded, machine, chosen, seed, phases=listed(phase), policy=policy,
                time_model=time_model, threads=threads, max_macs=limit, time_only=time_only,
                progress=stop.heeded(bar), resume=before, checkpoint=kept.now_and_then,
            )  # fmt: skip
    except Interrupted as stopped:
        kept.last = stopped.report
        leave(kept, output, names)
        sys.exit(INTERRUPTED)
    report = with_command(report)
    if timeline:
        write_text(timeline, report.to_timeline())
    deliver(report, output, out, names)
    kept.remove()


@app.command()
def show(
    report: Annotated[Path, typer.Argument(help="a report in JSON")],
    out: Annotated[Path | None, typer.Option(help="write it into this directory")] = None,
    output: Annotated[Form, typer.Option("--format", help="form of the report")] = TABLE,
    columns: ColumnsOption = "",
) -> None:
    """Show a report that was written as JSON, in any form."""
    from hfp8sim.report.report import Report

    deliver(Report.load(report), output, out, csv_columns(columns, output))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="reports in JSON; or a workload, with --vary")],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2,…",
            help="run the workload once for each value of machine, profile, time_model, seed, or a "
            "profile's field; several give every combination",
        ),
    ] = None,
    columns: Annotated[
        str, typer.Option(metavar="NAME,…", help="the columns to compare layer by layer")
    ] = "",
    batch: BatchOption = None,
    dim: DimOption = None,
    machine: MachineOption = "rapid-core",
    profile: ProfileOption = "hfp8",
    set_: SetOption = None,
    policy: PolicyOption = "",
    phase: PhaseOption = "fwd,dgrad,wgrad",
    time_model: TimeModelOption = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    max_macs: MaxMacsOption = 1 << 28,
    time_only: TimeOnlyOption = False,
    out: Annotated[
        Path | None, typer.Option(help="write the comparison, and the runs as JSON, here")
    ] = None,
    output: Annotated[
        CompareForm, typer.Option("--format", help="form of the comparison")
    ] = COMPARE_TABLE,
) -> None:
    """Compare two or more runs: their totals, and what changed in every layer."""
    import hfp8sim as hs
    from hfp8sim.files import check_folder, write_text
    from hfp8sim.report.comparison import check_columns
    from hfp8sim.report.comparison_table import print_comparison
    from hfp8sim.report.report import Report
    from hfp8sim.report.report import compare as side_by_side

    chosen_columns = check_columns(listed(columns))
    if out is not None:
        check_folder(out)
    if vary:
        if len(runs) != 1:
            raise InputError("--vary takes one workload; without it, give reports in JSON")
        loaded, phases, limit = load(runs[0], batch, dim), listed(phase), macs_limit(max_macs)
        planned = variants(vary, machine, profile, set_ or [], time_model, seed)
        made = []
        for name, fixed in planned:
            with stoppable(nothing_written) as stop, progress_bar(name) as bar:
                report = hs.simulate(
                    loaded, **fixed, phases=phases, policy=policy, threads=threads, max_macs=limit,
                    time_only=time_only, progress=stop.heeded(bar),
                )  # fmt: skip
            made.append(with_command(report))
        both = side_by_side(made)
        if out is not None:
            for letter, report in zip(both.letters, made, strict=True):
                print(write_text(out / f"{report.name}.{letter}.json", report.to_json()))
    else:
        if len(runs) < 2:
            raise InputError(
                "a comparison needs two reports in JSON, or a workload and what to vary, as in "
                f"{runs[0]} --vary chunk_length=16,64"
            )
        both = side_by_side([Report.load(path) for path in runs])
    content = None
    if output.value != "table" or out is not None:
        content = COMPARISON_FORMS[output.value].render(both, chosen_columns)
    if content is None:
        print_out(lambda shown: print_comparison(both, chosen_columns, shown))
    elif out is None:
        sys.stdout.write(content)
    else:
        print(write_text(out / f"comparison.{COMPARISON_FORMS[output.value].suffix}", content))


@app.command()
def theory(
    workload: WorkloadArgument,
    batch: BatchOption = None,
    dim: DimOption = None,
    profile: ProfileOption = "hfp8",
    set_: SetOption = None,
    policy: PolicyOption = "",
    phase: PhaseOption = "fwd,dgrad,wgrad",
    as_csv: Annotated[bool, typer.Option("--csv", help="comma-separated, all digits")] = False,
) -> None:
    """Say how many accumulator bits each layer's sums need by variance-retention theory."""
    from hfp8sim.report.theory import print_theory, render_csv
    from hfp8sim.simulation.run import predictions

    chosen = settings(profile, set_ or [])
    rows = predictions(load(workload, batch, dim), chosen, listed(phase), policy)
    if as_csv:
        sys.stdout.write(render_csv(rows))
    else:
        print_out(lambda shown: print_theory(rows, shown))


# -- what the commands share -----------------------------------------------------------------------


class Kept:
    """The partial report beside the one that is to come: DIR/WORKLOAD.partial.json."""

    def __init__(self, out: Path | None, workload: str) -> None:
        from hfp8sim.files import check_folder
        from hfp8sim.report.record import file_name

        if out is not None:
            check_folder(out)
        self.path = None if out is None else out / f"{file_name(workload)}.partial.json"
        self.last: Report | None = None  #: the rows so far
        self._written = time.monotonic()

    def read(self, resume: bool) -> Report | None:
        """The report to go on from."""
        from hfp8sim.report.report import Report

        if not resume:
            return None
        if self.path is None:
            raise InputError("--resume needs --out, the directory with the partial report")
        return Report.load(self.path) if self.path.exists() else None

    def write(self, report: Report) -> None:
        """Keep the report so far."""
        from hfp8sim.files import write_text

        if self.path is not None:
            write_text(self.path, with_command(report).to_json())
        self._written = time.monotonic()

    def now_and_then(self, report: Report) -> None:
        """`write`, unless the last one was a moment ago: no crash costs more than that."""
        self.last = report
        if time.monotonic() - self._written >= CHECKPOINT_SECONDS:
            self.write(report)

    def remove(self) -> None:
        """The whole report is there: the partial one goes."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Stop:
    """Ctrl-C and the polite request to end (SIGTERM): the first ends the run after the row that is being
    computed, the second at once.

    No exception is raised in the middle of a row: where it met Numba's compiler it could get lost in a
    callback, or leave a lock held that the worker threads wait for.
    """

    def __init__(self, last_words: Callable[[], object]) -> None:
        self.asked = False
        self.last_words = last_words

    def __call__(self, number: int, frame: object) -> None:
        if not self.asked:
            self.asked = True
            say("stopping after this layer; once more stops at once")
            return
        self.last_words()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)

    def heeded(self, progress: Callable[[int, int, str], None]) -> Callable[[int, int, str], None]:
        """A progress callback that ends the run between two rows."""

        def told(done: int, total: int, what: str) -> None:
            if self.asked and done < total:
                raise KeyboardInterrupt
            progress(done, total, what)

        return told


@contextmanager
def stoppable(last_words: Callable[[], object]) -> Iterator[Stop]:
    """Take the two signals inside; `last_words` are those of the second one. Once one came, further ones
    are ignored afterwards: the process is about to write down what it has, and to end."""
    stop, numbers = Stop(last_words), (signal.SIGINT, signal.SIGTERM)
    try:
        before = [signal.signal(number, stop) for number in numbers]
    except ValueError:  # not the main thread: signals do not come here
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, signal.SIG_IGN if stop.asked else handler)


def nothing_written() -> None:
    """The last words of a comparison."""
    say("interrupted; nothing was written")


def leave(kept: Kept, output: Form, names: Sequence[str]) -> None:
    """What an interrupted run leaves: the partial report, in the directory or on the output."""
    report = kept.last
    if report is None or not report.layers:
        say("interrupted before the first row was done; nothing was written")
        return
    done = f"interrupted after {len(report.layers)} of {report.planned} rows"
    if kept.path is None:
        deliver(with_command(report), output, None, names)
        say(f"{done}; with --out they are kept, and --resume goes on from there")
    else:
        kept.write(report)
        say(f"{done}; {kept.path} holds them, --resume goes on from there")


def with_command(report: Report) -> Report:
    """The report with the command line among its facts."""
    import dataclasses

    command = shlex.join(["hfp8sim", *sys.argv[1:]])
    return dataclasses.replace(report, facts={**report.facts, "command": command})


def deliver(report: Report, output: Form, out: Path | None, names: Sequence[str] = ()) -> None:
    """Print a report, or write it into a directory."""
    from hfp8sim.files import write_text
    from hfp8sim.report.table import print_report

    if output.value == "table" and out is None:
        print_out(lambda shown: print_report(report, shown))
        return
    content = FORMS[output.value].render(report, names)
    if out is None:
        sys.stdout.write(content)
    else:
        middle = ".partial" if report.partial else ""
        print(write_text(out / f"{report.name}{middle}.{FORMS[output.value].suffix}", content))


def print_out(show: Callable[[Any], object]) -> None:
    """Show on the standard output: as wide as a terminal is, elsewhere as `plain_text`."""
    from hfp8sim.report.table import plain_text

    shown = console()
    if shown.is_terminal:
        show(shown)
    else:
        sys.stdout.write(plain_text(show))


def combinations(vary: list[str]) -> Iterator[dict[str, str]]:
    """Every combination of the values of `key=v1,v2` texts."""
    axes: dict[str, list[str]] = {}
    for text in vary:
        key, equals, values = text.partition("=")
        parts = [part.strip() for part in values.split(",") if part.strip()]
        if not equals or not parts:
            raise InputError(f"--vary {text!r}: write it as key=value,value,…")
        axes.setdefault(key, []).extend(parts)
    for chosen in itertools.product(*axes.values()):
        yield dict(zip(axes, chosen, strict=True))


def variants(
    vary: list[str], machine: str, profile: str, set_: list[str], time_model: str | None, seed: int
) -> list[tuple[str, dict[str, Any]]]:
    """What tells each run of a comparison from the others, and what it hands to `simulate`. A wrong value
    is refused before the first run, and so is a comparison of one."""
    import hfp8sim as hs
    from hfp8sim.timing import get_model

    given = {"machine": machine, "profile": profile, "time_model": time_model, "seed": seed}
    planned: list[tuple[str, dict[str, Any]]] = []
    for varied in combinations(vary):
        options: dict[str, Any] = given | {k: v for k, v in varied.items() if k in given}
        fields = [f"{k}={v}" for k, v in varied.items() if k not in given]
        model = options["time_model"]
        if model is not None:
            get_model(model)
        fixed = {
            "machine": hs.get_machine(options["machine"]),
            "profile": settings(options["profile"], [*set_, *fields]),
            "time_model": model,
            "seed": whole_number("seed", options["seed"]),
        }
        planned.append((", ".join(varied.values()), fixed))
    if len(planned) < 2:
        raise InputError(
            f"--vary {vary[0]!r}: a comparison needs two values or more, as in chunk_length=16,64"
        )
    return planned


def whole_number(key: str, value: object) -> int:
    """An integer, or `InputError`."""
    try:
        return int(str(value))
    except ValueError:
        raise InputError(f"--vary {key}={value}: {key} must be an integer") from None
