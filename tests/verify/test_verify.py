"""`hfp8sim verify`: it finds no difference, it finds planted differences, and it resumes after an interrupt."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hfp8sim import kernels, verify
from hfp8sim._numba.sources import this_package
from hfp8sim.errors import InputError
from hfp8sim.formats import formats, get_format
from hfp8sim.units.update import Slot
from hfp8sim.verify import Check, Result, sweeps
from hfp8sim.verify import c_reference as reference
from hfp8sim.verify import mac as mac_sweeps
from hfp8sim.verify import update as update_sweeps
from hfp8sim.verify.convert import ConvertSweep
from hfp8sim.verify.half import half_target
from hfp8sim.verify.mac import AddSweep, MacSweep
from hfp8sim.verify.run import State, sources_digest


def test_fast_tier_differs_nowhere() -> None:
    results = verify.run(verify.checks())
    assert [check.name for check, result in results if result.differed or not result.tried] == []
    assert sum(result.tried for _, result in results) > 4e7


def test_exhaustive_tier_covers_all_inputs() -> None:
    """All parts of a sweep together are the whole space."""
    names = [check.name for check in verify.checks(exhaustive=True)]
    assert len(set(names)) == len(names)
    long = [check for check in verify.checks(exhaustive=True) if check.exhaustive]
    assert sum(check.name.startswith("multiply") for check in long) == 3 * 4
    assert sum(check.name.startswith("binary16") for check in long) == (
        3 * 2 if half_target() else 0
    )
    assert sum(check.name.startswith("conversion") for check in long) == sum(
        get_format(name).bits == 8 for name in formats()
    )
    families = {check.name.split()[0]: check for check in long}
    sizes = dict.fromkeys(families, 2**32) | {"update": 2**27}
    for family, check in families.items():
        result = check.part(check.parts // 3)
        if family == "binary16":  # sums beyond the window are left out
            sizes[family] = result.tried * check.parts
            assert result.tried > 4e6
        assert result == Result(sizes[family] // check.parts), check.name
        check.done()
    assert sum(family == "update" for family in (c.name.split()[0] for c in long)) == 4 + 3


def flip(kernel, row: int):
    """A kernel whose result is wrong in one place."""

    def wrong(*arguments) -> None:
        kernel(*arguments)
        arguments[-2][row] ^= 1

    return wrong


def test_wrong_unit_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    h = get_format("hfp8-143")
    sweep = MacSweep(h, h, get_format("dlfloat16"), "nearest-away", constant=False)
    monkeypatch.setattr(sweeps, "product_row_any", flip(sweeps.product_row_any, 0x1234))
    result = sweep.part(0x58, columns=np.array([0, 0x58]))
    assert result.tried == 2 * 65536 and result.differed == 2
    assert result.first.startswith("a = 0x58, b = 0x00, acc = 0x1234: 0x1235 ≠ 0x1234")


def test_wrong_flags_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments) -> None:
        row(*arguments)
        arguments[-1][0x4321] ^= 8

    row = sweeps.product_row_any
    h = get_format("hfp8-143")
    sweep = MacSweep(h, h, get_format("dlfloat16"), "nearest-even", constant=False)
    monkeypatch.setattr(sweeps, "product_row_any", wrong)
    result = sweep.part(0x58, columns=np.array([0x58]))
    assert result.differed == 1 and "acc = 0x4321" in result.first


def test_wrong_kernel_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    h = get_format("hfp8-143")
    sweep = MacSweep(h, h, get_format("dlfloat16"), "nearest-even", constant=False)
    encode = kernels.encode

    def wrong(panels, facts, scale, codes) -> None:
        encode(panels, facts, scale, codes)
        codes[1, 0x5800] += 1  # the first kernel reaches every code but NaN

    monkeypatch.setattr(mac_sweeps.kernels, "encode", wrong)
    result = sweep.part(0x58, columns=np.array([0, 0x58]))
    assert result.differed >= 1
    assert result.first.startswith("kernel, a = 0x58, b = 0x58, acc = 0x5800")


def test_narrow_kernels_are_tested() -> None:
    """If tiles are wider than a panel, the narrow kernel for the remaining columns is tested too."""
    h = get_format("hfp8-143")
    sweep = MacSweep(h, h, get_format("dlfloat16"), "nearest-even")
    sweep._prepare()
    tested_kernels = {tested.plan.kernel for tested in sweep.kernels}
    assert tested_kernels and {kernel.narrow for kernel in tested_kernels} <= tested_kernels
    assert kernels.host_target().lanes < 16 or {kernel.panels for kernel in tested_kernels} == {
        1,
        3,
    }


def test_wrong_adder_and_converter_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "add_row_any", flip(sweeps.add_row_any, 7))
    result = AddSweep(get_format("ieee-169"), "nearest-even", constant=False).part(0, np.array([5]))
    assert result.differed == 1 and "total = 0x0005, addend = 0x0007" in result.first
    monkeypatch.setattr(sweeps, "encode_row_any", flip(sweeps.encode_row_any, 9))
    sweep = ConvertSweep(get_format("e4m3fn"), "nearest-even", "special", constant=False)
    result = sweep.span(0x40000000, 64)
    assert (result.tried, result.differed) == (64, 1) and "0x40000009" in result.first


@pytest.mark.parametrize("which", ["plain_update", "update_flat"])
def test_wrong_update_is_reported(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    right = getattr(update_sweeps, which)

    def wrong(rule, constants, tensors, *arguments, **options):
        counts = right(rule, constants, tensors, *arguments, **options)
        tensors[Slot.WEIGHT][0x1234] += 1
        counts.stuck += 1
        return counts

    monkeypatch.setattr(update_sweeps, which, wrong)
    result = update_sweeps.WeightSweep("nearest-even").part(700)
    assert (result.tried, result.differed) == (65536, 2)  # an element, and the counts
    assert "element 4660" in result.first


def test_all_random_words_occur() -> None:
    """Every random word is used for some pair."""
    sweep = MacSweep(
        get_format("hfp8-143"), get_format("hfp8-152"), get_format("dlfloat16"), "stochastic-a"
    )
    sweep._prepare()
    assert set(np.unique(sweep.words)) == set(range(2**13))


@dataclasses.dataclass
class Recorder:
    """A check that records the parts it computes, and raises an interrupt at part `stop`."""

    parts: list[int]
    stop: int = -1

    def part(self, i: int) -> Result:
        if i == self.stop:
            raise KeyboardInterrupt
        self.parts.append(i)
        return Result(10, int(i == 2), "part 2" if i == 2 else "")


def test_interrupted_run_resumes(tmp_path: Path) -> None:
    path, first, second = tmp_path / "state.json", Recorder([], stop=5), Recorder([])
    with pytest.raises(KeyboardInterrupt):
        verify.run([Check("c", "", "", 9, first.part)], threads=1, state=path)
    again = Check("c", "", "", 9, second.part)
    ((_, result),) = verify.run([again], threads=1, state=path)
    assert result == Result(90, 1, "part 2")
    assert 0 < len(first.parts) < 9
    assert sorted(set(first.parts) | set(second.parts)) == list(range(9))
    assert len(second.parts) < 9
    ((_, result),) = verify.run([again], threads=1, state=path)
    assert result == Result(90, 1, "part 2")
    assert len(second.parts) < 9


def test_digest_covers_reachable_sources() -> None:
    reached = this_package().reachable("hfp8sim.verify")
    assert {"hfp8sim._c_ref", "hfp8sim.verify.sweeps", "hfp8sim.units.mac"} <= reached
    assert not {"hfp8sim.cli.proofs", "hfp8sim.report.table"} & reached
    assert sources_digest() == this_package().digest("hfp8sim.verify")


def test_state_of_other_sources(tmp_path: Path) -> None:
    path, recorder = tmp_path / "state.json", Recorder([])
    check = Check("c", "", "", 4, recorder.part)
    verify.run([check], threads=2, state=path)
    stored = json.loads(path.read_text())
    assert stored["checks"]["c"]["parts"] == [[0, 3]]
    path.write_text(json.dumps(stored | {"sources": "others"}))
    verify.run([check], threads=2, state=path)
    assert sorted(recorder.parts) == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"sources": "%s"}', '{"sources": "%s", "checks": {"c": 1}}']
)
def test_damaged_state_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text.replace("%s", State(None).sources))
    with pytest.raises(InputError, match=r"is not a state file of `hfp8sim verify`"):
        verify.run([], state=path)


def test_missing_c_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_module", lambda: None)
    with pytest.raises(InputError, match="the C reference is not built: install a C compiler"):
        verify.checks()
