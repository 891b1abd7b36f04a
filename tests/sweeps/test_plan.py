"""Plans: grids, lists, random samples, constraints, files, and refusals of one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.sweeps import Plan, Range, load_plan
from hfp8sim.sweeps.constraints import Constraint
from hfp8sim.sweeps.jobs import Resolver
from hfp8sim.sweeps.keys import all_keys


def points(plan: Plan) -> list[dict[str, object]]:
    return plan.values(Resolver().lookup)


def test_grid_varies_the_last_key_fastest() -> None:
    plan = Plan({"profile.chunk_length": [16, 64], "workload": ["digits-cnn"], "seed": [0, 1]})
    assert plan.keys == ["workload", "profile.chunk_length", "seed"]
    assert [(p["profile.chunk_length"], p["seed"]) for p in points(plan)] == [
        (16, 0), (16, 1), (64, 0), (64, 1),
    ]  # fmt: skip


def test_list_has_its_points_over_the_axes() -> None:
    own = ({"profile.chunk_length": 16, "profile": "hfp8"}, {"profile": "rapid"})
    plan = Plan({"workload": ["digits-cnn"], "seed": [0, 1]}, own)
    found = [(p["profile"], p.get("profile.chunk_length"), p["seed"]) for p in points(plan)]
    assert found == [("hfp8", 16, 0), ("hfp8", 16, 1), ("rapid", None, 0), ("rapid", None, 1)]


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (Range(4, 16, step=4), [4, 8, 12, 16]),
        (Range(16, 128, count=4, log=True), [16, 32, 64, 128]),
        (Range(0.0, 1.0, count=3), [0.0, 0.5, 1.0]),
        (Range(1, 3, count=9), [1, 2, 3]),
    ],
)
def test_range_has_its_numbers(values: Range, numbers: list[float]) -> None:
    found = values.values()
    assert found == pytest.approx(numbers)
    assert found is not None and {type(x) for x in found} == {type(x) for x in numbers}


def test_random_sample_is_reproducible_distinct_and_in_range() -> None:
    axes = {
        "workload": ["digits-cnn"],
        "profile.chunk_length": Range(8, 512, log=True),
        "machine.array.rows": Range(1, 4),
    }
    first, second = points(Plan(axes, samples=40)), points(Plan(axes, samples=40))
    assert first == second != points(Plan(axes, samples=40, sample_seed=1))
    assert len({tuple(p.values()) for p in first}) == 40
    lengths = [p["profile.chunk_length"] for p in first]
    assert all(isinstance(x, int) and 8 <= x <= 512 for x in lengths)
    assert {p["machine.array.rows"] for p in first} == {1, 2, 3, 4}
    below = sum(x < 64 for x in lengths)  # the middle of the logarithmic range
    assert 10 <= below <= 30


def test_sample_of_a_small_grid_is_refused() -> None:
    with pytest.raises(InputError, match="about 2 settings, fewer than samples=3"):
        points(Plan({"workload": ["digits-cnn"], "profile.chunk_length": [8, 16]}, samples=3))


def test_random_settings_are_run_for_every_case() -> None:
    axes = {"workload": ["a", "b"], "profile.chunk_length": Range(8, 512), "seed": [0, 1]}
    found = points(Plan(axes, samples=3))
    cases = [(p["workload"], p["seed"]) for p in found]
    assert cases == [("a", 0), ("a", 1), ("b", 0), ("b", 1)] * 3
    assert len({p["profile.chunk_length"] for p in found}) == 3
    with pytest.raises(InputError, match="samples need a key to draw"):
        Plan({"workload": ["a"], "seed": [0, 1]}, samples=1)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("chunk_length <= 64", [16, 64]),
        ("profile.chunk_length * machine.array.rows > 8 * 16 and seed == 0", [64, 256]),
        ("not chunk_length in [64]", [16, 256]),
        ("16 < chunk_length < 256", [64]),
        ("profile.accumulator == 'dlfloat16' and chunk_length // 100 == 2", [256]),
    ],
)
def test_constraints_keep_points(text: str, kept: list[int]) -> None:
    plan = Plan({"workload": ["digits-cnn"], "profile.chunk_length": [16, 64, 256]}, where=(text,))
    assert [p["profile.chunk_length"] for p in points(plan)] == kept


def test_function_is_a_constraint() -> None:
    plan = Plan(
        {"workload": ["digits-cnn"], "profile.chunk_length": [16, 64, 256]},
        where=(lambda p: p["chunk_length"] < p["machine.memory.latency"],),
    )
    latency = hs.get_machine("rapid-core")["memory.latency"]
    expected = [n for n in (16, 64, 256) if n < latency]
    assert [p["profile.chunk_length"] for p in points(plan)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chunk_length <", "no expression"),
        ("chunk_lenght < 3", "unknown key 'chunk_lenght'; did you mean chunk_length"),
        ("__import__('os')", "is not allowed"),
        ("chunk_length.__class__", "unknown key"),
        ("2 ** 9 > seed", "is not allowed"),
        ("[x for x in seed]", "is not allowed"),
    ],
)
def test_bad_constraint_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(").replace("?", r"\?")):
        Constraint(text)


def test_constraint_of_wrong_types_is_one_line() -> None:
    with pytest.raises(InputError, match="where 'policy < 3': '<' not supported"):
        points(
            Plan({"workload": ["digits-cnn"], "policy": ["", "last=fp16"]}, where=("policy < 3",))
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axes": {"workload": ["x"], "profile.chunk_lenght": [1]}}, "unknown sweep key"),
        ({"axes": {"workload": ["x"], "recipe": ["hfp8"]}}, "of a run and recipe of a training"),
        ({"axes": {"workload": []}}, "workload has no values"),
        ({"axes": {"workload": "digits-cnn"}}, "must be a list of values or a range"),
        ({"axes": {"seed": [1]}}, "needs workloads to run or networks to train"),
        ({"axes": {"recipe": ["hfp8"]}}, "needs workloads to run or networks to train"),
        ({"axes": {"workload": ["x"]}, "samples": 0}, "samples is 0"),
        ({"axes": {"workload": ["x"]}, "samples": 2, "points": ({"seed": 1},)}, "samples go with axes"),
    ],
)  # fmt: skip
def test_bad_plan_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plan(**arguments)  # type: ignore[arg-type]


def test_records_of_one_name_are_refused() -> None:
    hfp8 = hs.get_profile("hfp8")
    with pytest.raises(InputError, match="two values of profile are named 'hfp8'"):
        Plan({"workload": ["digits-cnn"], "profile": [hfp8, hfp8.replace(chunk_length=8)]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 3, "high": 1}, "low must not exceed high"),
        ({"low": 0, "high": 1, "log": True}, "log needs low > 0"),
        ({"low": 0, "high": 1, "step": 0}, "step must be positive"),
        ({"low": 0, "high": "1"}, "must be numbers"),
    ],
)
def test_bad_range_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Range(**arguments)  # type: ignore[arg-type]


# -- files -------------------------------------------------------------------------------------------

PLAN = """
workloads = ["digits-cnn"]
machines = ["rapid-core", "edge-8x8"]
where = "chunk_length <= 64"
samples = 3
sample_seed = 7
quality = "acc_sqnr_db"
costs = ["cycles"]

