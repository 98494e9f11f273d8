"""Weights in and out: those of the published code, and files that nobody should trust."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
import soundfile
import torch
from networks import REFERENCE, SMALL, VARIANTS, reference_weights, save_checkpoint, trained_like
from programs import run

from config import Config
from models import build_model, complete, from_upstream, load_model
from models.published.dccrn import infer_settings, to_upstream
from tools import enhance, export, import_checkpoint

MODEL = trained_like()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("nested", [False, True])
def test_weights_of_the_published_code_come_in_and_go_out_unchanged(tmp_path, variant, nested):
    state, mask = reference_weights(variant), VARIANTS[variant][1].get("mask", "E")
    torch.save({"model": state} if nested else state, tmp_path / "up.pt")
    assert run(import_checkpoint, tmp_path / "up.pt", tmp_path / "ours.pt", "--mask", mask) == 0
    with torch.no_grad():
        estimate = load_model(tmp_path / "ours.pt")(torch.from_numpy(REFERENCE["noisy"])).numpy()
    np.testing.assert_allclose(estimate, REFERENCE[f"estimate/{variant}"], rtol=0, atol=1e-5)
    assert run(export, tmp_path / "ours.pt", tmp_path / "back.pt", "--upstream") == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    transforms = {"stft.weight", "istft.weight", "istft.window", "istft.enframe"}
    assert back.keys() - state.keys() == transforms  # upstream loads them as weights, too


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lstm": "real", "rnn_units": 10, "rnn_layers": 3},
        {"norm": "complex", "kernel_num": (6, 4), "rnn_layers": 1},
        {"skip": False},
    ],
)
def test_settings_are_read_off_the_shapes(settings):
    config = complete(Config(**{**SMALL, **settings}))
    state = build_model(config).state_dict()
    upstream = to_upstream(state)
    inferred = infer_settings(upstream)
    assert {name: getattr(config, name) for name in inferred} == inferred
    again = from_upstream(upstream)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("decoder.3.1.running_var"), "missing decoder.3.1.running_var"),
        (lambda state: state.update({"attention.weight": torch.ones(1)}), "unknown attention.weight"),
        (lambda state: state.update({"encoder.0.2.weight": torch.ones(7)}), "encoder.0.2.weight of shape [7]"),
        (lambda state: state.update({"stft.weight": torch.ones(514, 1, 400)}), "stft.weight of another transform"),
        (lambda state: state.clear() or state.update({"a": torch.ones(1)}), "encoder.0.0.real_conv.weight"),
        (lambda state: state.update({"epoch": 3}), "'epoch', which is no tensor"),
    ],
)
def test_foreign_weights_that_do_not_fit_are_named(tmp_path, capsys, change, named):
    state = reference_weights("E")
    change(state)
    torch.save(state, tmp_path / "up.pt")
    assert run(import_checkpoint, tmp_path / "up.pt", tmp_path / "ours.pt", "--mask", "E") == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "ours.pt").exists()


class _RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("code_ran",))


def zip_bomb(path):
    """A checkpoint whose one weight unpacks to a gigabyte of zeros."""
    torch.save({"a": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, bytes(1 << 28) if name.endswith("data/0") else data)


BAD_CHECKPOINTS = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("weights"),
    "folder": lambda path: path.mkdir(),
    "truncated": lambda path: (torch.save(MODEL.state_dict(), path), os.truncate(path, path.stat().st_size // 2)),
    "code": lambda path: torch.save({"model": {}, "config": {}, "epoch": _RunsCode()}, path),
    "legacy code": lambda path: torch.save([_RunsCode()], path, _use_new_zipfile_serialization=False),
    "whole module": lambda path: torch.save(MODEL, path),
    "zip bomb": zip_bomb,
    "one number said to be many": lambda path: torch.save({"model": {"a": torch.zeros(1).expand(1 << 40)}}, path),
    "settings beyond memory": lambda path: save_checkpoint(MODEL, path, kernel_num=(8000, 8000), rnn_units=2**16),
    "not a number": lambda path: save_checkpoint(with_nan(), path, **SMALL),
    "list": lambda path: torch.save([1, 2], path),
}


def with_nan():
    model = trained_like()
    with torch.no_grad():
        model.encoder[0].conv.weight_real[0] = float("nan")
    return model


@pytest.mark.parametrize("kind", BAD_CHECKPOINTS)
def test_a_checkpoint_not_to_be_trusted_is_refused_in_one_line(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pt"
    BAD_CHECKPOINTS[kind](path)
    soundfile.write(tmp_path / "a.wav", np.full(1600, 0.1), 16000)
    for arguments in (
        (enhance, path, "a.wav"),
        (export, path, "a.onnx"),
        (import_checkpoint, path, "out.pt", "--mask", "E"),
    ):
        if arguments[0] is import_checkpoint and kind in ("not a number", "settings beyond memory"):
            continue  # a checkpoint of this project, which the import refuses for its names
        assert run(*arguments) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: ")
        assert "bad.pt" in error
        assert "\n" not in error
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"a.wav", *(["bad.pt"] if path.exists() else [])})
