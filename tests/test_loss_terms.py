"""Every registered loss term, found through the registry: a new one is held to the same properties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import voiced

from losses import TERMS, LossTerm
from losses.registry import INVARIANCES
from tools.common.errors import UserError

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


QUICK = [name for name in TERMS if name != "DistillMOS"]  # which takes seconds a call: see test_losses.py


@pytest.fixture(params=QUICK, scope="module")
def term(request) -> LossTerm:
    return build(request.param)


@pytest.fixture(scope="module")
def formula(term) -> LossTerm:
    if term.has_own_loss:
        pytest.skip("what a network says is lowest anywhere")
    return term


def build(name: str) -> LossTerm:
    torch.manual_seed(0)
    try:
        return TERMS[name]().eval()
    except UserError as error:  # the package of an extra
        pytest.skip(str(error))


def signal(kind: str, samples: int, seed: int) -> torch.Tensor:
    """[2, samples] float32."""
    white = torch.randn(2, samples, generator=torch.Generator().manual_seed(seed))
    if kind == "click":
        return torch.zeros(2, samples).index_fill(1, torch.tensor([samples // 2]), 1.0)
    return {
        "silence": torch.zeros(2, samples),
        "constant": torch.full((2, samples), 0.5),
        "full scale": white.sign(),
        "speech level": 0.05 * white,
        "tiny": 1e-9 * white,
    }[kind]


KINDS = st.sampled_from(["silence", "click", "constant", "full scale", "speech level", "tiny"])


@settings(max_examples=25, deadline=None)
@given(kinds=st.tuples(KINDS, KINDS, KINDS), samples=st.sampled_from([1, 2, 399, 4001, 8191]), same=st.booleans())
def test_no_signal_makes_a_value_or_a_gradient_that_is_not_finite(term, kinds, samples, same):
    estimate, clean, noisy = (signal(kind, samples, seed) for seed, kind in enumerate(kinds))
    estimate = (clean.clone() if same else estimate).requires_grad_()
    value = term(estimate, clean, noisy)
    assert value.shape == (2,)
    assert value.isfinite().all()
    value.sum().backward()
    assert estimate.grad.isfinite().all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), level_db=st.floats(-60, 20))
def test_no_estimate_is_better_than_the_clean_speech(formula, seed, level_db):
    noisy, clean = voiced(seed, samples=8000)
    error = voiced(seed + 1, samples=8000)[0] * 10 ** (level_db / 20)
    assert (formula(clean + error, clean, noisy) >= formula(clean, clean, noisy) - 1e-9).all()


def test_the_value_grows_with_the_noise(formula):
    noisy, clean = voiced(4)
    better = formula(clean, clean, noisy)
    for share in (0.05, 0.2, 1.0):
        worse = formula(clean + share * (noisy - clean), clean, noisy)
        assert (worse > better).all()
        better = worse


CHANGES = {
    "scale": (lambda e: 2 * e, lambda e: 0.3 * e),
    "sign": (lambda e: -e,),
    "offset": (lambda e: e + e.std(-1, keepdim=True), lambda e: e - e.std(-1, keepdim=True)),
}


@pytest.mark.parametrize("invariance", INVARIANCES)
def test_a_term_is_blind_to_what_it_declares_and_to_nothing_else(term, invariance):
    noisy, clean = voiced(5)
    value = term(noisy, clean, noisy)
    span = value - term(clean + 0.03 * (noisy - clean), clean, noisy)  # what 30 dB less noise would change
    changed = torch.stack([term(change(noisy), clean, noisy) for change in CHANGES[invariance]])
    seen = ((changed - value) / span).abs()
    assert (seen < 0.005).all() if invariance in term.invariances else seen.max() > 0.01


def test_gradients_are_those_of_the_value(term):
    noisy, clean = voiced(5, samples=7000, batch=1)
    exact = build(term.name).double()
    estimate = noisy.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda e: exact(e, clean, 1.1 * noisy), estimate, eps=1e-7, atol=1e-4, fast_mode=True
    )


def test_a_network_that_begins_by_passing_its_input_on_meets_no_cliff(term):
    noisy, clean = voiced(9)
    estimate = noisy.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(term(estimate, clean, noisy).sum(), estimate)
    assert (gradient.norm(dim=-1) * (noisy - clean).norm(dim=-1) < 200).all()  # for a step as long as the noise


def test_a_batch_has_one_value_an_utterance_whatever_its_neighbours(term):
    noisy, clean = (x.float() for x in voiced(6))
    estimate = 0.7 * noisy + 0.3 * clean
    singles = [term(*(x[n : n + 1] for x in (estimate, clean, noisy))) for n in range(len(noisy))]
    torch.testing.assert_close(term(estimate, clean, noisy), torch.cat(singles), rtol=1e-4, atol=1e-5)


def test_half_precision_outside_does_not_change_a_loss(term):
    noisy, clean = (x.bfloat16() for x in voiced(7))
    with torch.autocast("cpu", torch.bfloat16):
        value = term(noisy, clean, noisy)
    expected = term(*(x.float() for x in (noisy, clean, noisy)))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0, atol=0)


def test_nothing_is_copied_to_or_read_from_the_device(term):
    """The meta device has no values: an operation that reads one, or mixes in a tensor of the CPU, fails there."""
    if "STOI" in term.name:
        pytest.skip("torch-stoi reads which frames are silent")
    elsewhere = build(term.name).to("meta")
    noisy, clean = (torch.empty(2, 4000, device="meta") for _ in range(2))
    assert elsewhere.compare(*(noisy, clean, noisy)[: 3 if term.needs_noisy else 2]).shape == (2,)


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_computes_the_same(term):
    noisy, clean = (x.float() for x in voiced(8))
    value = term(noisy, clean, noisy)
    try:
        on_gpu = term.cuda()(*(x.cuda() for x in (noisy, clean, noisy)))
    finally:
        term.cpu()
    torch.testing.assert_close(on_gpu.cpu(), value, rtol=1e-3, atol=1e-4)


def test_a_term_that_learns_says_what_and_all_others_have_no_state(term):
    assert term.has_own_loss == bool(list(term.parameters())) == bool(term.state_dict())


def test_a_term_says_what_it_is(term):
    assert type(term).__doc__, "its first paragraph is its row in the table of losses"
