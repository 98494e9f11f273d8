"""config.py and the command line: what a user asks for is what runs, and a slip is one clear line."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from programs import run

import train
from config import PRESETS, Config
from losses import TERMS, build_loss
from models import complete
from tools.common.command_line import run_command
from tools.common.errors import UserError
from tools.common.run_folder import read_config, save_config
from tools.common.settings import parse_config


def test_the_preset_paper_has_its_network_and_training():
    config = complete(Config(**PRESETS["paper"]))
    network = {"mask": "E", "rnn_units": 256, "rnn_layers": 2, "lstm": "complex", "norm": "batch", "skip": True}
    assert config.network == {"kernel_num": (32, 64, 128, 256, 256, 256), **network}
    assert (config.epochs, config.batch_size, config.learning_rate) == (100, 15, 5e-4)


def test_the_name_follows_the_settings():
    assert Config(loss="MSE+LMS").run_dir == Path("runs/DCCRN_MSE+LMS")
    assert Config(name="{loss}-s{seed}", seed=3).run_name == "SI-SNR-s3"
    assert Config(loss="SI-SNR+0.3*LMS").run_name == "DCCRN_SI-SNR+0.3xLMS"  # no file name may hold a *


def test_settings_survive_a_round_trip_through_json():
    config = Config(loss="MSE+LMS", coupling=(10, 1), network={"kernel_num": (8, 16)})
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: found 0, expected int >= 1"),
        ({"batch_size": 2.5}, "batch_size: found 2.5, expected int, got float"),
        ({"sample_rate": 8000}, r"sample_rate: found 8000, expected Literal\[16000\]"),
        ({"augment": ("echo",)}, r"augment: found \('echo',\), expected .*'speed'"),
        ({"coupling": "fair"}, "coupling: found 'fair', expected .*'balanced'"),
        ({"coupling": (1, 0)}, r"coupling: found \(1, 0\), expected float > 0"),
        ({"balance": 3}, "balance: found 3, which works with --coupling balanced"),
        ({"best_by": "pesq", "valid_scores": 0}, "best_by"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"device": "gpu"}, "device: found 'gpu', expected str matching"),
        ({"name": "a/b"}, "name: found 'a/b', expected a folder name"),
        ({"name": "{colour}"}, "name: found '{colour}'"),
    ],
)
def test_a_setting_that_cannot_be_is_named_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        Config(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_valid_config(preset):
    config = parse_config("", ["--preset", preset])
    assert config == complete(Config(**PRESETS[preset]))
    assert build_loss(config.loss, config.coupling)


def test_the_command_line_overrides_presets():
    config = parse_config(
        "", ["--loss", "MSE+LMS", "--preset", "demo", "--kernel_num", "4", "8", "--skip", "False"]
    )
    assert (config.loss, config.network["kernel_num"], config.network["skip"]) == ("MSE+LMS", (4, 8), False)
    assert config.batch_size == PRESETS["demo"]["batch_size"]
    assert parse_config("", ["--coupling", "3", "1"]).coupling == (3, 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--epochs", "0"], "epochs: found 0, expected int >= 1"),
        (["--epoch", "3"], "--epochs"),
        (["--mask", "Q"], "'Q'"),
        (["--preset", "huge"], "'huge'"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_argument_is_named_and_gives_exit_code_2(capsys, args, message):
    assert run(train, *args) == 2
    assert message in capsys.readouterr().err


def test_a_default_edited_without_its_type_is_refused_with_the_line_to_write(monkeypatch):
    monkeypatch.setattr(Config.__mro__[1], "learning_rat", 1e-2, raising=False)
    with pytest.raises(UserError, match=r"expected learning_rat: float = 0\.01"):
        Config()


def test_help_names_every_setting_and_loss_on_three_screens_and_explains_all_if_asked(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    texts = []
    for option in ("--help", "--help_all"):
        with pytest.raises(SystemExit, match="0"):
            parse_config("Train.", [option])
        texts.append(capsys.readouterr().out)
    assert all(f"--{name} " in texts[0] for name in ("preset", *complete(Config()).flat()))
    assert all(term in texts[0] for term in TERMS)
    assert len(texts[0].splitlines()) < 150
    assert max(map(len, texts[0].splitlines())) <= 80
    assert "whole text" in texts[0]
    assert "auto: bf16 on a GPU" in texts[1]


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (UserError("data: found x"), "data: found x"),
        (OSError(28, "No space left", "a.pt"), "[Errno 28] No space left: 'a.pt'"),
        (UserError("Caught UserError in DataLoader\ntools.common.errors.UserError: a.npy: cut"), "a.npy: cut"),
    ],
    ids=["user", "system", "user, in a data-loading process"],
)
def test_an_error_of_user_or_system_is_one_line_and_exit_code_2(capsys, error, printed):
    def main():
        raise error

    with pytest.raises(SystemExit, match="2"):
        run_command(main)
    assert capsys.readouterr().err == f"error: {printed}\n"


def test_a_defect_keeps_pythons_traceback_for_a_debugger():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)


def test_the_papers_preset_does_not_follow_an_edited_config_py(monkeypatch):
    for name, value in {"batch_size": 3, "model": "GTCRN", "loss": "MSE"}.items():
        monkeypatch.setattr(Config.__init__, "__defaults__", edited_defaults(name, value))
    assert Config().batch_size == 3
    paper = parse_config("", ["--preset", "paper"])
    assert (paper.batch_size, paper.model, paper.loss) == (15, "DCCRN", "SI-SNR")
    assert parse_config("", []).batch_size == 3


def edited_defaults(name, value):
    """The defaults of Config with one edited."""
    fields = [field.name for field in dataclasses.fields(Config)]
    return tuple(
        value if field == name else old for field, old in zip(fields, Config.__init__.__defaults__, strict=True)
    )


def test_a_missing_run_lists_the_runs_there_are(here):
    for name in ("b", "a"):
        save_config(Config(name=name))
    with pytest.raises(UserError, match=r"no such run; .*: there are a, b$"):
        read_config(Config(name="c").run_dir)


@pytest.mark.slow
def test_output_that_nobody_wants_any_more_is_no_error():
    command = f"{sys.executable} -m tools.list_losses --help | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith("usage: python -m tools.list_losses")
