"""losses/: how a loss is named and how its terms are weighted."""

import itertools

import pytest
import torch
from signals import voiced
from torch import distributed, multiprocessing

from losses import TERMS, CombinedLoss, LossTerm, build_loss, register
from losses.combined import Balancer
from tools.common.errors import UserError


def test_a_combination_is_its_weighted_parts():
    estimate, clean = voiced(8)
    loss, parts = build_loss("SI-SNR+LMS")(estimate, clean)
    assert list(parts) == ["SI-SNR", "LMS"]
    assert loss.item() == pytest.approx((parts["SI-SNR"].item() + 2 * parts["LMS"].item()) / 3)
    assert parts["LMS"].item() == pytest.approx(TERMS["LMS"]()(estimate, clean).mean().item())


@pytest.mark.parametrize(
    ("name", "coupling", "weights"),
    [
        ("MSE", "paper", {"MSE": 1}),
        ("MSE+LMS", "paper", {"MSE": 1000 / 1001, "LMS": 1 / 1001}),  # the published ones
        ("SI-SNR+LMS", "paper", {"SI-SNR": 1 / 3, "LMS": 2 / 3}),
        ("SDR+LMS", "paper", {"SDR": 1 / 3, "LMS": 2 / 3}),
        ("SDR+PMSQE", "paper", {"SDR": 1 / 16, "PMSQE": 15 / 16}),
        ("SI-SNR+PMSQE", "paper", {"SI-SNR": 1 / 9, "PMSQE": 8 / 9}),
        ("MSE+LMS", (3, 1), {"MSE": 0.75, "LMS": 0.25}),
        ("SI-SNR+LMS+PMSQE", (2, 1, 1), {"SI-SNR": 0.5, "LMS": 0.25, "PMSQE": 0.25}),
        ("SI-SNR + 0.6*MR-STFT", "paper", {"SI-SNR": 0.625, "MR-STFT": 0.375}),
        ("3*SI-SNR+1e0*LMS", "paper", {"SI-SNR": 0.75, "LMS": 0.25}),
        ("0.5*SI-SNR", "paper", {"SI-SNR": 1}),
    ],
)
def test_weights_are_the_published_or_the_chosen_ones_divided_by_their_sum(name, coupling, weights):
    assert build_loss(name, coupling).weights == pytest.approx(weights)


@pytest.mark.parametrize(
    ("name", "coupling", "message"),
    [
        ("SISNR", "paper", "no 'SISNR'; known: .*MSE"),
        ("MSE+MSE", "paper", "every term once"),
        ("MSE+LMS", (1.0,), "found 1 numbers for MSE[+]LMS, expected 2"),
        ("MSE+x*LMS", "paper", "expected a positive number before '[*]', not 'x'"),
        ("MSE+0*LMS", "paper", "a positive number"),
        ("MSE+nan*LMS", "paper", "a positive number"),
        ("MSE+2*LMS", (1.0, 2.0), "the weights stand in the loss's name, MSE[+]2[*]LMS"),
        ("L1+LMS", "paper", "no weights are published for L1[+]LMS; choose --coupling balanced"),
    ],
)
def test_a_loss_that_cannot_be_is_named_in_one_line(name, coupling, message):
    with pytest.raises(UserError, match=message) as caught:
        build_loss(name, coupling)
    assert "\n" not in str(caught.value)


def test_a_name_belongs_to_one_term_which_a_notebook_may_define_again():
    @register("cube")
    class Cube(LossTerm):
        def compare(self, estimate, clean):
            return (estimate - clean).abs().pow(3).mean(-1)

    try:
        register("cube")(Cube)  # as a cell of a notebook that is run again
        with pytest.raises(UserError, match="registered twice"):
            register("cube")(TERMS["MSE"])
    finally:
        del TERMS["cube"]


@pytest.mark.parametrize("name", ["a+b", "2*a", "", "a/b", "1e3", "noisy", "Loss"])
def test_a_name_that_no_loss_file_or_table_could_hold_is_refused(name):
    with pytest.raises(UserError, match="expected letters, digits"):
        register(name)


# -- Balanced coupling --


def influences(loss_fn: CombinedLoss, estimate: torch.Tensor, clean: torch.Tensor) -> dict[str, float]:
    """Of each term in this step, from the terms alone."""
    found = {}
    for name, term in loss_fn.terms.items():
        leaf = estimate.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(term(leaf, clean).mean(), leaf)
        found[name] = float(loss_fn.weights[name] * gradient.norm(dim=1).log().mean().exp())
    return found


