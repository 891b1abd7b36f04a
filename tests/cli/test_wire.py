"""`hfp8sim wire`: the table of protocols, layers, and a system's times."""

import sys

import pytest

from hfp8sim import cli


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the console script in this process: exit status, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["hfp8sim", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code or 0, *capsys.readouterr()

    return call


def test_wire_prints_the_protocols_of_resnet50(run):
    _, text, _ = run("wire", "resnet50@8", "--learners", "4")
    rows = {line[:38].strip(): line[38:].split() for line in text.splitlines() if "  " in line}
    assert rows["16-bit all-reduce"] == ["76.509", "1.00", "324"]
    assert rows["HFP8, all layers in 8 bits"] == ["57.382", "0.75", "324"]
    assert rows["HFP8, first and last layer in 16 bits"][1] == "0.77"


def test_wire_shows_layers_and_a_systems_times(run, tmp_path):
    path = tmp_path / "two.toml"
    path.write_text('name = "two"\nchips = 2\nlink.gb_per_s = 1\n')
    _, text, _ = run("wire", "digits-cnn", "--layers", "--system", str(path))
    assert "conv2  all-gather           2,304         1" in text
    assert "update on two" in text
    gains = next(line for line in text.splitlines() if line.startswith("reduce-scatter hidden"))
    cells = gains.replace("x = ", "").split()[2:]
    assert cells == ["50%", "1.5", "3.2", "never", "0.9", "3.0"]
    times = {
        line.split()[0]: line.split()[-2] for line in text.splitlines() if line.endswith(" time")
    }
    assert list(times) == ["fp32", "fp16", "hfp8", "8-bit"]
    assert (times["fp16"], times["hfp8"][0]) == ("+0.0%", "-")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["digits-cnn", "--learners", "0"], "learners is 0, must be at least 1"),
        (["no-net"], "no-net"),
        (["digits-cnn", "--system", "none.toml"], "none.toml: No such file"),
    ],
)
def test_wire_refuses_bad_input_in_one_line(run, options, message):
    status, _, errors = run("wire", *options)
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
