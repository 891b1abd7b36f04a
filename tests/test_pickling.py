"""Records can be pickled and copied: a copy equals its original and computes the same."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.lowering import lower_layer
from hfp8sim.network import Conv, Layer, Workload
from hfp8sim.simulation import Emulated, emulate

RNG = np.random.default_rng(0)
FC = Layer(
    "fc", "linear", 3, 4, 5,
    tensors={"x": RNG.normal(size=(3, 5)).astype(np.float32), "w": np.ones((5, 4), np.float32)},
)  # fmt: skip
CONV = Layer.from_conv("conv", Conv(1, 4, 4, 2, 3, (3, 3)))
WORKLOAD = Workload("net", (FC, CONV), ("a note",))


def report() -> hs.Report:
    return hs.simulate(WORKLOAD, "edge-8x8", "hfp8", phases=["fwd"])


def comparison() -> Any:
    return hs.compare([report(), hs.simulate(WORKLOAD, phases=["fwd"], time_only=True)])


OBJECTS: dict[str, Callable[[], Any]] = {
    "format": lambda: hs.get_format("hfp8-143"),
    "profile": lambda: hs.get_profile("hfp8").replace(chunk_length=8),
    "layer": lambda: FC,
    "convolution": lambda: CONV,
    "workload": lambda: WORKLOAD,
    "machine": lambda: hs.get_machine("rapid-core"),
    "program": lambda: lower_layer(CONV, "fwd"),
    "report": report,
    "comparison": comparison,
    "emulated": lambda: emulate(FC, "fwd", FC.tensors, "hfp8"),
}


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def plain(value: Any) -> Any:
    """A value in terms that compare by content: arrays as bytes, records as tuples of their fields."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return type(value).__name__, fields
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("duplicate", [through_pickle, copy.deepcopy], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize("name", OBJECTS)
def test_copy_equals_the_object(name: str, duplicate: Callable[[Any], Any]) -> None:
    original = OBJECTS[name]()
    copied = duplicate(original)
    assert type(copied) is type(original)
    assert plain(copied) == plain(original)


def test_copied_layer_stays_read_only() -> None:
    for layer in (through_pickle(FC), copy.deepcopy(FC)):
        assert not layer.tensors["x"].flags.writeable
        with pytest.raises(TypeError):
            layer.tensors["x"] = layer.tensors["w"]


def test_unpickled_report_has_every_form() -> None:
    original = report()
    copied = through_pickle(original)
    assert copied == original
    assert copied.to_json() == original.to_json()
    assert copied.to_timeline() == original.to_timeline()
    assert str(copied) == str(original)


def test_report_carries_no_tensors() -> None:
    """A sweep sends thousands of reports; the layers in `origin` have shapes alone."""
    origin = report().origin
    assert origin is not None
    assert all(not layer.tensors for layer, *_ in origin.layers)


def test_unpickled_objects_compute_the_same() -> None:
    workload, machine, profile = (
        through_pickle(value)
        for value in (WORKLOAD, hs.get_machine("edge-8x8"), hs.get_profile("hfp8"))
    )
    assert hs.simulate(workload, machine, profile, phases=["fwd"]) == report()
    layer = through_pickle(FC)
    emulated = emulate(layer, "fwd", layer.tensors, profile)
    assert isinstance(emulated, Emulated)
    assert np.array_equal(emulated.codes, emulate(FC, "fwd", FC.tensors, "hfp8").codes)
