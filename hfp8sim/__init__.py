"""hfp8sim: a bit-accurate, cycle-approximate emulator of an HFP8 accelerator.

    import hfp8sim as hs
    codes = hs.get_format("hfp8-143").encode(x, rounding="nearest-away")
    y = hs.gemm(a_codes, b_codes, profile="hfp8")
    report = hs.simulate(hs.load_workload("digits-cnn"), machine="rapid-core", profile="hfp8")

Names are loaded when they are first used, so that `import hfp8sim` costs nothing. `hs.formats` is the
package of that name; a call of it lists the registered formats.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hfp8sim.collector import loading as _loading
from hfp8sim.version import __version__ as __version__

#: The public names, by the module that each is loaded from.
_HOMES = {
    "hfp8sim.errors": ("InputError",),
    "hfp8sim.formats": (
        "FloatFormat", "get_format", "load_formats", "p3109", "register_format",
    ),
    "hfp8sim.units": ("Profile", "get_profile", "profiles", "register_profile"),
    "hfp8sim.ops": ("Events", "Operand", "Status", "batched", "convert", "explain", "gemm", "round_values"),
    "hfp8sim.ops.convolutions": ("conv_dgrad", "conv_fwd", "conv_wgrad"),
    "hfp8sim.interop.onnx_weights": ("quantise_onnx",),
    "hfp8sim.interop.safetensors": ("load_safetensors", "save_safetensors"),
    "hfp8sim.machine": ("get_machine", "machines"),
    "hfp8sim.network": ("Layer", "Workload"),
    "hfp8sim.workloads": ("load_workload",),
    "hfp8sim.report.report": ("Report", "compare"),
    "hfp8sim.simulation": ("Interrupted", "calibrate", "predictions", "simulate"),
    "hfp8sim.sweeps.drive": ("SweepInterrupted",),
    "hfp8sim.sweeps.result": ("SweepResult",),
    "hfp8sim.sweeps.run": ("sweep",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]

if TYPE_CHECKING:  # the same names for type checkers; a test compares the two
    from hfp8sim.errors import InputError as InputError
    from hfp8sim.formats import FloatFormat as FloatFormat
    from hfp8sim.formats import get_format as get_format
    from hfp8sim.formats import load_formats as load_formats
    from hfp8sim.formats import p3109 as p3109
    from hfp8sim.formats import register_format as register_format
    from hfp8sim.interop.onnx_weights import quantise_onnx as quantise_onnx
    from hfp8sim.interop.safetensors import load_safetensors as load_safetensors
    from hfp8sim.interop.safetensors import save_safetensors as save_safetensors
    from hfp8sim.machine import get_machine as get_machine
    from hfp8sim.machine import machines as machines
    from hfp8sim.network import Layer as Layer
    from hfp8sim.network import Workload as Workload
    from hfp8sim.ops import Events as Events
    from hfp8sim.ops import Operand as Operand
    from hfp8sim.ops import Status as Status
    from hfp8sim.ops import batched as batched
    from hfp8sim.ops import convert as convert
    from hfp8sim.ops import explain as explain
    from hfp8sim.ops import gemm as gemm
    from hfp8sim.ops import round_values as round_values
    from hfp8sim.ops.convolutions import conv_dgrad as conv_dgrad
    from hfp8sim.ops.convolutions import conv_fwd as conv_fwd
    from hfp8sim.ops.convolutions import conv_wgrad as conv_wgrad
    from hfp8sim.report.report import Report as Report
    from hfp8sim.report.report import compare as compare
    from hfp8sim.simulation import Interrupted as Interrupted
    from hfp8sim.simulation import calibrate as calibrate
    from hfp8sim.simulation import predictions as predictions
    from hfp8sim.simulation import simulate as simulate
    from hfp8sim.sweeps.drive import SweepInterrupted as SweepInterrupted
    from hfp8sim.sweeps.result import SweepResult as SweepResult
    from hfp8sim.sweeps.run import sweep as sweep
    from hfp8sim.units import Profile as Profile
    from hfp8sim.units import get_profile as get_profile
    from hfp8sim.units import profiles as profiles
    from hfp8sim.units import register_profile as register_profile
    from hfp8sim.workloads import load_workload as load_workload


def __getattr__(name: str) -> Any:
    if name == "formats":
        with _loading():
            return importlib.import_module("hfp8sim.formats")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'hfp8sim' has no attribute {name!r}")
    with _loading():
        value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
