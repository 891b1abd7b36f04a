"""Commands about the installation: `doctor` and `warm-up`."""

from __future__ import annotations

from typing import Annotated

import typer

from hfp8sim.cli.common import (
    DIFFERED,
    app,
    compile_notice,
    list_table,
    print_out,
    progress_bar,
)
from hfp8sim.cli.options import SetOption, chosen_profile
from hfp8sim.errors import InputError


@app.command()
def doctor(
    measure: Annotated[
        bool, typer.Option("--measure", help="time a product; compiles its kernel if need be")
    ] = False,
) -> None:
    """Say what is installed, what is slow, and why. The exit status is 1 if something is broken."""
    from hfp8sim.cli.installation import State, findings, measured_speed
    from hfp8sim.report.names import plain

    found = list(findings())
    if measure and not any(finding.state is State.BROKEN for finding in found):
        with compile_notice():
            first, rate = measured_speed()
    table = list_table(("", "", "", "what to do"))
    for finding in found:
        table.add_row(*plain(finding.subject, finding.state, finding.fact, finding.remedy))
    print_out(lambda terminal: terminal.print(table))
    if measure and not any(finding.state is State.BROKEN for finding in found):
        print(
            f"\nmeasured: 512×512×512 in profile hfp8, first {first:.2f} s, then {rate:.1f} GMAC/s"
        )
    if any(finding.state is State.BROKEN for finding in found):
        raise typer.Exit(DIFFERED)


@app.command(name="warm-up")
def warm_up(
    profile: Annotated[
        list[str] | None, typer.Argument(help="profiles to compile for; hfp8 without any")
    ] = None,
    set_: SetOption = None,
    train: Annotated[
        bool, typer.Option("--train", help="a training step too; needs the extra torch")
    ] = False,
) -> None:
    """Compile the kernels of the usual runs now, as in a container's image or before a job on a cluster.

    They are kept in HFP8SIM_CACHE_DIR, or in the user's cache folder, for this version and this kind of processor.
    """
    import time

    from hfp8sim._numba.disk_cache import kept_functions, root_folder
    from hfp8sim._numba.interpreted import nothing_interpreted
    from hfp8sim.simulation import simulate

    root = root_folder()
    if root is None:
        raise InputError(
            "no folder can be written; HFP8SIM_CACHE_DIR names one for compiled kernels"
        )
    before, start = kept_functions(root), time.monotonic()
    chosen = [chosen_profile(name, set_) for name in profile or ["hfp8"]]
    with progress_bar("warm-up") as progress, nothing_interpreted():
        for number, record in enumerate(chosen):
            progress(number, len(chosen) + train, record.name)
            simulate("digits-cnn", profile=record)
        if train:
            progress(len(chosen), len(chosen) + train, "training")
            _train_one_step()
    seconds, kept = time.monotonic() - start, kept_functions(root)
    print(f"{root}: {kept} compiled functions, {kept - before} of them new, in {seconds:.1f} s")


def _train_one_step() -> None:
    """A training step of the small convolutional network."""
    from hfp8sim.recipes.record import changed_recipe
    from hfp8sim.training.runs import Run, Settings

    settings = Settings(
        "cnn", "digits", changed_recipe("hfp8", []), "sgd", 0.05, batch=64, steps=1, seed=0
    )
    Run(settings).train()
