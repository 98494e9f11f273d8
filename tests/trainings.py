"""Tiny trainings that several test files need: where, with what, and what they leave."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from event_files import events_in

TRAIN = str(Path(__file__).parents[1] / "train.py")
TINY = ["--data", "data", "--model", "DCCRN", "--kernel_num", "4", "8", "--rnn_units", "4", "--batch_size", "4"]
TINY += ["--device", "cpu", "--loss", "SI-SNR+LMS", "--valid_scores", "0", "--precision", "fp32"]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def history_of(name):
    with (Path("runs") / name / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights_of(name, file="last.pt"):
    return torch.load(f"runs/{name}/{file}", weights_only=True)["model"]


def shell(*args, launcher=(), program=TRAIN):
    command = [sys.executable, *launcher, program, *TINY, *map(str, args)]
    # The fault handler says where a process was that the system ended.
    env = os.environ | ONE_THREAD | {"PYTHONPATH": str(Path(TRAIN).parent), "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def scalars(name):
    """{tag: {step: value}}; what a later call strikes out is left out, as TensorBoard does."""
    found = {}
    for event in events_in(Path(f"runs/{name}/tensorboard")):
        if event.HasField("session_log"):
            for steps in found.values():
                for step in [step for step in steps if step >= event.step]:
                    del steps[step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def wait_for(path, seconds=300):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.02)


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    programs = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in found}
    return [child for child, program in programs.items() if b"multiprocessing" not in program]
