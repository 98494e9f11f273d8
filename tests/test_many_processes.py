"""torchrun train.py: several processes train as one does, and end together."""

import os
import signal
import time
from pathlib import Path

import learned_terms
import numpy as np
import pytest
import torch
from trainings import children, history_of, scalars, shell, wait_for, weights_of

from models import load_model

TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "loss"), [("batch", "SI-SNR+LMS"), ("complex", "SI-SNR+LMS"), ("batch", learned_terms.LOSS)]
)
def test_two_processes_train_as_one_does(workplace, norm, loss):
    options = ["--norm", norm, "--loss", loss, "--epochs", "2", "--skip_nonfinite", "1"]
    for name, launcher in (("one", ()), ("two", (*TORCHRUN, "29611"))):
        training = shell(*options, "--name", name, launcher=launcher, program=learned_terms.__file__)
        assert training.wait(300) == 0, training.communicate()
    one, two = scalars("one"), scalars("two")
    terms = [tag for tag in one if tag.startswith("step/") and "weight" not in tag]
    for tag in set(terms) - {"step/items_per_second"}:
        assert list(two[tag]) == list(range(1, 13))  # 22 items in batches of 4: the last has 2
        np.testing.assert_allclose([two[tag][n] for n in range(1, 11)], [one[tag][n] for n in range(1, 11)], 1e-5)
    for name in ("train_loss", "valid_loss"):
        ours, alone = ([float(line[name]) for line in history_of(run)] for run in ("two", "one"))
        np.testing.assert_allclose(ours, alone, 1e-4)
    assert {path.name for path in Path("runs/two").iterdir()} == {path.name for path in Path("runs/one").iterdir()}


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_within_half_a_minute(workplace):
    both = shell("--name", "a", "--epochs", "5000", launcher=(*TORCHRUN, "29612"))
    wait_for(Path("runs/a/last.pt"))
    ranks = children(both.pid)
    assert len(ranks) == 2
    begun = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = both.communicate(timeout=300)
    assert time.monotonic() - begun < 30
    assert both.returncode != 0
    assert "SIGKILL" in errors  # torchrun says what happened to which process
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    load_model("runs/a/last.pt")


@pytest.mark.slow
def test_two_processes_that_are_told_to_stop_go_on_as_if_they_had_not(workplace):
    options = ["--epochs", "6", "--ema", "0.9"]
    whole = shell(*options, "--name", "whole", launcher=(*TORCHRUN, "29613"))
    assert whole.wait(300) == 0
    parts = shell(*options, "--name", "parts", launcher=(*TORCHRUN, "29614"))
    wait_for(Path("runs/parts/last.pt"))
    parts.send_signal(signal.SIGTERM)
    parts.communicate(timeout=300)
    assert len(history_of("parts")) < 6
    parts = shell(*options, "--name", "parts", launcher=(*TORCHRUN, "29615"))
    assert parts.wait(300) == 0
    for file in ("last.pt", "best.pt"):
        whole, parts = weights_of("whole", file), weights_of("parts", file)
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
