"""Several workloads in one command: a folder's files, and a line for each network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hfp8sim.cli.common import BAD_INPUT, print_out, say
from hfp8sim.errors import InputError

if TYPE_CHECKING:
    from hfp8sim.report.report import Report


def expanded(workloads: Sequence[str]) -> list[str]:
    """The workloads, with the files that have a reader in place of each folder that is no trace.

    Folders within a folder are searched too; files are in the order of their paths.

    Raises:
        InputError: a folder without such a file.
    """
    paths: list[str] = []
    for workload in workloads:
        paths += _files(Path(workload)) if _is_collection(Path(workload)) else [workload]
    return paths


def _is_collection(path: Path) -> bool:
    """Whether a path is a folder that no reader reads as a whole."""
    from hfp8sim.workloads.readers.table import READERS

    manifests = [reader.manifest for reader in READERS if reader.manifest]
    return path.is_dir() and not any((path / name).is_file() for name in manifests)


def _files(folder: Path) -> list[str]:
    """Every file below a folder that some reader reads."""
    from hfp8sim.workloads.readers.table import READERS, known_suffixes

    suffixes = known_suffixes(READERS)
    files = [
        str(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in suffixes and path.is_file()
    ]
    if not files:
        raise InputError(f"{folder}: no file in it ends in {', '.join(suffixes)}")
    return files


def run_several(workloads: Sequence[str], run_one: Callable[[str], Report]) -> None:
    """Run one workload after the other and print a line for each. One that cannot be run is named on stderr.

    The process then ends with the status of bad input.
    """
    from hfp8sim.report.overview import legend, overview

    reports, failed = [], 0
    for workload in workloads:
        try:
            reports.append(run_one(workload))
        except InputError as error:
            failed += 1
            text = str(error)
            say(text if text.startswith(workload) else f"{workload}: {text}")
    if reports:
        print_out(lambda terminal: (terminal.print(overview(reports)), terminal.print()))
        print_out(lambda terminal: terminal.print(legend(reports), style="dim"))
    if failed:
        say(f"{failed} of {len(workloads)} workloads were not run")
        sys.exit(BAD_INPUT)
