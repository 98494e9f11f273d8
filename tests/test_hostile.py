"""Hostile input by subject: settings, losses, checkpoints, files of a run, recordings, processes that collide.

Each ends with one line and exit code 2; a traceback is a failure.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from networks import SMALL, save_checkpoint, trained_like
from programs import refused, run
from trainings import TINY

import test as test_program
import train
from losses import LossTerm
from tools import (
    enhance,
    export,
    make_demo_corpus,
    sweep,
)
from tools.common.errors import UserError
from tools.common.files import exclusive


@pytest.mark.parametrize(
    "compare_signals",
    [
        lambda self, e, c: (e - c).square().mean(),
        lambda self, e, c: (e - c).square(),
        lambda self, e, c: 1.0,
        lambda self, e, c: (e - c).square().mean(1).detach(),
    ],
    ids=["scalar", "samples", "float", "no gradient"],
)
def test_a_loss_that_is_not_one_value_an_utterance_is_refused(compare_signals):
    term = type("Odd", (LossTerm,), {"compare": compare_signals})()
    with pytest.raises(UserError, match="loss term Odd"):
        term(torch.randn(2, 100, requires_grad=True), torch.randn(2, 100))


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_no_output_replaces_an_input_through_a_link(tmp_path, capsys, link):
    path = save_checkpoint(trained_like(), tmp_path / "a.pt", **SMALL)
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(1600), 16000)
    link(tmp_path / "a.wav", tmp_path / "b.wav")
    link(path, tmp_path / "b.pt")
    before = path.read_bytes(), (tmp_path / "a.wav").read_bytes()
    assert run(enhance, path, tmp_path / "a.wav", "-o", tmp_path / "b.wav", "--overwrite") == 1
    assert "is an input as well" in capsys.readouterr().err
    assert "is an input as well" in refused(capsys, export, path, tmp_path / "b.pt", "--overwrite")
    assert (path.read_bytes(), (tmp_path / "a.wav").read_bytes()) == before


@pytest.mark.parametrize(
    "args",
    [
        ["--losses", "MSE", "MSE"],
        ["--seeds", "0", "0"],
        ["--devices", "foo"],
        ["--tune_rates", "1e-3", "2e-3"],
        ["--", "--name", "a"],
    ],
    ids=" ".join,
)
def test_a_sweep_that_cannot_be_meant_is_refused(capsys, args):
    refused(capsys, sweep, "--dry_run", *args)


def test_data_replaced_since_the_last_call_are_noticed(workplace, capsys):
    data = workplace / "copy"
    shutil.copytree("data", data)
    arguments = [*TINY, "--data", "copy", "--name", "a", "--epochs"]
    assert run(train, *arguments, 1) == 0
    items = (data / "items.jsonl").read_text()
    (data / "items.jsonl").write_text("".join(reversed(items.splitlines(keepends=True))))
    assert "holds other data" in refused(capsys, train, *arguments, 2)
    assert run(train, *arguments, 2, "--resume", "override") == 0


def test_a_run_folder_belongs_to_one_training_at_a_time(workplace, capsys):
    with exclusive(Path("runs/a")):
        assert "another process" in refused(capsys, train, *TINY, "--name", "a", "--epochs", 1)
    assert run(train, *TINY, "--name", "a", "--epochs", 1) == 0
    with exclusive(Path("runs/a/test")):
        assert "another process" in refused(capsys, test_program, "--name", "a", "--device", "cpu")


@pytest.mark.filterwarnings("ignore:flock")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_network_disk_without_locks_is_written_all_the_same(tmp_path, monkeypatch, code):
    monkeypatch.setattr(fcntl, "flock", mock.Mock(side_effect=OSError(code, os.strerror(code))))
    with exclusive(tmp_path / "a"):
        (tmp_path / "a" / "log.txt").touch()


def test_a_folder_for_temporary_files_that_would_hang_the_loader_is_named(workplace, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/" + 100 * "x")
    assert "TMPDIR: found /xxx" in refused(capsys, train, *TINY, "--name", "a", "--workers", 2)


def test_a_folder_is_replaced_only_by_what_it_held_before(here, capsys, corpus):
    Path("runs/a").mkdir(parents=True)
    checkpoint = save_checkpoint(trained_like(), here / "runs/a/best.pt", **SMALL)
    assert "no page" in refused(capsys, export, checkpoint, "runs/", "--overwrite")
    shutil.copytree(corpus, "data")
    Path("data/speech").mkdir()
    soundfile.write("data/speech/a.wav", np.ones(9), 16000)
    assert "holds data/speech/a.wav" in refused(capsys, make_demo_corpus, "--out", "data", "--overwrite")
    assert Path("data/train.npy").is_file()
    assert checkpoint.is_file()
