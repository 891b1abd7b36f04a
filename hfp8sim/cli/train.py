"""The commands of training: `train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfp8sim.cli.common import (
    INTERRUPTED,
    app,
    command_line,
    list_table,
    print_out,
    progress_bar,
    say,
)
from hfp8sim.errors import InputError

if TYPE_CHECKING:
    from hfp8sim.training.runs import Run, StepRecord
    from hfp8sim.training.watch import Watch

#: Steps whose mean loss the table shows.
_LAST = 20


class _Stopped(Exception):
    """The user has asked to stop."""


@app.command()
def train(
    network: Annotated[
        str,
        typer.Argument(help="cnn, resnet20, mobile, transformer, or MODULE:FUNCTION of your own"),
    ],
    data: Annotated[str, typer.Option(help="digits, fashion-mnist or help-text")] = "",
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="a recipe or a TOML file; repeatable, to compare. hfp8 and fp32 by default"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE,…",
            help="change every recipe but fp32: update.random_bits=16",
        ),
    ] = None,
    optimiser: Annotated[str, typer.Option(help="sgd or adam; adam for transformer")] = "",
    rate: Annotated[float | None, typer.Option(help="learning rate at the first step")] = None,
    batch: Annotated[int, typer.Option(help="examples of a batch")] = 64,
    steps: Annotated[int, typer.Option(help="training steps")] = 300,
    seed: Annotated[int, typer.Option(help="of weights, order of the data and random bits")] = 0,
    threads: Annotated[int | None, typer.Option(help="worker threads; changes no bit")] = None,
    out: Annotated[
        Path | None, typer.Option(help="write checkpoints into this directory, one for each recipe")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the checkpoints in --out, to the bit")
    ] = False,
    watch: Annotated[
        int | None,
        typer.Option(
            "--watch",
            metavar="N",
            help="report every Nth step layer by layer: pages, CSV and JSON in --out; changes no bit",
        ),
    ] = None,
    machine: Annotated[
        str, typer.Option("--machine", help="whose cycles the reports of --watch show")
    ] = "rapid-core",
) -> None:
    """Train a network with its products, operands and updates rounded by recipes, and compare."""
    from hfp8sim.recipes.record import changed_recipe
    from hfp8sim.training.runs import Settings

    if resume and out is None:
        raise InputError("--resume needs --out, the directory with the checkpoints")
    if watch is not None and out is None:
        raise InputError("--watch needs --out, the directory for its pages")
    text = network == "transformer"
    recipes = [
        changed_recipe(name, set_ or [] if name != "fp32" else [])
        for name in recipe or ["fp32", "hfp8"]
    ]
    runs = []
    for record in recipes:
        settings = Settings(
            network, data or ("help-text" if text else "digits"), record,
            optimiser or ("adam" if text else "sgd"),
            rate if rate is not None else 2e-3 if text else 0.05,
            batch=batch, steps=steps, seed=seed, decay=0.0 if text else 5e-4,
        )  # fmt: skip
        runs.append(_trained(settings, threads, out, resume, watch, machine))
    print_out(lambda terminal: terminal.print(_table(runs)))


def _trained(
    settings: Any,
    threads: int | None,
    out: Path | None,
    resume: bool,
    every: int | None,
    machine: str,
) -> Run:
    """One run. After Ctrl-C its checkpoint and its watch are written and the process ends."""
    from hfp8sim.files import check_folder
    from hfp8sim.simulation.checkpoint import stoppable
    from hfp8sim.training.runs import Run

    name = settings.recipe.name
    path = None if out is None else out / f"{settings.network.replace(':', '.')}.{name}.pt"
    if out is not None:
        check_folder(out)
    run = Run(settings, threads)
    if resume and path is not None and path.exists():
        run.load(path)
        say(f"{name}: {path} holds {run.step} of {settings.steps} steps")
    watch = None if every is None else _watch(run, path, every, machine, threads)
    notice = "stopping after this step; once more stops at once"
    with stoppable(lambda: say(notice), lambda: None) as stop, progress_bar(name) as bar:

        def on_step(record: StepRecord) -> None:
            bar(record.step, settings.steps, f"loss {record.loss:.4f}")
            if watch is not None:
                watch.after_step(record.loss)
            if stop.requested:
                raise _Stopped

        try:
            run.train(on_step)
        except _Stopped:
            _written(watch, out)
            done = f"interrupted after {run.step} of {settings.steps} steps"
            if path is None:
                say(f"{done}; with --out they are kept, and --resume goes on from them")
            else:
                say(f"{done}; {run.save(path)} holds them, --resume goes on from them")
            sys.exit(INTERRUPTED)
    if path is not None:
        run.save(path)
    _written(watch, out)
    return run


def _watch(run: Run, path: Any, every: int, machine: str, threads: int | None) -> Watch:
    """The watch of a run; of one that was resumed, it goes on from the log beside the checkpoint."""
    from hfp8sim.training.watch import Watch, read_log

    settings = run.settings
    facts = {"command": command_line(), "recipe": run.recipe.name} | {
        name: getattr(settings, name)
        for name in ("network", "data", "optimiser", "rate", "batch", "steps", "seed")
    }
    watch = Watch(
        run.model, run.optimiser, every=every, machine=machine, name=path.stem, facts=facts, threads=threads
    )  # fmt: skip
    log = path.with_suffix(".json")
    if run.step:
        watch.resume(run.step, read_log(log) if log.exists() else None)
    return watch


def _written(watch: Watch | None, out: Path | None) -> None:
    """Write what was watched, and say where."""
    if watch is not None and out is not None:
        watch.stop()
        say("watched: " + ", ".join(str(path) for path in watch.write(out)))


def _table(runs: list[Run]) -> Any:
    """A row for each recipe; logits are compared with those of the first."""
    numbers = (
        "steps",
        "loss",
        "test loss",
        "accuracy %",
        "logit SQNR dB",
        "stuck %",
        "skipped",
        "scale",
    )
    table = list_table(("recipe", *numbers), numbers)
    for run in runs:
        last = run.history[-_LAST:]
        reference = None if run is runs[0] else runs[0].model
        result = run.evaluate(reference)
        sqnr = "–" if result.logit_sqnr is None else f"{result.logit_sqnr:.1f}"
        table.add_row(
            run.recipe.name, str(run.step), f"{sum(r.loss for r in last) / len(last):.4f}",
            f"{result.loss:.4f}", f"{100 * result.accuracy:.2f}", sqnr,
            f"{100 * sum(r.counts.stuck_share for r in last) / len(last):.1f}",
            str(sum(r.counts.skipped for r in run.history)), f"{run.optimiser.scale.scale:g}",
        )  # fmt: skip
    return table
