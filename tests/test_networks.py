"""Every registered network works at any length, starts well and learns."""

import numpy as np
import pytest
import torch
from networks import ALL_SETTINGS, SMALL_NETWORKS, small
from programs import run
from trainings import history_of

import train
from losses import build_loss
from models import NETWORKS, load_model
from tools.demo_corpus.corpus import make_demo_corpus


def test_every_registered_network_is_tested_below():
    assert {name.split()[0] for name in SMALL_NETWORKS} == set(NETWORKS)


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL_NETWORKS)
@pytest.mark.parametrize("samples", [1, 255, 4000, 4001])
def test_every_network_returns_as_many_samples_as_it_gets(name, samples):
    estimate = small(name).eval()(torch.randn(2, samples) * 0.1)
    assert estimate.shape == (2, samples)
    assert estimate.isfinite().all()


FRESH = [(name, {}) for name in SMALL_NETWORKS] + [("DCCRN", options) for options in ALL_SETTINGS]


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), FRESH, ids=str)
def test_a_fresh_network_passes_its_input_through_so_that_no_polarity_is_inverted(name, options):
    torch.manual_seed(0)
    noisy = torch.randn(2, 16000) * 0.1
    estimate = small(name, **options).train()(noisy)
    least = 0.5 if name == "CRN direct" else 0.9  # magnitudes that are estimated directly begin all alike
    assert torch.nn.functional.cosine_similarity(noisy, estimate).min() > least


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_bfloat16_outside_leaves_spectra_in_single_precision(name):
    if name.startswith("FullSubNet") and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("on this processor, PyTorch's LSTM fails under autocast if its input is in single precision")
    model, noisy = small(name).eval(), torch.randn(1, 8000) * 0.1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        estimate = model(noisy)
    assert estimate.dtype == torch.float32
    assert (estimate - model(noisy)).abs().max() < 0.01


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set") / "data"
    make_demo_corpus(folder, n_train=96, n_valid=8, n_test=1, seconds=1.0)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_two_epochs_of_a_small_set_lower_the_validation_loss_and_keep_the_polarity(name, small_set, here):
    options = ["--data", small_set, "--name", "n", "--epochs", "2", "--batch_size", "4", "--learning_rate", "2e-3"]
    for key, value in {"model": name.split()[0], **SMALL_NETWORKS[name]}.items():
        options += [f"--{key}", *(value if isinstance(value, tuple) else [value])]
    assert run(train, *options, "--device", "cpu", "--precision", "fp32", "--valid_scores", "0") == 0
    first, second = (float(row["valid_loss"]) for row in history_of("n"))
    assert second < first
    noisy, clean = torch.from_numpy(np.load(small_set / "valid.npy")).float().unbind(1)
    scale = 32768 if clean.abs().max() > 1 else 1
    with torch.no_grad():
        estimate = load_model("runs/n/best.pt")(noisy / scale)
    assert torch.nn.functional.cosine_similarity(estimate, clean / scale).min() > 0
    assert build_loss("SI-SNR")(estimate, clean / scale)[0] < build_loss("SI-SNR")(noisy / scale, clean / scale)[0]
