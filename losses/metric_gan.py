"""metric-GAN: a discriminator learns to predict a score, which has no gradient, and the network raises it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .compressed import LEVEL_FLOOR, POWER_FLOOR, compress
from .registry import LossTerm, register
from .spectral import STFT

FFT, HOP = 512, 256  # samples
SHORTEST = 32 * HOP  # samples; four layers halve the frames


@register("metric-GAN", perceptual=True, invariances=("sign",))
class MetricGAN(LossTerm):
    """(D(s, e) − 1)², D a discriminator that learns (PESQ − 1) / 3.5 of e by (D(s, s) − 1)² + (D(s, e) − q)².

    D sees |S|ᶜ and |E|ᶜ, c = 0.3 (FFT and window 512, hop 256, Hann; the source 400 and 100) with clean speech of
    RMS 1, and trains once a step at twice the network's learning rate. Items without a PESQ, such as silence, are
    left out one by one and counted in `failed`. The value, 0 to 1, changes as D learns: choose the best
    epoch by a score (--best_by pesq), and judge the network by other scores.

    Source: Cao et al. 2022 ("CMGAN"); Fu et al. 2019 ("MetricGAN").
    """

    metric, lowest, highest = "pesq", 1.0, 4.5
    own_rate = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(FFT, HOP, FFT)
        self.discriminator = Discriminator()
        self.register_buffer("failed", torch.zeros((), dtype=torch.int64))
        self._seen = None

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        e, s = self._magnitudes(estimate, clean), self._magnitudes(clean, clean)
        if self.training and self.pool:  # for own_loss; scored while the network's gradients are computed
            pairs = zip(clean.cpu().numpy(), estimate.detach().cpu().numpy(), strict=True)
            self._seen = e.detach(), s, [self.pool.score(*pair, (self.metric,)) for pair in pairs]
        return (self.discriminator(torch.stack((s, e), 1)) - 1).square()

    def own_loss(self, estimate: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        e, s, scores = self._seen  # of this estimate, which `compare` saw just before
        values = torch.tensor([future.result().values[self.metric] for future in scores])
        wanted = ((values - self.lowest) / (self.highest - self.lowest)).clamp(0, 1).to(estimate)
        known = wanted.isfinite()
        self.failed += (~known).sum()
        predicted = self.discriminator(torch.stack((s.repeat(2, 1, 1), torch.cat((s, e))), 1))
        of_clean, of_estimate = predicted.chunk(2)
        error = (of_clean - 1).square() + (of_estimate - wanted.nan_to_num()).square()
        return known * error * (len(known) / known.sum().clamp(min=1))  # the mean is over items with a score

    def _magnitudes(self, waveform: Tensor, clean: Tensor) -> Tensor:
        """Return |X|ᶜ, [B, F, T], at the level where the clean speech has an RMS of 1."""
        level = (clean.square().mean(-1, keepdim=True) + LEVEL_FLOOR**2).sqrt()
        fill = max(0, SHORTEST - clean.shape[-1])
        spectrum = self.stft(F.pad(waveform / level, (0, fill)))
        return compress(spectrum, POWER_FLOOR)[1]


@register("metric-GAN-ESTOI", perceptual=True, invariances=("sign",))
class MetricGANOfESTOI(MetricGAN):
    """As metric-GAN, with ESTOI (0 to 1) instead of PESQ."""

    metric, lowest, highest = "estoi", 0.0, 1.0


class Discriminator(nn.Module):
    """Predicts the score of an estimate, 0 to 1: [B, 2, F, T] magnitudes of clean and estimate to [B].

    Four convolutions that halve both axes, the largest value of each channel, two linear layers; all with spectral
    normalisation, whose buffers change at each forward pass in training mode.

    Source: Cao et al. 2022 ("CMGAN").
    """

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        layers, inputs = [], 2
        for outputs in (channels, 2 * channels, 4 * channels, 8 * channels):
            convolution = spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False))
            layers += [convolution, nn.InstanceNorm2d(outputs, affine=True), nn.PReLU(outputs)]
            inputs = outputs
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten()]
        layers += [spectral_norm(nn.Linear(inputs, inputs // 2)), nn.Dropout(0.3), nn.PReLU(inputs // 2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Linear(inputs // 2, 1)))
        self.slope = nn.Parameter(torch.ones(1))

    def forward(self, magnitudes: Tensor) -> Tensor:
        return (self.slope * self.layers(magnitudes)[:, 0]).sigmoid()
