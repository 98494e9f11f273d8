"""A sweep trains, tests and tunes what is missing, on the devices that it is given."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from made_runs import make_run
from programs import refused, run

from config import Config
from models import complete
from tools import sweep
from tools.common.files import fingerprint
from tools.common.run_folder import note_test

pytestmark = pytest.mark.usefixtures("here")


def test_a_dry_run_of_the_sweep_prints_every_command(capsys):
    assert run(sweep, "--seeds", "0", "1", "--dry_run", "--", "--preset", "demo") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("train.py --preset demo --name sweep_" in line for line in lines) == 12
    assert sum("test.py --name sweep_" in line for line in lines) == 12
    assert lines[-1].startswith("python -m tools.compare sweep_MSE_seed0 sweep_MSE+LMS_seed0 ")
    assert lines[-1].endswith("--name sweep --baseline sweep_MSE_seed0 --data data/demo")


def test_a_slurm_array_has_a_task_a_run(tmp_path, capsys):
    assert run(sweep, "--losses", "MSE", "SI-SNR", "--seeds", "0", "1", "--slurm") == 0
    script = capsys.readouterr().out
    assert "#SBATCH --array=0-3\n" in script
    (tmp_path / "job.sh").write_text(script.replace(sys.executable, "echo"))
    task = subprocess.run(["bash", "job.sh"], env={"SLURM_ARRAY_TASK_ID": "3"}, capture_output=True, text=True)
    assert task.returncode == 0, task.stderr
    assert "train.py --name sweep_SI-SNR_seed1 --loss SI-SNR --seed 1" in task.stdout.splitlines()[0]
    assert "test.py --name sweep_SI-SNR_seed1" in task.stdout.splitlines()[1]


Popen = subprocess.Popen  # itself, where a test replaces it


@pytest.mark.slow
def test_a_sweep_that_is_told_to_stop_stops_its_trainings_and_starts_no_more(tmp_path):
    (tmp_path / "train.py").write_text("import time; open('started', 'a').write('x'); time.sleep(600)")
    program = """
