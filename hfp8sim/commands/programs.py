"""Commands about programs: lower, assemble, disassemble, execute, time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfp8sim.commands import app, compiling_said, console
from hfp8sim.errors import InputError

if TYPE_CHECKING:
    from hfp8sim.isa import Program

_MACHINE = Annotated[str, typer.Option(help="a preset's name, or a TOML file")]


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
    from hfp8sim.isa import Program, assemble

    if path.suffix in (".s", ".asm"):
        try:
            return assemble(read_text(path))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return Program.load(path)


@app.command()
def lower(
    workload: Annotated[str, typer.Argument(help="a shipped workload's name, or a file")],
    layer: Annotated[str, typer.Argument(help="the layer's name")],
    out: Annotated[Path, typer.Option(help="the program file, or assembly with .s")],
    phase: Annotated[str, typer.Option(help="fwd, dgrad or wgrad")] = "fwd",
    machine: _MACHINE = "rapid-core",
    profile: Annotated[str, typer.Option(help="the arithmetic")] = "hfp8",
) -> None:
    """Write the program of one layer in one phase."""
    import hfp8sim as hs
    from hfp8sim.files import write_text
    from hfp8sim.isa import disassemble
    from hfp8sim.lowering import lower_layer

    program = lower_layer(hs.load_workload(workload)[layer], phase, machine, profile)
    if out.suffix in (".s", ".asm"):
        write_text(out, disassemble(program))
    else:
        program.save(out)
    print(f"{out}: {len(program)} words")


@app.command()
def asm(
    source: Annotated[Path, typer.Argument(help="assembly text")],
    out: Annotated[Path, typer.Option(help="the program file")],
) -> None:
    """Assemble a program."""
    from hfp8sim.isa import assemble

    try:
        program = assemble(read_text(source))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
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

    text = disassemble(read_program(program))
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)


@app.command(name="exec")
def execute(
    program: Annotated[Path, typer.Argument(help="a program file, or assembly ending in .s")],
    inputs: Annotated[
        Path, typer.Argument(help="an .npz file with the codes of every input symbol")
    ],
    out: Annotated[
        Path | None, typer.Option(help="write the outputs' codes into this .npz")
    ] = None,
    machine: _MACHINE = "rapid-core",
    threads: Annotated[
        int | None, typer.Option(help="emulated cores; no value depends on it")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="print every executed instruction")] = False,
) -> None:
    """Run a program on the machine: values, events, and the time it takes."""
    import numpy as np

    from hfp8sim.files import write_whole
    from hfp8sim.machine import execute as run
    from hfp8sim.machine import time_program

    code, arrays = read_program(program), read_arrays(inputs)
    with compiling_said():
        done = run(code, arrays, machine, threads=threads, count=True, log=print if log else None)
    if out is not None:
        results: dict[str, Any] = done.outputs
        write_whole(out, lambda file: np.savez(file, **results), binary=True)
    spent = time_program(code, machine)
    show = console()
    show.print(f"{done.instructions:,} instructions, {done.macs:,} multiply-accumulates "
               f"({done.gated:,} with a zero operand), {spent.cycles:,} cycles")  # fmt: skip
    show.print(f"{done.events}")
    for name, codes in done.outputs.items():
        show.print(
            f"{name}: {code[name].format} codes {codes.shape}" + (f" in {out}" if out else "")
        )


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
        raise InputError(f"{path}: torn, or not an .npz file of codes") from None
