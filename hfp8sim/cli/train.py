"""The commands of training: `train` and `quantise`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hfp8sim.cli.common import (
    INTERRUPTED,
    app,
    command_line,
    compile_notice,
    list_table,
    print_out,
    progress_bar,
    say,
)
from hfp8sim.cli.options import BatchOption, MachineOption, WorkloadArgument
from hfp8sim.errors import InputError, check_whole_number

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
    weights: Annotated[
        Path | None,
        typer.Option(help="first weights: a checkpoint, .pt, .safetensors or .onnx of the network"),
    ] = None,
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
    every: Annotated[int, typer.Option(help="steps between two checkpoints in --out")] = 50,
    learners: Annotated[
        int, typer.Option(help="learners that share each batch and reduce gradients round a ring")
    ] = 1,
    processes: Annotated[
        bool, typer.Option("--processes", help="one process for each learner; the same bits")
    ] = False,
) -> None:
    """Train a network with its products, operands and updates rounded by recipes, and compare."""
    from hfp8sim.recipes.defaults import training_defaults
    from hfp8sim.recipes.record import changed_recipe
    from hfp8sim.training.distributed.rings import in_processes
    from hfp8sim.training.distributed.runs import check_processes
    from hfp8sim.training.runs import Settings

    if resume and out is None:
        raise InputError("--resume needs --out, the directory with the checkpoints")
    if every < 1:
        raise InputError(f"--every is {every}, must be at least 1")
    if threads is not None:
        check_whole_number(threads, "threads", 1)
    if watch is not None and watch < 1:
        raise InputError(f"--watch is {watch}, must be at least 1")
    if watch is not None and out is None:
        raise InputError("--watch needs --out, the directory for its pages")
    defaults = training_defaults(network)
    recipes = [
        changed_recipe(name, set_ or [] if name != "fp32" else [])
        for name in recipe or ["fp32", "hfp8"]
    ]
    every_settings = [
        Settings(
            network, data or defaults.data, record, optimiser or defaults.optimiser,
            defaults.rate if rate is None else rate,
            batch=batch, steps=steps, seed=seed, decay=defaults.decay, learners=learners,
            weights=str(weights or ""),
        )
        for record in recipes
    ]  # fmt: skip
    if processes and not in_processes():
        for record in recipes:
            check_processes(record)
        _launch(learners, out)
    runs: list[Run] = []
    unsaved = ""
    for settings in every_settings:
        training = _Training(settings, threads, out)
        if resume:
            training.resume()
        if watch is not None:
            training.observe(watch, machine)
        training.train(every)
        try:
            training.write_result()
        except InputError as error:  # a full disk: what the run found is shown all the same
            unsaved = unsaved or str(error)
        runs.append(training.run)
    if _leads(runs[0]):
        print_out(lambda terminal: terminal.print(_table(runs)))
    if unsaved:
        raise InputError(unsaved)


@app.command()
def wire(
    workload: WorkloadArgument,
    learners: Annotated[int, typer.Option(help="learners round the ring")] = 4,
    system: Annotated[
        Path | None, typer.Option(help="a system's TOML file: also the time of a step")
    ] = None,
    machine: MachineOption = "rapid-core",
    layers: Annotated[bool, typer.Option("--layers", help="a row for each layer")] = False,
    batch: BatchOption = None,
) -> None:
    """Show the bytes and messages that each learner sends in a training step, by protocol, collective and layer."""
    from hfp8sim.cli.wire import show

    show(workload, learners, system, machine, layers, batch)


def _launch(learners: int, out: Path | None) -> None:
    """Run this command once for each learner, and end with its status."""
    from hfp8sim.training.distributed.launch import launch

    try:
        status = launch([sys.executable, "-m", "hfp8sim", *sys.argv[1:]], learners)
    except InputError as error:
        saved = out is not None and any(out.glob("*.pt"))
        kept = f"{out} has the last checkpoint, --resume goes on from it"
        raise InputError(f"{error}; {kept if saved else 'no checkpoint was written'}") from None
    sys.exit(status)


def _leads(run: Run) -> bool:
    """Whether this process reports: not where another one has learner 0."""
    return getattr(run, "leads", True)


class _Training:
    """One run of `train`: its model and optimiser, its checkpoint, its watch, and what it tells the user."""

    def __init__(self, settings: Any, threads: int | None, out: Path | None) -> None:
        from hfp8sim.files import check_folder
        from hfp8sim.training.distributed.runs import make_run

        self.settings, self.threads, self.out = settings, threads, out
        self.path = None if out is None else _checkpoint(out, settings)
        if out is not None:
            check_folder(out)
        self.run = make_run(settings, threads)
        self.leads = _leads(self.run)
        self.tell = say if self.leads else _silent
        self.steps_saved = 0  #: steps that the checkpoint holds
        self.watch: Watch | None = None

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self.path is None or not self.path.exists():
            return
        self.run.load(self.path)
        self.steps_saved = self.run.step
        steps = f"{self.run.step} of {self.settings.steps} steps"
        self.tell(f"{self.settings.recipe.name}: {self.path} holds {steps}")

    def observe(self, every: int, machine: str) -> None:
        """Report every so many steps layer by layer."""
        if self.leads:
            self.watch = _watch(self.run, self.path, every, machine, self.threads)

    def train(self, every: int) -> None:
        """Train to the last step, with a checkpoint after every so many.

        After Ctrl-C the checkpoint and the watch are written, and the process ends.
        """
        from hfp8sim.simulation.checkpoint import stoppable
        from hfp8sim.training.distributed.rings import LostLearner

        name, steps = self.settings.recipe.name, self.settings.steps
        notice = "stopping after this step; once more stops at once"
        with (
            stoppable(lambda: self.tell(notice), lambda: None) as stop,
            progress_bar(name) if self.leads else nullcontext(_silent) as bar,
        ):

            def after_step(record: StepRecord) -> None:
                bar(record.step, steps, f"loss {record.loss:.4f}")
                self._after_step(record, every, stop.requested)

            try:
                self.run.train(after_step)
            except _Stopped:
                self._end_after_interrupt()
            except LostLearner as lost:
                path = self.path if self.steps_saved else None
                raise _lost(lost, path, self.steps_saved) from None
            except InputError as error:
                raise self._with_checkpoint(error) from None

    def _after_step(self, record: StepRecord, every: int, stop_requested: bool) -> None:
        """Watch a step, and save it if its turn has come; raises `_Stopped` if the user has asked to stop."""
        if self.watch is not None:
            self.watch.after_step(record.loss)
        if _stops(self.run, stop_requested):
            raise _Stopped
        if self.path is not None and record.step % every == 0:
            self.run.save(self.path)
            self.steps_saved = self.run.step

    def _end_after_interrupt(self) -> NoReturn:
        """Write the watch and the checkpoint, say where they are, and end the process."""
        self.write_watch()
        done = f"interrupted after {self.run.step} of {self.settings.steps} steps"
        if self.path is None:
            self.tell(f"{done}; with --out they are kept, and --resume goes on from them")
        else:
            self.tell(f"{done}; {self.run.save(self.path)} holds them, --resume goes on from them")
        sys.exit(INTERRUPTED)

    def _with_checkpoint(self, error: InputError) -> InputError:
        """An error in a step, with the checkpoint of the steps before it."""
        if self.path is None or not self.run.step or self.settings.learners > 1:
            return error
        kept = f"{self.run.save(self.path)} holds the {self.run.step} steps before"
        return InputError(f"{error}; {kept}")

    def write_result(self) -> None:
        """Write the checkpoint after the last step, and the watch."""
        if self.path is not None:
            self.run.save(self.path)
        self.write_watch()

    def write_watch(self) -> None:
        """Write what was watched, and say where."""
        if self.watch is not None and self.out is not None:
            self.watch.stop()
            say("watched: " + ", ".join(str(path) for path in self.watch.write(self.out)))


def _checkpoint(out: Path, settings: Any) -> Path:
    """The file of a run's checkpoint."""
    return out / f"{settings.network.replace(':', '.')}.{settings.recipe.name}.pt"


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