import sys
from config import Config
from tools import sweep
job = sweep.Job(Config(), ((sys.executable, "train.py"),))
sweep.run_command(lambda: sweep.run_jobs([job, job], ("cpu",)))
"""
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(sweep.REPOSITORY)}
    process = subprocess.Popen([sys.executable, "program.py"], env=environment)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert (tmp_path / "started").read_text() == "x"


def test_a_sweep_compares_the_other_runs_after_a_failure_and_skips_what_is_finished(monkeypatch, capsys):
    calls, broken = [], {"sweep_SDR_seed0"}

    def pretend(command, env):
        program, name = Path(command[1]).name, command[command.index("--name") + 1]
        calls.append((program, name, command[-1]))
        if program == "test.py":
            make_run(name, name.split("_")[1], epochs=1)
            best = Path("runs") / name / "best.pt"
            best.write_bytes(b"")
            (Path("runs") / name / "history.csv").write_text("epoch\n1\n")
            note_test(Path("runs") / name / "test" / "demo", {"checkpoint": fingerprint(best)})
        return Popen(["false" if name in broken else "true"])

    monkeypatch.setattr(sweep.subprocess, "Popen", pretend)
    monkeypatch.setattr(sweep, "compare", lambda settings: calls.append(settings.runs))
    command = ("--losses", "MSE", "SDR", "SI-SNR", "--devices", "cpu", "--", "--epochs", "1")
    assert run(sweep, *command).startswith("error: sweep_SDR_seed0: failed")  # Python prints it, exit code 1
    assert calls.pop() == ("sweep_MSE_seed0", "sweep_SI-SNR_seed0")
    assert [call[:2] for call in calls] == [
        ("train.py", "sweep_MSE_seed0"),
        ("test.py", "sweep_MSE_seed0"),
        ("train.py", "sweep_SDR_seed0"),
        ("train.py", "sweep_SI-SNR_seed0"),
        ("test.py", "sweep_SI-SNR_seed0"),
    ]
    assert {call[2] for call in calls} == {"cpu"}
    calls.clear()
    broken.clear()
    assert run(sweep, *command) == 0
    assert [call[1] for call in calls[:2]] == ["sweep_SDR_seed0"] * 2
    assert calls[2] == ("sweep_MSE_seed0", "sweep_SDR_seed0", "sweep_SI-SNR_seed0")


def test_a_training_that_cannot_be_started_ends_the_sweep():
    jobs = [sweep.Job(Config(name=name), (["/no/such/program"],)) for name in ("a", "b", "c")]
    with pytest.raises(FileNotFoundError):
        sweep.run_jobs(jobs, ["cpu"])


def test_two_trainings_on_the_cpu_share_its_cores(monkeypatch):
    threads = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sweep, "cores", lambda: 8)
    monkeypatch.setattr(
        sweep.subprocess,
        "Popen",
        lambda command, env: threads.append(env.get("OMP_NUM_THREADS")) or Popen(["true"]),
    )
    job = sweep.Job(Config(), (("train.py",),))
    sweep.run_jobs([job], ("cpu",))
    sweep.run_jobs([job, job], ("cpu", "cpu"))
    assert threads == [None, "4", "4"]


def test_trainings_that_share_a_gpu_do_so_by_mps_which_ends_with_them(tmp_path, monkeypatch):
    control, log = tmp_path / "nvidia-cuda-mps-control", tmp_path / "log"
    control.write_text(f'#!/bin/sh\n[ "$1" ] && echo "$1" >> {log} || cat >> {log}\n')
    control.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for devices in (("cpu", "cpu"), ("cuda:0", "cuda:1"), ("cuda",) * 6):
        with sweep.shared_gpus(devices):
            assert log.exists() == (devices[-1] == "cuda")
    assert log.read_text() == "-d\nquit\n"


def test_tuning_tries_rates_until_the_best_lies_between_others_and_compares_with_the_best_of_each(
    monkeypatch, capsys
):
    calls = []
    best, diverged = {"MSE": "0.006", "SI-SNR+PMSQE": "0.000667"}, {"sweep_tune_SI-SNR+PMSQE_rate0.006"}

    def pretend(command, env):
        options = dict(zip(command[2::2], command[3::2], strict=False))
        loss, name, rate = (options.get(key) for key in ("--loss", "--name", "--learning_rate"))
        calls.append((Path(command[1]).name, name, rate, options.get("--epochs")))
        if name in diverged:
            return Popen(["false"])
        if Path(command[1]).name == "train.py":
            epochs = int(options["--epochs"])
            settings = {"data": "x", "learning_rate": float(rate), "epochs": epochs, "precision": "fp32"}
            config = Config(name=name, loss=loss, seed=3, **settings)
            config.run_dir.mkdir(parents=True, exist_ok=True)
            (config.run_dir / "config.json").write_text(json.dumps(complete(config).to_dict()))
            estoi = 0.7 if rate == best[loss] else 0.6
            si_sdr, pesq = (9, 1.5) if rate == best[loss] else (8, 1.9)  # two of three scores decide
            line = f"{epochs},{pesq},{estoi},{si_sdr}\n"
            (config.run_dir / "history.csv").write_text(f"epoch,valid_pesq,valid_estoi,valid_si_sdr\n{line}")
        return Popen(["true"])

    Path("x").mkdir()
    monkeypatch.setattr(sweep.subprocess, "Popen", pretend)
    monkeypatch.setattr(sweep, "compare", lambda settings: calls.append(settings.tuning))
    options = ("--data", "x", "--epochs", "6", "--learning_rate", "2e-3", "--precision", "fp32")
    command = ("--losses", *best, "--seeds", "3", "--tune", "learning_rate", "--devices", "cpu", "--", *options)
    assert run(sweep, *command).startswith("error: sweep_tune_SI-SNR+PMSQE_rate0.006: failed")

    tried = calls[:8]
    assert [rate for _, _, rate, _ in tried] == ["0.000667", "0.002", "0.006"] * 2 + ["0.018", "0.000222"]
    assert {(program, epochs) for program, _, _, epochs in tried} == {("train.py", "2")}
    trained = {name: rate for program, name, rate, _ in calls[8:-1] if program == "train.py"}
    assert trained == {f"sweep_{loss}_seed3": rate for loss, rate in best.items()}
    table = calls[-1]
    chosen = {row["loss"]: row["learning_rate"] for row in pd.read_csv(table).to_dict("records") if row["chosen"]}
    assert chosen == {loss: float(rate) for loss, rate in best.items()}
    calls.clear()
    untuned = [option for option in command[: -len(options) - 1] if option not in ("--tune", "learning_rate")]
    assert run(sweep, *untuned, "--rates", table, "--dry_run", "--", *options) == 0
    printed = capsys.readouterr().out
    assert all(f"--loss {loss} --seed 3 --learning_rate {rate}" in printed for loss, rate in best.items())
    other = ("--losses", "SNR", *untuned[2:], "--rates", table, "--", *options)
    assert "has no learning rate of SNR" in refused(capsys, sweep, *other)
    calls.clear()
    alone = ("--losses", next(iter(best)), "--seeds", "3", "--devices", "cpu", "--", *options)
    assert run(sweep, *alone) == 0
    assert [program for program, *_ in calls] == ["train.py", "test.py"]
    several = (*command[: -len(options) - 1], "--slurm", "--", *options)
    assert "slurm: found with --tune" in refused(capsys, sweep, *several)
