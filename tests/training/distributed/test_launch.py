"""The launcher of learners in processes: which end it reports, and that no learner outlives it."""

import sys
import time

import pytest

pytest.importorskip("torch")

from hfp8sim import InputError
from hfp8sim.training.distributed.launch import LOST, launch


def launched(program, learners=3):
    """The status of learners that run a program in which `k` is the learner's number."""
    head = "import os, sys, time\nk = int(os.environ['RANK'])\n"
    return launch([sys.executable, "-S", "-c", head + program], learners)


def test_learners_know_their_number_and_end_well(tmp_path):
    program = f"open(r'{tmp_path}/' + os.environ['RANK'] + 'of' + os.environ['WORLD_SIZE'], 'w')"
    assert launched(program) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0of3", "1of3", "2of3"]


def test_input_that_all_learners_refuse_is_reported_by_learner_0():
    """Also if another one ends before it."""
    assert launched("time.sleep(0 if k else 0.5)\nsys.exit(2)") == 2


def test_failed_learner_is_named_with_its_last_line():
    program = (
        f"time.sleep(0.3 * (k != 1))\nprint('one\\ndisk full')\nsys.exit({LOST} if k != 1 else 1)"
    )
    with pytest.raises(InputError, match=r"^learner 1 failed: disk full$"):
        launched(program)
    with pytest.raises(InputError, match=r"^learner 1 failed: status 7$"):
        launched(f"sys.exit({LOST} if k != 1 else 7)")


def test_killed_learner_is_named_and_others_are_ended():
    start = time.monotonic()
    with pytest.raises(InputError, match=r"^learner 2 was ended by SIGKILL$"):
        launched("if k == 2: os.kill(os.getpid(), 9)\ntime.sleep(600)")
    assert time.monotonic() - start < 300


def test_lost_learners_are_reported_if_no_other_failed():
    with pytest.raises(InputError, match=rf"^learner 0 failed: status {LOST}$"):
        launched(f"sys.exit({LOST})")