def _silent(*args: object) -> None:
    """What learners other than the first say."""


def _stops(run: Run, requested: bool) -> bool:
    """Whether to stop after this step; learners decide together."""
    decide = getattr(run, "stops", bool)
    return bool(decide(requested))


def _lost(error: InputError, path: Path | None, step: int) -> InputError:
    """The error of a run that a learner's end has ended; a launched process ends here, as its launcher reports."""
    import os

    from hfp8sim.training.distributed.launch import LAUNCHED, LOST

    if LAUNCHED in os.environ:
        os._exit(LOST)
    kept = f"{path} holds {step} steps" if path is not None else "no checkpoint was written"
    return InputError(f"{error}; {kept}")


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


@app.command()
def quantise(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS",
            help="trained weights: a checkpoint of hfp8sim train, a state_dict (.pt), .safetensors, or the initialisers of .onnx",
        ),
    ],
    network: Annotated[
        str,
        typer.Option(help="as of train; a checkpoint names its own"),
    ] = "",
    data: Annotated[str, typer.Option(help="digits, fashion-mnist or help-text")] = "",
    recipe: Annotated[str, typer.Option(help="a recipe or a TOML file")] = "hfp8",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE,…", help="change the recipe: x.format=e5m2"),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="LAYERS=PROFILE,…", help="layers with another profile, or `keep`; the recipe's"
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="set the scales of operands from training batches")
    ] = False,
    retune: Annotated[
        str,
        typer.Option(
            help="re-tune batch normalisations: layers, one-pass, running, or none to leave them"
        ),
    ] = "layers",
    batches: Annotated[int, typer.Option(help="training batches to calibrate and re-tune on")] = 20,
    batch: Annotated[int, typer.Option(help="examples of such a batch")] = 64,
    layers: Annotated[int, typer.Option(help="show so many layers, the worst first")] = 5,
    seed: Annotated[int, typer.Option(help="of the choice of batches")] = 0,
    threads: Annotated[int | None, typer.Option(help="worker threads; changes no bit")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="write the last row's network: codes into .safetensors, values into another file"
        ),
    ] = None,
) -> None:
    """Run a trained network on the emulator without retraining, before and after batch normalisation is re-tuned."""
    import itertools

    from hfp8sim.recipes.record import changed_recipe
    from hfp8sim.training.direct import quantise_directly
    from hfp8sim.training.runs import batches_of_test_set, trained_network
    from hfp8sim.training.weights import save_quantised

    if batches < 1 or batch < 1 or layers < 0:
        raise InputError("--batches and --batch must be at least 1, --layers at least 0")
    record = changed_recipe(recipe, set_ or [])
    trained = trained_network(weights, network, data)
    chosen = trained.data.training_batches(batch, seed, batches)
    inputs = [x for x, _ in itertools.islice(chosen, batches)]
    with compile_notice():
        rows = quantise_directly(
            trained.model, record, list(batches_of_test_set(trained.data)), inputs, policy=policy,
            calibrate=calibrate, retune=None if retune == "none" else retune, emulation=trained.emulation,
            threads=threads,
        )  # fmt: skip
    print_out(lambda terminal: _show_rows(terminal, rows, layers))
    if out is not None:
        say(f"{save_quantised(rows[-1].model, out)} holds {rows[-1].form}")


def _show_rows(terminal: Any, rows: list[Any], layers: int) -> None:
    """The forms of the network, and the worst layers of the last form."""
    numbers = ("test loss", "accuracy %", "logit SQNR dB")
    table = list_table(("network", *numbers, "worst layer"), numbers)
    for row in rows:
        result, worst = row.evaluation, row.evaluation.worst_layer
        table.add_row(
            row.form, f"{result.loss:.4f}", f"{100 * result.accuracy:.2f}", _decibels(result.logit_sqnr),
            "–" if worst is None else f"{worst.name}, {worst.sqnr:.1f} dB",
        )  # fmt: skip
    terminal.print(table)
    found = sorted(rows[-1].evaluation.layers, key=lambda layer: layer.sqnr)[:layers]
    if not found:
        return
    shares = ("SQNR dB", "to here dB", "saturated %", "flushed %")
    table = list_table(("layer", "kind", "profile", *shares), shares)
    for layer in found:
        table.add_row(
            layer.name, layer.kind, layer.profile, _decibels(layer.sqnr), _decibels(layer.reference_sqnr),
            f"{100 * layer.saturated:.2f}", f"{100 * layer.flushed:.2f}",
        )  # fmt: skip
    terminal.print()
    terminal.print(table)


def _decibels(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
