"""Commands about programs: lower, assemble, disassemble, execute, time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfp8sim.cli.common import (
    app,
    check_not_source,
    compile_notice,
    console,
    list_table,
    read_arrays,
    read_text,
    say,
    write_arrays,
)
from hfp8sim.cli.options import (
    CalibrateOnOption,
    CalibrateOption,
    MachineOption,
    PhaseOption,
    PolicyOption,
    ProfileOption,
    SeedOption,
    SetOption,
    WorkloadArgument,
    calibrated,
    chosen_profile,
)
from hfp8sim.errors import InputError, located, printable

if TYPE_CHECKING:
    from hfp8sim.isa import Program
    from hfp8sim.lowering import Finish, Split
    from hfp8sim.machine import Execution
    from hfp8sim.timing import Timing

#: Endings of files with assembly text.
ASSEMBLY = (".s", ".asm")


def read_program(path: Path) -> Program:
    """A program file, or assembly where the name ends in .s or .asm."""
    from hfp8sim.isa import Program

    if path.suffix in ASSEMBLY:
        return assembled(path)
    return Program.load(path)


def assembled(path: Path) -> Program:
    """The program of an assembly file; errors name the file."""
    from hfp8sim.isa import assemble

    text = read_text(path)
    with located(path):
        return assemble(text)


def _split(text: str | None) -> Split | None:
    """The split of `--split`."""
    from hfp8sim.lowering import Split

    if text is None:
        return None
    shares = text.lower().split("x")
    if len(shares) != 3 or not all(share.isdecimal() for share in shares):
        raise InputError(
            f"--split {text!r}: write it as groups x m x n, as in 1x4x8; K stays whole"
        )
    return Split(*map(int, shares))


@app.command()
def lower(
    workload: WorkloadArgument,
    layer: Annotated[
        str, typer.Argument(help="a layer's name; without it, all layers one after the other")
    ] = "",
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="the program file, or assembly with .s; without it, assembly is printed"),
    ] = None,
    phase: PhaseOption = "fwd",
    machine: MachineOption = "rapid-core",
    profile: ProfileOption = "hfp8",
    set_: SetOption = None,
    policy: PolicyOption = "",
    post: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,…",
            help="what POST does: format, rounding, overflow, bias_format, relu, clamp=LOW:HIGH, scale",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="GROUPSxMxN",
            help="shares of the cores, such as 1x4x8; on a machine with a ring the best by default",
        ),
    ] = None,
    seed: SeedOption = 0,
    calibrate: CalibrateOption = None,
    calibrate_on: CalibrateOnOption = None,
) -> None:
    """Write the program of a layer or of a whole workload: what `run` executes."""
    from hfp8sim.files import write_text
    from hfp8sim.isa import disassemble
    from hfp8sim.lowering import lower_workload
    from hfp8sim.network import check_phases
    from hfp8sim.simulation.tasks import list_tasks
    from hfp8sim.simulation.variants import split_list
    from hfp8sim.units.policy import parse
    from hfp8sim.workloads import load_workload

    check_not_source(out, workload, calibrate_on)
    loaded, phases = load_workload(workload), check_phases(split_list(phase))
    finish, arithmetic = post_options(post), chosen_profile(profile, set_)
    loaded = calibrated(
        loaded, arithmetic, calibrate, calibrate_on, phases=phases, policy=policy, seed=seed
    )
    for alert in loaded.alerts:
        say(alert)
    name = loaded[layer].name if layer else None
    tasks = list_tasks(loaded, phases, arithmetic, parse(policy))
    layers = [task.lowering() for task in tasks if name in (None, task.layer.name)]
    if not layers:
        raise InputError(f"{layer or workload} has no phase {', '.join(phases)}")
    program = lower_workload(layers, machine, finish=finish, seed=seed, split=_split(split))
    scalings = [
        f"{t.name}: {t.scaling}" for t in tasks if t.scaling and name in (None, t.layer.name)
    ]
    if out is None:
        for line in scalings:
            say(line)
        sys.stdout.write(disassemble(program))
        return
    if out.suffix in ASSEMBLY:
        write_text(out, disassemble(program))
    else:
        program.save(out)
    print(f"{out}: {len(program)} words")
    for line in scalings:
        print(line)


def post_options(assignments: list[str] | None) -> Finish:
    """What POST does, from texts of `key=value`, one or more with commas between."""
    import dataclasses

    from hfp8sim.errors import unknown
    from hfp8sim.lowering import Finish
    from hfp8sim.simulation.variants import split_list

    fields = [field.name for field in dataclasses.fields(Finish)]
    values: dict[str, Any] = {}
    for text in split_list(",".join(assignments or [])):
        key, _, value = text.partition("=")
        if key not in fields:
            raise unknown("field", key, fields, of="--post")
        try:
            values[key] = _post_value(key, value)
        except (ValueError, KeyError):
            expected = {"clamp": "LOW:HIGH, two codes", "relu": "true or false"}
            must = expected.get(key, "an integer")
            raise InputError(f"--post {text}: {key} must be {must}") from None
    return Finish(**values)


def _post_value(key: str, text: str) -> Any:
    """The value of one field of `Finish`; ValueError or KeyError if it is none."""
    if key == "clamp":
        low, _, high = text.partition(":")
        return int(low, 0), int(high, 0)
    if key == "relu":
        return {"true": True, "false": False}[text or "true"]
    return int(text) if key == "scale" else text


@app.command()
def asm(
    source: Annotated[Path, typer.Argument(help="assembly text")],
    out: Annotated[Path, typer.Option(help="the program file")],
) -> None:
    """Assemble a program."""
    check_not_source(out, source)
    program = assembled(source)
    program.save(out)
    print(f"{out}: {len(program)} words")


@app.command()
def disasm(
    program: Annotated[Path, typer.Argument(help="a program file")],
    out: Annotated[
        Path | None, typer.Option(help="the text file; standard output by default")
    ] = None,
) -> None:
    """Disassemble a program; `asm` makes the same program of the text."""
    from hfp8sim.files import write_text
    from hfp8sim.isa import disassemble

    check_not_source(out, program)
    code = read_program(program)
    text = disassemble(code)
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)
        print(f"{out}: {len(code)} words")


@app.command(name="exec")
def execute(
    program: Annotated[Path, typer.Argument(help="a program file, or assembly ending in .s")],
    inputs: Annotated[
        Path | None, typer.Argument(help="an .npz file with the codes of every input symbol")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="write the outputs' codes into this .npz")
    ] = None,
    machine: MachineOption = "rapid-core",
    draw: Annotated[
        int | None, typer.Option(metavar="SEED", help="no file: draw the inputs from N(0, 1)")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="emulated cores; no value depends on it")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="print every executed instruction")] = False,
    timeline: Annotated[
        Path | None, typer.Option(help="write a Chrome/Perfetto trace here")
    ] = None,
) -> None:
    """Run a program on the machine: values, events, and where its cycles went."""
    from hfp8sim.files import check_target, write_text
    from hfp8sim.isa.program import check_inputs
    from hfp8sim.machine import execute as execute_program
    from hfp8sim.machine import get_machine
    from hfp8sim.timing import time_program
    from hfp8sim.timing.trace import trace

    for written in (out, timeline):
        check_not_source(written, program, inputs, machine)
        if written is not None:
            check_target(written)
    code, target = read_program(program), get_machine(machine)
    if (inputs is None) == (draw is None):
        raise InputError("give either the inputs' .npz or --draw SEED")
    codes = read_arrays(inputs) if inputs is not None else drawn_inputs(code, draw or 0)
    with located(inputs or program):
        check_inputs(code, codes)
    with located(program), compile_notice():
        execution = execute_program(
            code, codes, target, threads=threads, count=True, log=print if log else None
        )
        time = time_program(code, target)
    if out is not None:
        write_arrays(out, execution.outputs)
    if timeline is not None:
        write_text(timeline, trace(code, target))
    print_execution(code, execution, out)
    console().print()
    console().print(time_table(time))
    if any(layer.name.startswith("segment ") and not layer.phase for layer in time.layers):
        console().print(
            "segment N: the words from one barrier (FENCE, HALT) to the next, counted from 0; "
            "the program names no layer there",
            style="dim",
        )


def print_execution(program: Program, execution: Execution, out: Path | None) -> None:
    """What was executed and counted, and a line for each output."""
    import dataclasses

    terminal = console()
    terminal.print(
        f"{execution.instructions:,} instructions, {execution.macs:,} multiply-accumulates "
        f"({execution.gated:,} with a zero operand)"
    )
    assert execution.events is not None
    counts = dataclasses.asdict(execution.events)
    terminal.print(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    for name, result in execution.outputs.items():
        place = f" in {out}" if out else ""
        line = printable(f"{name}: {program[name].format} codes {result.shape}{place}")
        terminal.print(line, markup=False)


def time_table(time: Timing) -> Any:
    """A line for each layer: its cycles, their parts, and the bytes it moves."""
    from hfp8sim.report.names import plain
    from hfp8sim.timing import Parts

    numbers = tuple(
        name.replace("_", " ") for name in ("cycles", *Parts._fields, "bytes", "compulsory")
    )
    table = list_table(("layer", "phase", *numbers), numbers, wrap=False)
    for layer in time.layers:
        values = (layer.cycles, *layer.parts, layer.bytes, layer.compulsory)
        table.add_row(*plain(layer.name, layer.phase, *(f"{value:,}" for value in values)))
    if len(time.layers) != 1:
        moved, compulsory = (
            sum(getattr(x, name) for x in time.layers) for name in ("bytes", "compulsory")
        )
        values = (time.cycles, *time.parts, moved, compulsory)
        table.add_row("total", "", *(f"{value:,}" for value in values), style="bold")
    return table


def drawn_inputs(program: Program, seed: int) -> dict[str, Any]:
    """Inputs from N(0, 1), rounded to nearest; each input has a random stream of its own."""
    import numpy as np

    from hfp8sim.ops.conversions import convert

    if seed < 0:
        raise InputError(f"--draw is {seed}, must be 0 or more")
    inputs = {}
    for number, symbol in enumerate(s for s in program.symbols if s.role == "input"):
        values = np.random.default_rng([seed, number]).standard_normal(symbol.shape, np.float32)
        inputs[symbol.name], _ = convert(values, symbol.record, "nearest-even", "saturate")
    return inputs
