"""models/: the network computes what was published, at any length, and starts where training can succeed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ALL_SETTINGS, SMALL
from torch.utils.flop_counter import FlopCounterMode

from config import Config
from losses import build_loss
from models import DCCRN, build_model, load_model
from models.complex_layers import ComplexLSTM
from models.dccrn import Conv, ConvTranspose
from models.layers import ComplexBatchNorm2d, PReLU
from models.stft import STFT


def test_the_full_network_takes_no_more_operations_than_published():
    model, noisy = build_model(Config()), torch.randn(1, 48000) * 0.1
    with FlopCounterMode(display=False) as forward:
        estimate = model(noisy)
    with FlopCounterMode(display=False) as backward:
        estimate.sum().backward()
    assert 40e9 < forward.get_total_flops() <= 50.3e9
    assert forward.get_total_flops() + backward.get_total_flops() <= 150e9


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 3000), seed=st.integers(0, 99))
def test_the_inverse_transform_gives_the_waveform_back(samples, seed):
    stft = STFT().double()
    waveform = torch.randn(2, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(stft.inverse(stft(waveform), samples), waveform, rtol=0, atol=2e-6)


def test_the_inverse_transform_is_the_least_squares_one():
    stft = STFT().double()
    frame = np.fft.rfft(np.eye(512)[:400])  # [400, 257]
    matrix = np.concatenate([frame.real, frame.imag], 1)  # [400, 514]
    spectrum = torch.randn(1, 257, 4, dtype=torch.complex128)  # of no waveform
    spectrum.imag[:, [0, -1]] = 0
    stacked = np.concatenate([spectrum[0].real, spectrum[0].imag])  # [514, 4]
    frames = np.linalg.pinv(matrix).T @ stacked * np.hanning(401)[:400, None]
    expected = np.zeros(700)
    for t in range(4):
        expected[t * 100 : t * 100 + 400] += frames[:, t]
    expected = expected[300:400] / (1.5 + 1e-8)
    np.testing.assert_allclose(stft.inverse(spectrum, 100)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", ALL_SETTINGS, ids=lambda o: "-".join(map(str, o.values())))
def test_a_fresh_network_passes_speech_through_in_the_right_polarity(options):
    torch.manual_seed(0)
    noisy = torch.randn(2, 8000) * 0.1
    model = DCCRN(kernel_num=(16, 32, 32), rnn_units=32, **options)
    estimate = model(noisy)  # in training mode: batch statistics
    assert build_loss("SI-SNR")(estimate, noisy)[0] < -15  # 15 dB above what the network adds
    assert 0.8 < (estimate * noisy).sum() / noisy.square().sum() < 1.25


@pytest.mark.parametrize("options", ALL_SETTINGS, ids=lambda o: "-".join(map(str, o.values())))
def test_silence_does_not_poison_the_gradient(options):
    model = DCCRN(**SMALL, **options)
    noisy = torch.zeros(2, 1000, requires_grad=True)
    (model(noisy) - 0.1).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.isfinite(noisy.grad).all()


def test_the_network_looks_ahead_no_more_than_its_latency():
    torch.manual_seed(0)
    model = DCCRN(**SMALL).eval()
    torch.nn.init.normal_(model.decoder[-1].weight_real)  # far from passing through
    noisy = torch.randn(1, 8000) * 0.1
    changed = noisy.clone()
    changed[:, 5000:] += 0.1 * torch.randn(1, 3000)
    with torch.no_grad():
        difference = (model(noisy) - model(changed)).abs()[0]
    latency = 1000  # samples: 25 ms window and 37.5 ms look-ahead
    assert difference[: 5000 - latency].max() < 1e-6
    assert difference[5000 - latency :].max() > 1e-3


def test_a_complex_convolution_is_the_complex_product():
    layer = Conv(4, 6).double()
    with torch.no_grad():
        layer.bias_real.normal_()
        layer.bias_imag.normal_()
    x = torch.randn(2, 2, 8, 5, dtype=torch.complex128)
    kernel = torch.complex(layer.weight_real, layer.weight_imag)
    bias = torch.complex(layer.bias_real - layer.bias_imag, layer.bias_real + layer.bias_imag)
    padded = torch.nn.functional.pad(x, (1, 0, 2, 2))
    expected = torch.nn.functional.conv2d(padded, kernel, bias, stride=(2, 1))
    assert_parts_equal(layer(as_parts(x)), expected)


def test_a_complex_transposed_convolution_is_the_adjoint_of_the_convolution():
    down, up = Conv(4, 6).double(), ConvTranspose(6, 4).double()
    with torch.no_grad():  # the adjoint has the conjugate kernel; shifted by the frame of look-ahead
        up.weight_real.copy_(down.weight_real)
        up.weight_imag.copy_(-down.weight_imag)
    x = torch.randn(1, 2, 8, 6, dtype=torch.complex128)
    y = torch.randn(1, 3, 4, 6, dtype=torch.complex128)
    forward = (as_complex(down(as_parts(x))) * y.conj()).sum()
    backward = (x * as_complex(up(as_parts(y))).conj()).sum()
    torch.testing.assert_close(forward, backward)


def test_a_complex_lstm_is_four_real_ones():
    layer = ComplexLSTM(6, 5)
    real, imag = torch.randn(7, 2, 6), torch.randn(7, 2, 6)
    r, i = layer.real_lstm, layer.imag_lstm
    out_real, out_imag = layer(real, imag)
    torch.testing.assert_close(out_real, r(real)[0] - i(imag)[0])
    torch.testing.assert_close(out_imag, i(real)[0] + r(imag)[0])


def test_complex_batch_norm_whitens_and_remembers():
    torch.manual_seed(0)
    norm = ComplexBatchNorm2d(2)
    real = torch.randn(8, 1, 20, 30)
    x = torch.cat([3 * real + 1, 2 * real + torch.randn(8, 1, 20, 30) - 2], 1)
    for _ in range(100):
        y = norm(x)
    flat = y.transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(flat), torch.eye(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(flat.mean(1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm.eval()(x), y, atol=1e-2, rtol=0)


def test_a_checkpoint_alone_rebuilds_the_network(tmp_path):
    config = Config(network={"kernel_num": (4, 8), "rnn_units": 8, "mask": "C", "lstm": "real"})
    model = build_model(config).eval()
    checkpoint = {"config": config.to_dict(), "model": model.state_dict(), "epoch": 3}
    torch.save(checkpoint, tmp_path / "best.pt")
    noisy = torch.randn(1, 500)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path / "best.pt")(noisy), model(noisy), rtol=0, atol=0)


def as_parts(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x.real, x.imag], 1)


def as_complex(parts: torch.Tensor) -> torch.Tensor:
    return torch.complex(*parts.chunk(2, 1))


def assert_parts_equal(parts: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(as_complex(parts), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_quick_prelu_has_the_gradients_of_torchs(dtype):
    torch.manual_seed(0)
    x, gradient = torch.randn(2, 3, 100_000).to(dtype)  # more than is summed in one piece
    layer = PReLU(dtype=torch.promote_types(dtype, torch.float32))
    expected = torch.nn.PReLU(dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    layer(ours).backward(gradient)
    expected(theirs).backward(gradient.double())
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]  # of bfloat16's 8 bits
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=tolerance, atol=0)
    torch.testing.assert_close(layer.weight.grad.double(), expected.weight.grad, rtol=1e-4, atol=0)
