"""Checkpoints that cannot be used, or would run code."""

from __future__ import annotations

import os

import numpy as np
import pytest
import soundfile
import torch
from networks import SMALL, save_checkpoint, trained_like
from programs import run

from tools import enhance, export, import_checkpoint

MODEL = trained_like()


class _RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("code_ran",))


BAD_CHECKPOINTS = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("weights"),
    "folder": lambda path: path.mkdir(),
    "truncated": lambda path: (torch.save(MODEL.state_dict(), path), os.truncate(path, path.stat().st_size // 2)),
    "code": lambda path: torch.save({"model": {}, "config": {}, "epoch": _RunsCode()}, path),
    "legacy code": lambda path: torch.save([_RunsCode()], path, _use_new_zipfile_serialization=False),
    "whole module": lambda path: torch.save(MODEL, path),
    "other sizes": lambda path: save_checkpoint(MODEL, path, kernel_num=(4, 8)),
    "not a number": lambda path: save_checkpoint(with_nan(), path, **SMALL),
    "list": lambda path: torch.save([1, 2], path),
}


def with_nan():
    model = trained_like()
    with torch.no_grad():
        model.encoder[0].conv.weight_real[0] = float("nan")
    return model


@pytest.mark.parametrize("kind", BAD_CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used_is_refused_and_runs_no_code(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pt"
    BAD_CHECKPOINTS[kind](path)
    soundfile.write(tmp_path / "a.wav", np.full(1600, 0.1), 16000)
    for arguments in (
        (enhance, path, "a.wav"),
        (export, path, "a.onnx"),
        (import_checkpoint, path, "out.pt", "--mask", "E"),
    ):
        if arguments[0] is import_checkpoint and kind in ("not a number", "other sizes"):
            continue  # a checkpoint of this project, which the import refuses for its names
        assert run(*arguments) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: ")
        assert "bad.pt" in error
        assert "\n" not in error
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"a.wav", *(["bad.pt"] if path.exists() else [])})
