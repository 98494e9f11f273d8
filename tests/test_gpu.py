"""What a GPU computes is what a CPU does: run by `make gpu`, skipped where there is none."""

import signal

import pytest
import torch
from networks import REFERENCE, SMALL, VARIANTS, reference_weights, trained_like
from programs import run
from trainings import TINY, history_of, shell, wait_for, weights_of

import train
from config import Config
from losses import build_loss
from models import build_model
from models.dccrn import DCCRN
from models.published import convert
from models.streaming import StreamingEnhancer
from tools.benchmark import variant_step
from tools.training.precision import set_kernels

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpu_gives_the_published_estimate(variant):
    model = DCCRN(**SMALL, **VARIANTS[variant][1])
    model.load_state_dict(convert("DCCRN", reference_weights(variant)))
    with torch.no_grad():
        estimate = model.to(DEVICE).eval()(torch.from_numpy(REFERENCE["noisy"]).to(DEVICE)).cpu()
    expected = torch.from_numpy(REFERENCE[f"estimate/{variant}"])
    torch.testing.assert_close(estimate, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("network", [{"network": SMALL}, {"model": "GTCRN"}], ids=["DCCRN", "GTCRN"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 5e-2)])
def test_loss_and_gradients_of_a_gpu_are_those_of_a_cpu(network, precision, tolerance):
    set_kernels(Config(precision=precision))
    noisy, clean = 0.1 * torch.randn(2, 2, 16000, generator=torch.Generator().manual_seed(0))
    found = []
    for device, half in (("cpu", False), (DEVICE, precision == "bf16")):
        torch.manual_seed(0)
        model = build_model(Config(**network)).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            estimate = model(noisy.to(device))
        loss, _ = build_loss("SI-SNR+LMS").to(device)(estimate, clean.to(device), noisy.to(device))
        loss.backward()
        found.append((loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()]).cpu()))
    (expected, gradient), (loss, ours) = found
    assert loss == pytest.approx(expected, abs=tolerance)
    assert torch.linalg.vector_norm(ours - gradient) < 2 * tolerance * torch.linalg.vector_norm(gradient)


def test_a_training_step_never_waits_for_the_gpu():
    config = Config(network=SMALL, loss="SI-SNR+LMS", clip_grad=5.0, skip_nonfinite=1)
    batch = 0.1 * torch.randn(2, 4, 16000, device=DEVICE)
    step = variant_step(config, build_model(config).to(DEVICE), precision="bf16")
    step(*batch)  # the first one allocates
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(*batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_stream_on_a_gpu_is_the_whole_recording_enhanced():
    model = trained_like().to(DEVICE)
    noisy = 0.1 * torch.randn(8000, device=DEVICE)
    enhancer = StreamingEnhancer(model)
    pieces = [enhancer.push(piece) for piece in noisy.split(700)] + [enhancer.flush()]
    with torch.no_grad():
        whole = model(noisy[None])[0]
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_on_a_gpu_validates_as_on_a_cpu(workplace, precision):
    options = [*TINY, "--epochs", 5, "--learning_rate", "5e-3"]
    assert run(train, *options, "--name", "cpu") == 0
    assert run(train, *options, "--name", "gpu", "--device", DEVICE, "--precision", precision) == 0
    ours, expected = (float(history_of(name)[-1]["valid_loss"]) for name in ("gpu", "cpu"))
    assert ours == pytest.approx(expected, abs=0.03)


def test_a_training_that_is_stopped_and_resumed_has_the_same_bits(workplace):
    options = ["--device", DEVICE, "--epochs", 6, "--deterministic", "True", "--checkpoint_minutes", "0.0001"]
    assert shell(*options, "--name", "whole").wait() == 0
    stopped = shell(*options, "--name", "parts")
    wait_for(workplace / "runs/parts/last.pt")
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == 143
    assert shell(*options, "--name", "parts").wait() == 0
    whole, parts = weights_of("whole"), weights_of("parts")
    assert all(torch.equal(parts[name], weight) for name, weight in whole.items())