[fixed]
phases = "fwd"

[vary]
profile.chunk_length = { low = 8, high = 256, log = true }
profile.rounding = ["nearest-away", "nearest-even"]
"""


def test_file_gives_the_plan_of_the_arguments(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PLAN)
    assert load_plan(tmp_path / "mine.toml") == Plan(
        {
            "workload": ["digits-cnn"],
            "machine": ["rapid-core", "edge-8x8"],
            "profile.chunk_length": Range(8, 256, log=True),
            "profile.rounding": ["nearest-away", "nearest-even"],
            "phases": ["fwd"],
        },
        samples=3, sample_seed=7, where=("chunk_length <= 64",), name="mine",
        quality="acc_sqnr_db", costs=("cycles",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workloads = 3", "workloads must be a list of values"),
        ("workloads = ['digits-cnn']\nphases = 'fwd'", "key 'phases' goes below"),
        ("workload = ['digits-cnn']", "unknown key 'workload'; did you mean workloads"),
        ("workloads = ['x']\nvary = 3", r"\[vary\] must be a table"),
        ("workloads = ['x']\nwhere = [3]", "where must be a list of texts"),
        ("workloads = ['x']\n[vary]\nworkload = ['y']", "workload is given twice"),
        ("workloads = ['x']\n[vary]\nseed = {low = 3}", "a range needs low and high"),
        ("workloads = ['x']\npoints = [3]", "points must be tables"),
        ("workloads = [", "not a TOML file"),
    ],
)
def test_bad_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        load_plan(path)


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/sweeps.md").read_text("utf-8")
    assert [key for key in all_keys() if "." not in key and f"`{key}`" not in page] == []