@pytest.mark.parametrize("balance", [1, 3, 10])
@pytest.mark.parametrize("name", ["MSE+LMS", "SI-SNR+LMS", "SI-SNR+PMSQE", "MSE+SI-SNR+LMS+PMSQE", "LMS+PMSQE"])
def test_the_first_step_has_the_influence_asked_for(name, balance):
    noisy, clean = (x.float() for x in voiced(0, samples=8000))
    loss_fn = build_loss(name, "balanced", balance)
    loss_fn(noisy.requires_grad_(), clean)
    found = influences(loss_fn, noisy, clean)
    for term, influence in found.items():
        asked = 1 if TERMS[term].perceptual else balance  # terms of one kind count alike
        assert influence / found[name.split("+")[-1]] == pytest.approx(asked, rel=1e-4)
    assert sum(float(weight) for weight in loss_fn.weights.values()) == pytest.approx(1)


def test_the_gradient_is_that_of_the_weighted_sum():
    noisy, clean = (x.float() for x in voiced(1, samples=8000))
    loss_fn = build_loss("SI-SNR+LMS", "balanced", 3)
    estimate = noisy.clone().requires_grad_()
    loss, parts = loss_fn(estimate, clean)
    (loss / 4).backward()  # as with gradients accumulated over four batches
    weights = {name: float(weight) for name, weight in loss_fn.weights.items()}
    plain = noisy.clone().requires_grad_()
    expected = sum(weights[name] * term(plain, clean).mean() for name, term in loss_fn.terms.items())
    (expected / 4).backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(estimate.grad, plain.grad)
    assert not any(part.requires_grad for part in parts.values())


def test_weights_follow_the_norms_smoothly():
    balancer = Balancer({"a": 1.0, "b": 1.0})
    ratios = []
    for norm in [1.0] * 20 + [100.0] * 60:
        balancer.update(torch.tensor([[norm], [1.0]]))
        ratios.append(float(balancer.weights["b"] / balancer.weights["a"]))
    assert ratios[:20] == pytest.approx([1.0] * 20)  # from the first step on
    assert all(later - sooner > 0 for sooner, later in itertools.pairwise(ratios[19:50]))
    assert ratios[20] < 3
    assert ratios[-1] == pytest.approx(100, rel=0.02)


def test_utterances_without_a_usable_gradient_change_nothing():
    balancer = Balancer({"a": 1.0, "b": 1.0})
    balancer.update(torch.tensor([[0.0, 0.0], [2.0, 2.0]]))
    assert all(weight.isfinite() for weight in balancer.weights.values())
    balancer.update(torch.tensor([[1.0, 4.0], [2.0, 2.0]]))
    before = balancer.state_dict()["log_norms"][0].clone()
    for bad in (0.0, float("nan"), float("inf")):
        balancer.update(torch.tensor([[bad, bad], [bad, 2.0]]))
    assert balancer.log_norms[0] == before
    assert balancer.weights["a"] == pytest.approx(0.5)


def test_weights_learn_in_training_only():
    noisy, clean = (x.float() for x in voiced(2, samples=8000))
    loss_fn = build_loss("SI-SNR+LMS", "balanced")
    loss_fn(noisy.requires_grad_(), clean)
    state = {name: value.clone() for name, value in loss_fn.state_dict().items()}
    with torch.no_grad():
        loss, parts = loss_fn(clean + 0.1, clean)
    assert loss == pytest.approx(float(loss_fn.total(parts)))
    loss_fn.eval()
    loss_fn(noisy * 0.1, clean)
    assert state.keys() == loss_fn.state_dict().keys() == {"balancer.log_norms", "balancer.seen"}
    for name, value in loss_fn.state_dict().items():
        assert torch.equal(value, state[name])


def test_balanced_works_under_autocast_with_half_precision_estimates():
    noisy, clean = (x.float() for x in voiced(3, samples=8000))
    loss_fn = build_loss("SI-SNR+LMS", "balanced")
    estimate = noisy.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = loss_fn(estimate, clean)
    loss.backward()
    assert loss.dtype == torch.float32
    assert estimate.grad.dtype == torch.bfloat16
    assert estimate.grad.isfinite().all()


def test_balancing_reads_nothing_back_from_the_device():
    balancer = Balancer({"a": 1.0, "b": 1.0}).to("meta")
    balancer.update(torch.ones(2, 4, device="meta"))
    assert balancer.weights["a"].device.type == "meta"


def test_all_processes_of_a_distributed_training_have_the_same_weights(tmp_path):
    multiprocessing.spawn(_one_rank, (tmp_path,), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(one, other)
    alone = Balancer({"a": 1.0, "b": 1.0})
    alone.update(torch.tensor([[2.0, 8.0], [1.0, 1.0]]))  # the geometric mean, of what is usable
    torch.testing.assert_close(one, torch.stack([*alone.weights.values()]))


def _one_rank(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    balancer = Balancer({"a": 1.0, "b": 1.0})
    balancer.update(torch.tensor([[[2.0], [1.0]], [[8.0], [0.0]]][rank]))
    torch.save(torch.stack([*balancer.weights.values()]), folder / f"{rank}.pt")
    distributed.destroy_process_group()
