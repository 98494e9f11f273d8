"""The parts of train.py: what a researcher who trusts it with a week of GPU time would lose if one failed."""

import dataclasses
import json
import math
import resource
import signal
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import events_in
from programs import refused, run
from trainings import TINY, history_of, scalars, shell, wait_for

import train
from config import Config
from dataloader import build_loader, shuffle_for_epoch
from losses import TERMS, build_loss
from models import load_model
from tools.common.errors import UserError
from tools.common.run_folder import save_checkpoint, save_config
from tools.training.distributed import Interruption, Processes
from tools.training.run import open_run
from tools.training.state import TrainingState, WeightAverage
from tools.training.validation import validate
from train import failures_to_improve, learning_rate, train_step


def test_the_learning_rate_is_the_papers_unless_another_schedule_is_asked_for():
    assert {learning_rate(Config(), step, 100, failures=1) for step in (0, 99, 9999)} == {5e-4}


def test_a_plateau_halves_the_learning_rate_after_each_epoch_that_is_no_better_than_the_best():
    config = Config(schedule="plateau", learning_rate=1.0)
    history = [{"valid_MSE": loss, "weight_MSE": 1.0} for loss in (3.0, 2.0, 2.5, 2.0, 1.0)]
    rates = [learning_rate(config, 10, 5, failures_to_improve(history[:n])) for n in range(6)]
    assert rates == [1, 1, 1, 0.5, 0.25, 0.25]


def test_a_cosine_rises_linearly_falls_to_half_in_the_middle_and_to_zero_at_the_end():
    config = Config(schedule="cosine", warmup_steps=20, epochs=12, learning_rate=2.0)
    rates = [learning_rate(config, step, 10, failures=0) for step in range(120)]
    np.testing.assert_allclose(np.diff(rates[:20]), 2 / 21)
    assert max(rates) == rates[20] == 2.0
    assert rates[70] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.002
    assert np.all(np.diff(rates[20:]) < 0)


def test_the_moving_average_is_the_weighted_sum_of_all_weights_so_far():
    model = torch.nn.Linear(2, 1)
    average = WeightAverage(model, 0.5)
    expected = model.weight.detach().clone().double()
    for step in range(1, 8):
        torch.nn.init.normal_(model.weight)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(average.model.weight.double(), expected, atol=1e-6, rtol=0)
    assert WeightAverage(model, 0).model is model


def test_the_average_is_what_is_validated_and_kept_as_the_best(workplace):
    assert run(train, *TINY, "--name", "a", "--epochs", "1", "--ema", "0.9", "--learning_rate", "0.01") == 0
    content = torch.load("runs/a/last.pt", weights_only=True)
    best = load_model("runs/a/best.pt").state_dict()
    name = "encoder.0.conv.weight_real"
    assert torch.equal(best[name], content["average"][name])
    assert not torch.equal(best[name], content["model"][name])


def test_training_ends_early_when_nothing_improves_and_stays_ended(workplace, capsys):
    options = [*TINY, "--name", "a", "--epochs", "30", "--learning_rate", "0.5", "--patience", "1"]
    assert run(train, *options) == 0
    losses = [float(line["valid_loss"]) for line in history_of("a")]
    assert len(losses) == 2 + losses.index(min(losses)) < 30
    capsys.readouterr()
    history = Path("runs/a/history.csv")
    rows = history.read_text().splitlines(keepends=True)
    history.write_text("".join(rows[:-1]))  # as if killed before the last row was written
    assert run(train, *options) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert history.read_text() == "".join(rows)


@pytest.mark.parametrize(("best_by", "best"), [("loss", min), ("pesq", max)])
def test_the_best_is_the_epoch_with_the_lowest_validation_loss_or_the_highest_pesq(workplace, best_by, best):
    options = ["--valid_scores", "3", "--best_by", best_by, "--learning_rate", "0.05", "--epochs", "4"]
    assert run(train, *TINY, "--name", "a", *options) == 0
    values = [float(line[f"valid_{best_by}"]) for line in history_of("a")]
    assert torch.load("runs/a/best.pt", weights_only=True)["epoch"] == 1 + values.index(best(values))


def test_pieces_of_a_batch_give_the_gradient_of_the_whole():
    """With one weight in the place of a network, whose norms would see each piece by itself."""
    noisy, clean = torch.randn(2, 5, 1000, generator=torch.Generator().manual_seed(0)).double()
    gradients = []
    for pieces in (1, 3):  # of 2, 2 and 1 items
        model = torch.nn.Conv1d(1, 1, 1, bias=False).double()
        torch.nn.init.constant_(model.weight, 0.7)
        network = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), model, torch.nn.Flatten())
        state = TrainingState(network, build_loss("SDR"), Processes(torch.device("cpu")))
        sums, norm, skipped = train_step(Config(accumulate=pieces), state, noisy, clean, 5)
        assert not skipped
        gradients.append([model.weight.grad.item(), norm.item(), *sums.tolist()])
    assert gradients[1] == pytest.approx(gradients[0], rel=1e-9)


