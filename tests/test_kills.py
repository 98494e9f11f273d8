"""A training that is killed again and again ends where an uninterrupted one does.

KILLS=50 python -m pytest tests/test_kills.py -s  # more kills than by default; about 8 s each
"""

import os
import random
import re
import signal
import subprocess
from pathlib import Path

import learned_terms
import pytest
import torch
from trainings import history_of, shell, weights_of

KILLS = int(os.environ.get("KILLS", "4"))
# Everything that has a state: balanced weights, a discriminator, a schedule, an average, scores; a checkpoint
# after every step or two.
OPTIONS = ["--loss", "SI-SNR+LMS+tiny-GAN", "--coupling", "balanced", "--epochs", "8", "--schedule", "plateau"]
OPTIONS += ["--warmup_steps", "5", "--clip_grad", "5", "--ema", "0.9", "--valid_scores", "2"]
OPTIONS += ["--checkpoint_minutes", "0.001"]
TIMES = ("seconds", "items_per_second")
LONGEST = 12  # seconds after which a call is killed at the latest
PATIENCE = 900  # seconds; the machine may be busy


def start(name: str) -> subprocess.Popen:
    return shell(*OPTIONS, "--name", name, program=learned_terms.__file__)


def outcome(name: str) -> tuple[dict, list[dict], dict]:
    last = torch.load(f"runs/{name}/last.pt", weights_only=True)
    rows = [{k: v for k, v in row.items() if k not in TIMES} for row in history_of(name)]
    weights = last["model"] | last["loss"] | {f"average.{k}": v for k, v in last["average"].items()}
    return weights, rows, weights_of(name, "best.pt")


@pytest.mark.slow
def test_killed_trainings_end_with_the_weights_and_history_of_an_uninterrupted_one(workplace):
    whole = start("whole")
    printed = whole.communicate(timeout=PATIENCE)
    assert whole.returncode == 0, printed
    expected = outcome("whole")
    chance = random.Random(os.environ.get("SEED", "0"))
    kills, rounds = {signal.SIGKILL: 0, signal.SIGTERM: 0}, 0
    while sum(kills.values()) < KILLS:
        name = f"killed{rounds}"
        while True:
            training = start(name)
            number = chance.choice(list(kills))
            limit = chance.uniform(0, LONGEST) if sum(kills.values()) < KILLS else PATIENCE
            try:
                printed = "".join(training.communicate(timeout=limit))
            except subprocess.TimeoutExpired:
                training.send_signal(number)
                printed = "".join(training.communicate(timeout=PATIENCE))
                kills[number] += training.returncode != 0
            code = training.returncode
            assert code in (0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM), (code, printed)
            assert "Traceback" not in printed, printed
            if code == 128 + signal.SIGTERM and re.search(r"^\d+/\d", printed, re.MULTILINE):  # an epoch's row
                assert "rerun the same command to resume" in printed
            for path in Path("runs").glob(f"{name}/*.pt"):
                torch.load(path, weights_only=True)
            if code == 0:
                break
        rounds += 1
        weights, history, best = outcome(name)
        assert history == expected[1]
        for found, wanted in ((weights, expected[0]), (best, expected[2])):
            assert found.keys() == wanted.keys()
            assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    print(
        f"{rounds} trainings, killed {kills[signal.SIGKILL]} times by SIGKILL, {kills[signal.SIGTERM]} by SIGTERM"
    )
