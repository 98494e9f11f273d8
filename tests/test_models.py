"""models/: the network computes what was published, at any length, and starts where training can succeed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ALL_SETTINGS, SMALL

from models.dccrn import DCCRN
from models.layers import ComplexBatchNorm2d, PReLU
from models.stft import STFT


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 3000), seed=st.integers(0, 99))
def test_the_inverse_transform_gives_the_waveform_back(samples, seed):
    stft = STFT().double()
    waveform = torch.randn(2, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(stft.inverse(stft(waveform), samples), waveform, rtol=0, atol=2e-6)


@pytest.mark.parametrize("options", ALL_SETTINGS, ids=lambda o: "-".join(map(str, o.values())))
def test_silence_does_not_poison_the_gradient(options):
    model = DCCRN(**SMALL, **options)
    noisy = torch.zeros(2, 1000, requires_grad=True)
    (model(noisy) - 0.1).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.isfinite(noisy.grad).all()


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
