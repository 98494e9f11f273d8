"""Checkpoints that cannot be used, or would run code."""

import os
from pathlib import Path

import pytest
import torch
from networks import SMALL, save_checkpoint, trained_like

from config import Config
from models import complete, load_model, read_trained
from models.published import read_published
from tools.common.errors import UserError

MODEL = trained_like()


class _RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("code_ran",))


def with_nan():
    model = trained_like()
    with torch.no_grad():
        model.encoder[0].conv.weight_real[0] = float("nan")
    return model


def content(**change):
    return {"config": {}, "model": {}, "epoch": 1} | change


UNREADABLE = "not a readable checkpoint"
BAD_CHECKPOINTS = {
    "missing": (lambda path: None, "no such checkpoint"),
    "text": (lambda path: path.write_text("weights"), UNREADABLE),
    "truncated": (
        lambda path: (torch.save(MODEL.state_dict(), path), os.truncate(path, path.stat().st_size // 2)),
        UNREADABLE,
    ),
    "code": (lambda path: torch.save(content(epoch=_RunsCode()), path), UNREADABLE),
    "legacy code": (
        lambda path: torch.save([_RunsCode()], path, _use_new_zipfile_serialization=False),
        UNREADABLE,
    ),
    "whole module": (lambda path: torch.save(MODEL, path), UNREADABLE),
    "other sizes": (lambda path: save_checkpoint(MODEL, path, kernel_num=(4, 8)), "weights do not fit"),
    "not a number": (lambda path: save_checkpoint(with_nan(), path, **SMALL), "NaN or infinity in 1 weights"),
    "other keys": (lambda path: torch.save({"model": {}}, path), "no checkpoint by train.py"),
    "wrong setting": (lambda path: torch.save(content(config={"loss": 3}), path), "loss: found 3"),
    "unknown setting": (
        lambda path: torch.save(content(config={"colour": "red"}), path),
        "colour: no such setting",
    ),
}


@pytest.mark.parametrize(("write", "message"), BAD_CHECKPOINTS.values(), ids=BAD_CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used_is_refused_and_runs_no_code(here, write, message):
    path = here / "bad.pt"
    write(path)
    with pytest.raises(UserError, match=rf"bad\.pt: .*{message}") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"bad\.pt: "):
        read_published(path, mask="E")
    assert not Path("code_ran").exists()


def test_a_config_that_leaves_out_its_networks_defaults_names_the_trained_run(tmp_path):
    config = Config(model="GTCRN")
    torch.save(content(config=complete(config).to_dict()), tmp_path / "best.pt")
    assert read_trained(tmp_path / "best.pt", config)["epoch"] == 1
