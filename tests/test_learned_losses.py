"""Losses with weights: trained by their own objective or with the network, and resumed with it."""

import os
import signal

import learned_terms
import pytest
import torch
from programs import run
from torch import nn
from trainings import TINY, history_of, scalars

import train
from losses import CombinedLoss, LossTerm, build_loss
from losses.registry import freeze_constants
from tools.common.errors import UserError

OPTIONS = [*TINY, "--loss", learned_terms.LOSS, "--ema", "0.9", "--skip_nonfinite", "1"]


@pytest.fixture(autouse=True)
def terms():
    learned_terms.add_terms()
    yield
    learned_terms.remove_terms()


def last(name):
    return torch.load(f"runs/{name}/last.pt", weights_only=True)


def loss_tensors(name):
    """{name: tensor} of a loss's weights and buffers, and of their optimisers' moments."""
    content = last(name)
    found = {f"loss/{key}": value for key, value in content["loss"].items()}
    for term, optimizer in content["optimizers"].items():
        for number, moments in optimizer["state"].items():
            found |= {f"{term}/{number}/{key}": value for key, value in moments.items()}
    return found | {f"model/{key}": value for key, value in content["model"].items()}


BALANCED = ("SI-SNR+LMS+tiny-GAN", "--coupling", "balanced", "--balance", "3")


@pytest.mark.parametrize("loss", [(learned_terms.LOSS,), BALANCED], ids=["fixed", "balanced"])
def test_a_loss_with_a_state_resumes_bit_for_bit_within_an_epoch(workplace, monkeypatch, loss):
    options = [*OPTIONS, "--loss", *loss, "--epochs", "2", "--name"]
    assert run(train, *options, "whole") == 0
    steps, whole_step = [], train.train_step

    def step(*arguments):
        steps.append(None)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole_step(*arguments)

    monkeypatch.setattr(train, "train_step", step)
    assert run(train, *options, "parts") == 128 + signal.SIGTERM
    assert last("parts")["progress"]["batch"] == 3
    assert run(train, *options, "parts") == 0
    whole, parts = loss_tensors("whole"), loss_tensors("parts")
    assert any("_u" in name for name in whole)
    assert any("running_mean" in name for name in whole)
    assert any(name.startswith("tiny-GAN/") for name in whole)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert ("loss/balancer.seen" in whole) == (loss is BALANCED)
    times = {"seconds": "", "items_per_second": ""}
    assert [row | times for row in history_of("whole")] == [row | times for row in history_of("parts")]
    logged, again = scalars("whole"), scalars("parts")
    for tag in (f"step/weight_{term}" for term in ("SI-SNR", "tiny-GAN")):
        assert [logged[tag][step] for step in (6, 12)] == [again[tag][step] for step in (6, 12)]
        assert (logged[tag][6] != logged[tag][12]) == (loss is BALANCED)


def test_each_side_trains_only_its_own_weights():
    loss = build_loss(learned_terms.LOSS)
    estimate, clean = torch.randn(2, 3, 6400)
    estimate.requires_grad_()
    discriminator, uncertain = loss.terms["tiny-GAN"], loss.terms["uncertain"]
    loss(estimate, clean)[0].backward()
    assert estimate.grad.any()
    assert uncertain.log_variance.grad.any()
    assert all(weight.grad is None for weight in discriminator.parameters())
    estimate.grad = None
    sum(loss.own_losses(estimate, clean, clean).values()).backward()
    assert estimate.grad is None
    assert all(weight.grad.any() for weight in discriminator.layers[1].parameters() if weight.dim() > 1)


def test_weights_without_an_own_objective_are_trained_with_the_network(workplace):
    assert run(train, *TINY, "--loss", "uncertain", "--epochs", "1", "--name", "a") == 0
    assert last("a")["loss"]["terms.uncertain.log_variance"] != 0
    with pytest.raises(UserError, match="uncertain trains weights with the network; choose fixed ones"):
        build_loss("SI-SNR+uncertain", "balanced")


def test_another_loss_starts_with_weights_of_its_own(workplace):
    assert run(train, *OPTIONS, "--epochs", "1", "--name", "a") == 0
    assert run(train, *OPTIONS, "--loss", "MSE", "--epochs", "2", "--name", "a", "--resume", "override") == 0
    assert last("a")["optimizers"].keys() == {"network"}


class Pretrained(LossTerm):
    def __init__(self, freeze):
        super().__init__()
        self.network = freeze(nn.Sequential(nn.Linear(8, 8), nn.Dropout(), nn.BatchNorm1d(8)))
        self.head = nn.Linear(8, 1)


@pytest.mark.parametrize("freeze", [lambda network: network.requires_grad_(False), freeze_constants])
def test_frozen_parts_stay_in_evaluation_mode(freeze):
    loss = CombinedLoss({"pretrained": Pretrained(freeze)}, {"pretrained": 1.0})
    for _ in range(2):
        term = loss.terms["pretrained"]
        assert term.head.training
        assert not any(part.training for part in term.network.modules())
        loss.eval().train()


def test_an_own_objective_that_gives_no_value_an_utterance_is_named():
    class Wrong(LossTerm):
        def own_loss(self, estimate, clean, noisy):
            return estimate.mean()

    loss = CombinedLoss({"wrong": Wrong()}, {"wrong": 1.0})
    with pytest.raises(UserError, match=r"loss term Wrong: own_loss returned \[\], expected \[2\]"):
        loss.own_losses(*torch.zeros(3, 2, 100))