def test_a_run_goes_on_with_another_loss_when_asked_to(workplace):
    options = ["--name", "a", "--valid_scores", "0"]
    assert run(train, *TINY, *options, "--loss", "MSE+LMS", "--epochs", "1") == 0
    assert run(train, *TINY, *options, "--loss", "SI-SNR", "--epochs", "3", "--resume", "override") == 0
    rows = history_of("a")
    assert [bool(row["valid_SI-SNR"]) for row in rows] == [False, True, True]
    best = torch.load("runs/a/best.pt", weights_only=True)["epoch"]
    assert best == min((2, 3), key=lambda epoch: float(rows[epoch - 1]["valid_loss"]))
    assert run(train, *TINY, *options, "--loss", "SI-SNR", "--epochs", "4") == 0


def test_new_settings_count_as_new_until_a_checkpoint_has_them(workplace):
    """The call that changed them may have been killed before its first checkpoint."""
    assert run(train, *TINY, "--name", "a", "--epochs", "1") == 0
    config = Config.from_dict(json.loads(Path("runs/a/config.json").read_text()))
    wanted = dataclasses.replace(config, batch_size=3)
    save_config(wanted)
    assert open_run(wanted, "override")[2] == {"batch_size"}


def test_a_signal_that_also_ends_the_scoring_processes_is_an_interruption(workplace):
    class Broken:
        def map(self, pairs):
            raise UserError("one of 2 worker processes was killed")

    config = Config(data="data", network={"kernel_num": (4, 8), "rnn_units": 4}, device="cpu", valid_scores=5)
    state = train.build_state(config, Processes(torch.device("cpu")), fresh=True)
    interruption = Interruption(state.processes)
    with pytest.raises(UserError, match="was killed"):
        validate(config, state, [], Broken(), interruption)
    interruption.signal = signal.SIGTERM
    validate(config, state, [], Broken(), interruption)


def test_tensorboards_files_hold_every_scalar_audio_and_figure(workplace):
    assert run(train, *TINY, "--name", "a", "--epochs", "2", "--valid_scores", "2", "--clip_grad", "1") == 0
    found, history = scalars("a"), history_of("a")
    for name in ("loss", "SI-SNR", "LMS", "gradient_norm", "learning_rate"):
        assert sorted(found[f"step/{name}"]) == list(range(1, 13)), name
    for tag in ("step/weight_LMS", "step/items_per_second", "weights/LMS", "epoch/seconds"):
        assert {6, 12} <= found[tag].keys(), tag
    columns = {"loss/train": "train_loss", "loss/valid": "valid_loss", "terms/LMS_valid": "valid_LMS"}
    columns |= {f"scores/{name}": f"valid_{name}" for name in ("pesq", "stoi", "estoi", "si_sdr")}
    for tag, column in columns.items():
        logged = [found[tag][step] for step in (6, 12)]
        assert logged == pytest.approx([float(line[column]) for line in history]), tag
    media = defaultdict(list)
    for event in events_in(Path("runs/a/tensorboard")):
        for value in event.summary.value:
            if value.HasField("audio") or value.HasField("image"):
                media[value.tag].append(event.step)
    items = ("highest_gain", "median_gain", "lowest_gain", "first_item")
    tags = {f"audio/{item}_{signal}" for item in items for signal in ("noisy", "estimate", "clean")}
    assert media == {tag: [6, 12] for tag in tags | {f"spectrograms/{item}" for item in items}}


@pytest.mark.slow
def test_a_resumed_run_strikes_out_what_tensorboard_saw_beyond_its_checkpoint(workplace):
    interrupted = shell("--name", "a", "--epochs", "40", "--checkpoint_minutes", "0")
    wait_for(Path("runs/a/last.pt"))
    time.sleep(0.3)
    interrupted.kill()
    interrupted.communicate()
    step = torch.load("runs/a/last.pt", weights_only=True)["progress"]["step"]
    epochs = 2 + step // 6
    assert run(train, *TINY, "--name", "a", "--epochs", epochs, "--checkpoint_minutes", "0") == 0
    for steps in scalars("a").values():
        assert max(steps) == 6 * epochs
    assert sorted(scalars("a")["step/loss"]) == list(range(1, 6 * epochs + 1))
    calls = json.loads(Path("runs/a/environment.json").read_text())
    assert [call["from_step"] for call in calls] == [0, step]
    assert {"started", "command", "packages", "commit", "gpu", "cpu", "device"} <= calls[0].keys()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(workplace, number):
    training = shell("--name", "a", "--epochs", "500")
    wait_for(Path("runs/a/last.pt"))
    training.send_signal(number)
    printed, errors = training.communicate(timeout=300)
    assert (errors, training.returncode) == ("", 128 + number)
    step = torch.load("runs/a/last.pt", weights_only=True)["progress"]["step"]
    assert f"runs/a: interrupted after step {step} " in printed
    assert "rerun the same command to resume" in printed


