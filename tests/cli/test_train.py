"""`hfp8sim train` and `hfp8sim quantise`: their tables, their files, their refusals."""

import pytest

pytest.importorskip("torch")

from tests.cli.test_cli import Run, run  # noqa: F401

SMALL = ["train", "tests.training.test_runs:small", "--steps", "3", "--batch", "8"]


def test_train_compares_recipes_and_resumes(run: Run, tmp_path) -> None:  # noqa: F811
    status, out, _ = run(*SMALL, "--out", tmp_path)
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split()[0] == "recipe" and [line.split()[0] for line in lines[1:3]] == [
        "fp32",
        "hfp8",
    ]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"tests.training.test_runs.small.{recipe}.pt" for recipe in ("fp32", "hfp8")]
    status, out, err = run(*SMALL, "--out", tmp_path, "--resume")
    assert (status, out.splitlines()) == (0, lines) and "holds 3 of 3 steps" in err


def test_train_changes_a_recipe(run: Run) -> None:  # noqa: F811
    status, out, _ = run(*SMALL, "--recipe", "hfp8", "--set", "rule=residual-naive")
    assert status == 0 and out.splitlines()[1].split()[:2] == ["hfp8", "3"]


def test_train_watches_and_goes_on_after_a_resume(run: Run, tmp_path) -> None:  # noqa: F811
    arguments = [*SMALL, "--recipe", "hfp8", "--out", tmp_path, "--watch", "2"]
    status, _, err = run(*arguments)
    stem = tmp_path / "tests.training.test_runs.small.hfp8"
    assert status == 0 and f"{stem}.html" in err
    first = (stem.parent / f"{stem.name}.csv").read_text()
    steps = {line.split(",")[0] for line in first.splitlines()[1:]}
    assert steps == {"1", "2"}
    assert "<svg" in (stem.parent / f"{stem.name}.html").read_text()
    status, _, _ = run(*arguments, "--resume")
    assert status == 0 and (stem.parent / f"{stem.name}.csv").read_text() == first


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train", "cnn", "--resume"], "--resume needs --out"),
        (["train", "cnn", "--recipe", "hfp9"], "unknown recipe 'hfp9'"),
        (["train", "cnn", "--set", "update.bits=3"], "unknown recipe key 'update.bits'"),
        (["train", "cnn", "--every", "0"], "--every is 0, must be at least 1"),
        (["train", "cnn", "--watch", "0", "--out", "x"], "--watch is 0, must be at least 1"),
        (["train", "cnn", "--watch", "5"], "--watch needs --out"),
        (["train", "resnet9"], "unknown network 'resnet9'"),
        (["train", "cnn", "--weights", "no.pt"], "no.pt: No such file"),
        (["train", "cnn", "--threads", "0"], "hfp8sim: threads is 0, must be at least 1"),
        (["train", "hfp8sim:gemm"], "network hfp8sim:gemm: it needs arguments"),
    ],
)
def test_bad_arguments_are_one_line(run: Run, arguments, text) -> None:  # noqa: F811
    status, out, err = run(*arguments)
    assert (status, out) == (2, "") and text in err and err.count("\n") == 1


def test_full_disk_shows_what_the_runs_found(run: Run, tmp_path, monkeypatch) -> None:  # noqa: F811
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    monkeypatch.setattr("os.rename", full)
    status, out, err = run(*SMALL, "--out", tmp_path)
    assert status == 2 and [line.split()[0] for line in out.splitlines()] == [
        "recipe",
        "fp32",
        "hfp8",
    ]
    assert "No space left on device" in err and err.count("\n") == 1
    assert not [*tmp_path.iterdir()]


def test_loss_that_is_no_number_keeps_the_steps_before(run: Run, tmp_path) -> None:  # noqa: F811
    spoiled = [
        "train",
        "tests.training.test_runs:spoiled",
        "--steps",
        "4",
        "--batch",
        "8",
        "--recipe",
        "hfp8",
    ]
    status, out, err = run(*spoiled, "--out", tmp_path)
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert "the loss of step 3 is nan" in err and "hfp8.pt holds the 2 steps before" in err
    status, _, err = run(*spoiled, "--out", tmp_path, "--resume")
    assert status == 0 and "holds 2 of 4 steps" in err


# -- quantise ------------------------------------------------------------------------------------------


def test_quantise_a_checkpoint(run: Run, tmp_path) -> None:  # noqa: F811
    assert run(*SMALL, "--recipe", "fp32", "--out", tmp_path)[0] == 0
    path, out = tmp_path / "tests.training.test_runs.small.fp32.pt", tmp_path / "x.safetensors"
    few = ("--batches", "2", "--batch", "8")
    status, text, err = run("quantise", path, *few, "--layers", "2", "--out", out)
    lines = text.splitlines()
    assert status == 0 and out.exists() and err.endswith("holds hfp8, re-tuned\n")
    assert [line.split("  ")[0].strip() for line in lines[:5]] == [
        "network", "fp32", "fp32, re-tuned", "hfp8", "hfp8, re-tuned",
    ]  # fmt: skip
    assert lines[6].split()[:3] == ["layer", "kind", "profile"] and len(lines) == 9
    values = tmp_path / "y.pt"
    status, text, _ = run(
        "quantise", path, *few, "--retune", "none", "--calibrate", "--out", values
    )
    assert status == 0 and [line.split()[0] for line in text.splitlines()[:3]] == [
        "network",
        "fp32",
        "hfp8",
    ]
    status, _, err = run("quantise", values)
    assert status == 2 and "does not name its network and data" in err
    named = ("--network", "tests.training.test_runs:small", "--data", "digits")
    assert run("quantise", values, *named, "--retune", "none", "--policy", "*=keep")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["none.pt"], "none.pt: No such file"),
        (["none.pt", "--recipe", "hfp9"], "unknown recipe 'hfp9'"),
        (["none.pt", "--batches", "0"], "--batches and --batch must be at least 1"),
    ],
)
def test_bad_arguments_of_quantise_are_one_line(run: Run, arguments, text) -> None:  # noqa: F811
    status, out, err = run("quantise", *arguments)
    assert (status, out) == (2, "") and text in err and err.count("\n") == 1
