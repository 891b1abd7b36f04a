"""What of an installation is there, what makes it slow, and why: the facts of `hfp8sim doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hfp8sim._numba.disk_cache import kept_functions, root_folder
from hfp8sim._numba.jit import config
from hfp8sim.errors import InputError
from hfp8sim.kernels.form import Lane
from hfp8sim.kernels.target import host_target
from hfp8sim.ops import Operand, gemm, thread_count
from hfp8sim.verify.c_reference import available
from hfp8sim.version import __version__


class State(StrEnum):
    """What a finding means for the user."""

    GOOD = "ok"
    SLOW = "slow"  #: everything works, and takes longer than it need
    ABSENT = "absent"  #: something optional is not installed
    BROKEN = "broken"  #: something that other commands need does not work


class Finding(NamedTuple):
    """One line of the doctor's report."""

    subject: str
    state: State
    fact: str
    remedy: str = ""  #: what to do about it; "" where nothing need be done


class Extra(NamedTuple):
    """An optional package."""

    package: str  #: the distribution
    extra: str  #: the extra of hfp8sim that installs it
    purpose: str


EXTRAS = (
    Extra("onnx", "onnx", "ONNX models"),
    Extra("torch", "torch", "training, and capture of PyTorch models"),
    Extra("jinja2", "report", "HTML reports"),
    Extra("pyyaml", "yaml", "ZigZag and Timeloop workloads"),
    Extra("dask", "dask", "sweeps on a cluster"),
    Extra("ml-dtypes", "dtypes", "arrays of bfloat16 and 8-bit floats out"),
)

#: Vector units that are much narrower than AVX-512 or AVX2.
_NARROW = ("sse2", "generic", "genericfma", "neon", "neonfp16")
#: Side of the product that `measured_speed` times.
_SIDE = 512


def findings() -> Iterator[Finding]:
    """All findings, in the order in which they are shown. Nothing is compiled."""
    for find in (_versions, _processor, _compiler, _cache, _threads, _reference):
        yield from find()
    yield from map(_extra, EXTRAS)


def _versions() -> Iterator[Finding]:
    python = f"Python {platform.python_version()}, NumPy {np.__version__}"
    numba = importlib.metadata.version("numba")
    yield Finding(
        "hfp8sim", State.GOOD, f"{__version__} on {python}, Numba {numba}, {platform.system()}"
    )


def _processor() -> Iterator[Finding]:
    try:
        target = host_target()
    except InputError as error:
        yield Finding("processor", State.BROKEN, str(error), "unset HFP8SIM_TARGET")
        return
    fact = f"{platform.machine()}, kernels for {target.name}, {target.lanes} float32 lanes"
    if target.half is not None:
        fact += f", {target.lanes_of(Lane.FLOAT16)} binary16 lanes"
    chosen = os.environ.get("HFP8SIM_TARGET")
    if chosen:
        yield Finding(
            "processor", State.SLOW, f"{fact}: HFP8SIM_TARGET={chosen} chooses slow kernels",
            "unset HFP8SIM_TARGET",
        )  # fmt: skip
    elif target.name in _NARROW:
        yield Finding(
            "processor", State.SLOW, f"{fact}: vectors are narrow, or no fused multiply-add is used"
        )
    else:
        yield Finding("processor", State.GOOD, fact)


def _compiler() -> Iterator[Finding]:
    if config.DISABLE_JIT:
        yield Finding(
            "compiler", State.SLOW, "NUMBA_DISABLE_JIT is set: kernels are interpreted, which takes far longer",
            "unset NUMBA_DISABLE_JIT",
        )  # fmt: skip
    else:
        yield Finding("compiler", State.GOOD, "Numba compiles kernels when they are first used")


def _cache() -> Iterator[Finding]:
    root = root_folder()
    if root is None:
        yield Finding(
            "kernel cache", State.SLOW, "no folder can be written: every process compiles for up to a minute",
            "set HFP8SIM_CACHE_DIR to a folder that can be written",
        )  # fmt: skip
        return
    kept = kept_functions(root)
    if kept_functions(root, "hfp8sim.kernels.gemm"):
        yield Finding(
            "kernel cache", State.GOOD, f"{kept} compiled functions of this version in {root}"
        )
    else:
        yield Finding(
            "kernel cache", State.SLOW, f"{root} has no kernels of this version: the first run compiles for up to a minute",
            "hfp8sim warm-up",
        )  # fmt: skip


def _threads() -> Iterator[Finding]:
    threads, cores, quota = thread_count(None), os.cpu_count() or 1, cpu_quota()
    if quota is not None and quota < threads:
        yield Finding(
            "threads", State.SLOW,
            f"{threads} by default, but the container may use {quota:g} cores: threads wait for each other",
            f"--threads {max(1, round(quota))}",
        )  # fmt: skip
    elif threads < cores:
        yield Finding(
            "threads",
            State.GOOD,
            f"{threads} by default: this process may use {threads} of {cores} cores",
        )
    else:
        yield Finding("threads", State.GOOD, f"{threads} by default, one for each core")


def cpu_quota(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores that the control group of this process may use; None without a limit."""
    try:
        quota, period = (folder / "cpu.max").read_text("ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = (folder / "cpu" / "cpu.cfs_quota_us").read_text("ascii")
        period = (folder / "cpu" / "cpu.cfs_period_us").read_text("ascii")
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def _reference() -> Iterator[Finding]:
    if available():
        yield Finding("C reference", State.GOOD, "built; `hfp8sim verify` compares with it")
    else:
        yield Finding(
            "C reference", State.ABSENT, "not built: `hfp8sim verify` and `vectors` cannot compare with it",
            "install a C compiler, then reinstall hfp8sim",
        )  # fmt: skip


def _extra(extra: Extra) -> Finding:
    try:
        version = importlib.metadata.version(extra.package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            extra.package, State.ABSENT, f"not installed: {extra.purpose}",
            f'pip install "hfp8sim[{extra.extra}]"',
        )  # fmt: skip
    return Finding(extra.package, State.GOOD, f"{version}: {extra.purpose}")


def measured_speed(clock: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    """Seconds until a product of two 512×512 operands is there for the first time, and GMAC/s of the fastest of five."""
    rng = np.random.default_rng(0)
    start = clock()
    a, b = (Operand.encode(rng.normal(size=(_SIDE, _SIDE)), "hfp8-143") for _ in range(2))
    gemm(a, b)
    first = clock() - start
    times = []
    for _ in range(5):
        start = clock()
        gemm(a, b)
        times.append(clock() - start)
    return first, _SIDE**3 / min(times) / 1e9
