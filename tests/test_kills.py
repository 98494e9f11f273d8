"""A training that is killed again and again ends where an uninterrupted one does.

KILLS=50 python -m pytest tests/test_kills.py -s  # more kills than by default; about 8 s each
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools.demo_corpus.corpus import make_demo_corpus

TRAIN = Path(__file__).with_name("learned_terms.py")  # train.py with a discriminator
KILLS = int(os.environ.get("KILLS", "4"))
# Everything that has a state: balanced weights, a discriminator, a schedule, an average, scores; a checkpoint
# after every step or two.
SETTINGS = {
    "data": "data",
    "kernel_num": "4 8 16",
    "rnn_units": 8,
    "batch_size": 4,
    "device": "cpu",
    "loss": "SI-SNR+LMS+tiny-GAN",
    "coupling": "balanced",
    "epochs": 8,
    "schedule": "plateau",
    "warmup_steps": 5,
    "clip_grad": 5,
    "ema": 0.9,
    "valid_scores": 2,
    "precision": "fp32",
    "checkpoint_minutes": 0.001,
}
TIMES = ("seconds", "items_per_second")
LONGEST = 12  # seconds after which a call is killed at the latest
PATIENCE = 900  # seconds; the machine may be busy


def start(name: str) -> subprocess.Popen:
    settings = " ".join(f"--{key} {value}" for key, value in SETTINGS.items())
    return subprocess.Popen(
        [sys.executable, str(TRAIN), *settings.split(), "--name", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAIN.parents[1])},
    )


def outcome(name: str) -> tuple[dict, list[dict], dict]:
    last, best = (torch.load(f"runs/{name}/{file}.pt", weights_only=True) for file in ("last", "best"))
    with open(f"runs/{name}/history.csv", newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    weights = last["model"] | last["loss"] | {f"average.{k}": v for k, v in last["average"].items()}
    return weights, rows, best["model"]


@pytest.mark.slow
def test_killed_trainings_end_with_the_weights_and_history_of_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_demo_corpus(Path("data"), n_train=24, n_valid=4, n_test=1, seconds=1.0)
    whole = start("whole")
    assert whole.wait(PATIENCE) == 0, whole.stdout.read()
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
                code = training.wait(limit)
            except subprocess.TimeoutExpired:
                training.send_signal(number)
                code = training.wait(PATIENCE)
                if code != 0:
                    kills[number] += 1
            printed = training.stdout.read()
            assert code in (0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM), (code, printed)
            assert "Traceback" not in printed, printed
            if code == 128 + signal.SIGTERM:
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