def test_a_step_that_is_not_finite_is_named_with_its_items(workplace, capsys):
    error = refused(capsys, train, *TINY, "--name", "a", "--epochs", "2", "--learning_rate", "1e30")
    assert error.startswith("error: epoch 1, step 2: not finite: loss, SI-SNR, LMS, gradient_norm (loss nan")
    assert "try a lower --learning_rate" in error
    loader = build_loader(Config(data="data", batch_size=4), "train")
    shuffle_for_epoch(loader, 0, 1)
    numbers = loader.batch_sampler.global_batch(1)
    assert f"items {', '.join(map(str, numbers))} of data" in error


def test_a_gradient_that_is_not_finite_beside_a_finite_loss_points_at_the_term(workplace, monkeypatch, capsys):
    monkeypatch.setattr(TERMS["L1"], "compare", lambda term, e, s: ((e - e).sqrt() + e).mean(1))
    error = refused(capsys, train, *TINY, "--name", "a", "--epochs", "1", "--loss", "L1")
    assert "epoch 1, step 1: not finite: gradient_norm (loss " in error
    assert "probably sqrt or log at 0 in a term" in error


def poison(monkeypatch, at_steps):
    """Makes the gradient of these steps (from 1) infinite, and what the norms have seen not a number."""
    whole, done = train.train_step, []

    def step(config, state, noisy, *rest):
        done.append(None)
        if len(done) in at_steps:
            noisy = noisy * math.inf
        return whole(config, state, noisy, *rest)

    monkeypatch.setattr(train, "train_step", step)


def test_skipped_steps_are_counted_and_leave_no_trace(workplace, monkeypatch, capsys):
    poison(monkeypatch, at_steps=(2, 9))
    assert run(train, *TINY, "--name", "a", "--epochs", "2", "--skip_nonfinite", "1", "--ema", "0.5") == 0
    assert [line["skipped"] for line in history_of("a")] == ["1", "1"]
    assert "1 skipped" in capsys.readouterr().out
    for line in history_of("a"):
        assert math.isfinite(float(line["train_loss"]))
        assert math.isfinite(float(line["valid_loss"]))
    content = torch.load("runs/a/last.pt", weights_only=True)
    for tensors in (content["model"], content["average"], *content["optimizers"]["network"]["state"].values()):
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    poison(monkeypatch, at_steps=(1, 3))
    options = [*TINY, "--name", "b", "--epochs", "2", "--skip_nonfinite", "1"]
    assert "epoch 1, step 3: not finite" in refused(capsys, train, *options)


def test_a_full_disk_ends_the_training_in_one_line_with_the_last_checkpoint_intact(workplace, monkeypatch, capsys):
    assert run(train, *TINY, "--name", "a", "--epochs", "1") == 0
    before = Path("runs/a/last.pt").read_bytes()

    def save_on_a_full_disk(path, content):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            save_checkpoint(path, content)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(train, "save_checkpoint", save_on_a_full_disk)
    error = refused(capsys, train, *TINY, "--name", "a", "--epochs", "2")
    assert error.startswith("error: [Errno 27] File too large: 'runs/a/")
    assert Path("runs/a/last.pt").read_bytes() == before
    assert not list(Path("runs/a").glob(".*partial*"))


ANY_NETWORK = ["--loss", "SI-SNR", "--device", "cpu", "--valid_scores", "0", "--precision", "fp32"]


def test_a_training_starts_from_the_weights_it_is_given(workplace, capsys):
    few = [*ANY_NETWORK, "--data", "data"]
    assert run(train, *TINY, "--name", "base", "--epochs", "1") == 0
    assert run(train, *few, "--name", "own", "--init", "base", "--epochs", "1", "--learning_rate", "1e-30") == 0
    before, after = (load_model(f"runs/{name}/best.pt").state_dict() for name in ("base", "own"))
    weights = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(before[name], after[name]) for name in weights)
    for message, options in {
        "kernel_num: found (8, 8), but the network of runs/base/best.pt has (4, 8)": "base --kernel_num 8 8",
        "model: found GTCRN, but the network of runs/base/best.pt has DCCRN": "base --model GTCRN",
        "nothing: no such checkpoint": "nothing",
    }.items():
        assert message in refused(capsys, train, *few, "--name", "x", "--init", *options.split())
    assert not Path("runs/x").exists()
