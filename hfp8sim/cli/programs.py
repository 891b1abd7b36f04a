"""Commands about programs: lower, assemble, disassemble, execute, time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfp8sim.cli.common import app, compiling_said, console
from hfp8sim.cli.run import (
    MachineOption,
    PhaseOption,
    PolicyOption,
    ProfileOption,
    SeedOption,
    SetOption,
    listed,
    settings,
)
from hfp8sim.errors import InputError

if TYPE_CHECKING:
    from hfp8sim.isa import Program
    from hfp8sim.lowering import Finish
    from hfp8sim.timing import Timing


def read_text(path: Path) -> str:
    """A text file, or one line on why not."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file (UTF-8)") from None


def read_program(path: Path) -> Program:
    """A program file, or assembly where the name ends in .s or .asm."""
    from hfp8sim.isa import Program

    if path.suffix in (".s", ".asm"):
        return assembled(path)
    return Program.load(path)


def assembled(path: Path) -> Program:
    """The program of an assembly file; what is wrong is told with the file's name."""
    from hfp8sim.isa import assemble

    text = read_text(path)
    with about(path):
        return assemble(text)


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Whatever is refused inside is refused of this file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


@app.command()
def lower(
    workload: Annotated[str, typer.Argument(help="a shipped workload's name, or a file")],
    layer: Annotated[
        str, typer.Argument(help="a layer's name; without it, all layers one after the other")
    ] = "",
    *,
    out: Annotated[Path, typer.Option(help="the program file, or assembly with .s")],
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
    seed: SeedOption = 0,
) -> None:
    """Write the program of a layer or of a whole workload: what `run` executes."""
    import hfp8sim as hs
    from hfp8sim.files import write_text
    from hfp8sim.isa import disassemble
    from hfp8sim.lowering import LayerPhase, lower_workload
    from hfp8sim.network.records import check_phases
    from hfp8sim.simulation.run import tasks
    from hfp8sim.units.policy import parse

    loaded, phases, finish = (
        hs.load_workload(workload),
        check_phases(listed(phase)),
        finishing(post),
    )
    chosen = settings(profile, set_ or [])
    wanted = loaded[layer].name if layer else None
    layers = [
        LayerPhase(task.layer, task.phase, task.profile, task.stream)
        for task in tasks(loaded, phases, chosen, parse(policy))
        if wanted in (None, task.layer.name)
    ]
    if not layers:
        raise InputError(f"{layer or workload} has no phase {', '.join(phases)}")
    program = lower_workload(layers, machine, finish=finish, seed=seed)
    if out.suffix in (".s", ".asm"):
        write_text(out, disassemble(program))
    else:
        program.save(out)
    print(f"{out}: {len(program)} words")


def finishing(assignments: list[str] | None) -> Finish:
    """What POST does, from texts of `key=value`, one or more with commas between."""
    import dataclasses

    from hfp8sim.errors import unknown
    from hfp8sim.lowering import Finish

    known = [field.name for field in dataclasses.fields(Finish)]
    values: dict[str, Any] = {}
    for text in listed(",".join(assignments or [])):
        key, _, value = text.partition("=")
        if key not in known:
            raise unknown("field", key, known, of="--post")
        try:
            if key == "clamp":
                low, _, high = value.partition(":")
                values[key] = int(low, 0), int(high, 0)
            elif key == "relu":
                values[key] = {"true": True, "false": False}[value or "true"]
            else:
                values[key] = int(value) if key == "scale" else value
        except (ValueError, KeyError):
            shape = {"clamp": "LOW:HIGH, two codes", "relu": "true or false"}
            wanted = shape.get(key, "an integer")
            raise InputError(f"--post {text}: {key} must be {wanted}") from None
    return Finish(**values)


@app.command()
def asm(
    source: Annotated[Path, typer.Argument(help="assembly text")],
    out: Annotated[Path, typer.Option(help="the program file")],
) -> None:
    """Assemble a program."""
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
    import dataclasses

    import numpy as np

    import hfp8sim as hs
    from hfp8sim.files import write_text, write_whole
    from hfp8sim.isa.program import check_inputs
    from hfp8sim.machine import execute as run
    from hfp8sim.timing import time_program
    from hfp8sim.timing.trace import trace

    code, built = read_program(program), hs.get_machine(machine)
    if (inputs is None) == (draw is None):
        raise InputError("give either the inputs' .npz or --draw SEED")
    codes = read_arrays(inputs) if inputs is not None else drawn(code, draw or 0)
    with about(inputs or program):
        check_inputs(code, codes)
    with about(program), compiling_said():
        done = run(code, codes, built, threads=threads, count=True, log=print if log else None)
        spent = time_program(code, built)
    if out is not None:
        results: dict[str, Any] = done.outputs
        write_whole(out, lambda file: np.savez(file, **results), binary=True)
    if timeline is not None:
        write_text(timeline, trace(code, built))
    show = console()
    show.print(f"{done.instructions:,} instructions, {done.macs:,} multiply-accumulates "
               f"({done.gated:,} with a zero operand)")  # fmt: skip
    assert done.events is not None
    counts = dataclasses.asdict(done.events)
    show.print(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    for name, result in done.outputs.items():
        where = f" in {out}" if out else ""
        show.print(f"{name}: {code[name].format} codes {result.shape}{where}")
    show.print()
    show.print(time_table(spent))


def time_table(spent: Timing) -> Any:
    """A line for each layer: its cycles, where they went, and the bytes it moves."""
    from rich.table import Table

    from hfp8sim.timing import Parts

    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("layer", "phase"):
        made.add_column(heading, no_wrap=True)
    for heading in ("cycles", *Parts._fields, "bytes", "compulsory"):
        made.add_column(heading.replace("_", " "), justify="right", no_wrap=True)
    for layer in spent.layers:
        numbers = (layer.cycles, *layer.parts, layer.bytes, layer.compulsory)
        made.add_row(layer.name, layer.phase, *(f"{number:,}" for number in numbers))
    if len(spent.layers) != 1:
        moved, needed = (sum(getattr(x, n) for x in spent.layers) for n in ("bytes", "compulsory"))
        numbers = (spent.cycles, *spent.parts, moved, needed)
        made.add_row("total", "", *(f"{number:,}" for number in numbers), style="bold")
    return made


def drawn(program: Program, seed: int) -> dict[str, Any]:
    """Inputs from N(0, 1), rounded to nearest, each a stream of its own."""
    import numpy as np

    from hfp8sim.ops.conversions import convert

    if seed < 0:
        raise InputError(f"--draw is {seed}, must be 0 or more")
    inputs = {}
    for number, symbol in enumerate(s for s in program.symbols if s.role == "input"):
        values = np.random.default_rng([seed, number]).standard_normal(symbol.shape, np.float32)
        inputs[symbol.name], _ = convert(values, symbol.record, "nearest-even", "saturate")
    return inputs


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file, or one line on why not."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise InputError(f"{path}: a single array; it must be an .npz with named arrays")
            return {name: file[name] for name in file.files}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'not an .npz file'}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path}: torn, or not an .npz file of plain arrays") from None
