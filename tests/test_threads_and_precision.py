"""Threads that share the cores with other programs, and the precision that a run finds for its machine."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import SMALL, SMALL_NETWORKS, small_settings
from programs import run
from trainings import TINY, weights_of

import train
from config import Config
from models import build_model
from tools import sweep
from tools.common import processes
from tools.common.device import use_threads
from tools.common.errors import UserError
from tools.common.run_folder import read_config
from tools.training import precision
from tools.training.distributed import Processes

REPOSITORY = Path(__file__).parents[1]
COMPUTING = ("train.py", "test.py", "-m tools.enhance a.pt -", "-m tools.benchmark", "-m tools.loss_report")
AUTO = [*TINY, "--precision", "auto"]
CPU = Processes(torch.device("cpu"))


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fast_bf16(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text("flags: avx512_bf16\n")
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(precision, "lack_of_bf16", lambda device: "")  # PyTorch computes it, slowly, elsewhere too


@pytest.mark.parametrize("program", COMPUTING)
@pytest.mark.parametrize(("chosen", "expected"), [({}, "1000"), ({"OMP_WAIT_POLICY": "active"}, "None")])
def test_threads_wait_briefly_unless_the_user_says_how(tmp_path, program, chosen, expected):
    (tmp_path / "torch.py").write_text("import os, sys; print(os.environ.get('GOMP_SPINCOUNT')); sys.exit(7)")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP", "OMP", "KMP"))}
    environment = clean | chosen | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, *program.split()]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (7, expected), done.stderr


def test_a_program_uses_as_many_threads_as_it_is_told_and_no_more_than_its_share(monkeypatch):
    assert use_threads(3) == torch.get_num_threads() == 3
    monkeypatch.setattr("tools.common.device.cores", lambda: 8)
    assert use_threads("auto") == 3  # as OMP_NUM_THREADS, or the physical cores, say
    assert use_threads("auto", sharing=4) == 2
    assert use_threads("auto", sharing=16) == 1


def test_a_container_gets_no_more_processes_than_its_quota(tmp_path, monkeypatch):
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(processes, "CPU_QUOTA", quota)
    whole = processes.cores()
    quota.write_text("100000 100000\n")
    assert processes.cores() == 1
    quota.write_text("max 100000\n")
    assert processes.cores() == whole


def test_auto_takes_bf16_on_a_cpu_that_multiplies_it(fast_bf16, monkeypatch):
    assert precision.settle_precision(Config(), CPU)[0].precision == "bf16"
    assert precision.settle_precision(Config(model="GTCRN"), CPU)[0].precision == "fp32"
    monkeypatch.setattr(precision, "CPU_INFO", Path("none"))
    assert precision.settle_precision(Config(), CPU)[0].precision == "fp32"
    monkeypatch.setattr(precision, "lack_of_bf16", lambda device: "this processor lacks it")
    with pytest.raises(UserError, match="found bf16, but this processor lacks it; use --precision fp32"):
        precision.settle_precision(Config(precision="bf16"), CPU)


def test_a_run_keeps_what_auto_became_and_goes_on_with_the_same_bits(workplace, fast_bf16, monkeypatch):
    assert run(train, *AUTO, "--epochs", "2", "--name", "whole") == 0
    assert run(train, *AUTO, "--epochs", "1", "--name", "parts") == 0
    assert read_config(Path("runs/parts")).precision == "bf16"
    monkeypatch.setattr(precision, "CPU_INFO", Path("none"))
    assert run(train, *AUTO, "--epochs", "2", "--name", "parts") == 0
    whole, parts = weights_of("whole"), weights_of("parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert run(train, *AUTO, "--epochs", "2", "--name", "parts", "--precision", "fp32") == 2  # another training


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_the_order_of_channels_in_memory_changes_no_estimate_and_no_gradient(name):
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = build_model(Config(**small_settings(name))).double().to(memory_format=layout)
        estimate = model(torch.randn(2, 4000, generator=torch.Generator().manual_seed(1)).double() * 0.1)
        estimate.square().sum().backward()
        found.append([estimate.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for plain, turned in zip(*found, strict=True):
        assert torch.allclose(plain, turned, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("chosen", "expected"), [("bf16", True), ("fp32", False)])
def test_convolutions_in_bf16_on_a_cpu_get_the_layout_that_needs_no_rearranging(chosen, expected):
    config = Config(network=SMALL, precision=chosen)
    for name in ("DCCRN", "CRN"):
        model = build_model(dataclasses.replace(config, model=name))
        precision.arrange_channels(model, config, torch.device("cpu"))
        kernels = [weight for weight in model.parameters() if weight.ndim == 4 and min(weight.shape[:2]) > 1]
        assert all(weight.is_contiguous(memory_format=torch.channels_last) == expected for weight in kernels)


def test_a_run_from_before_auto_goes_on_in_its_precision(workplace, fast_bf16):
    assert run(train, *AUTO, "--epochs", "1", "--name", "old", "--precision", "fp32") == 0
    assert run(train, *AUTO, "--epochs", "2", "--name", "old") == 0
    assert read_config(Path("runs/old")).precision == "fp32"


@pytest.mark.slow
def test_the_runs_of_a_sweep_have_one_precision(workplace, fast_bf16, monkeypatch):
    settings = sweep.SweepSettings(losses=("MSE", "SI-SNR"), devices=("cpu",))

    def precisions():
        options = sweep.fix_precision(settings, AUTO)
        tuning = sweep.plan_tuning(settings, options, sweep.first_rates(settings, options))
        return {job.config.precision for job in [*sweep.plan(settings, options), *tuning]}

    assert precisions() == {"bf16"}
    assert run(train, *AUTO, "--epochs", "1", "--loss", "MSE", "--name", "sweep_MSE_seed0") == 0
    monkeypatch.setattr(precision, "CPU_INFO", Path("none"))
    assert precisions() == {"bf16"}
    shutil.rmtree("runs")
    assert precisions() == {"fp32"}
