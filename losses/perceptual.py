"""Losses that packages compute: models of hearing, and predictions of quality and intelligibility."""

import contextlib
import io
from collections.abc import Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import SAMPLE_RATE
from tools.common.errors import UserError

from .registry import LossTerm, freeze_constants, register
from .spectral import power

FRAME, HOP = 512, 256  # samples, of PMSQE
POWER_FLOOR = 1e-12  # -120 dB: silence counts as white noise of this power

PESQ_SHORTEST = 5376  # samples; the 20 frames over which PESQ aggregates disturbances
TONE = 1e-6  # amplitude of a tone added to both signals, -120 dBFS, so that silence can be level-aligned

STOI_RATE = 10000  # Hz
STOI_SHORTEST = 6656  # samples at 16 kHz; 30 frames at 10 kHz, the least that STOI needs


@contextlib.contextmanager
def needs_package(installation: str) -> Iterator[None]:
    """Raise UserError with the command that installs a package, if one that is imported within is missing."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"loss: {error}; {installation}") from None


@register("PMSQE", perceptual=True, invariances=("scale", "sign"))
class PMSQE(LossTerm):
    """Symmetric and asymmetric loudness disturbances after PESQ, on power spectra.

    Computed by `asteroid.losses.SingleSrcPMSQE` on power spectra (square-root Hann window of 512 samples, hop
    256), with its level, frequency and gain equalisation: the level of the estimate does not matter.

    Source: Martín-Doñas et al. 2018 ("A deep learning loss function based on the perceptual evaluation of the
    speech quality").
    """

    def __init__(self) -> None:
        super().__init__()
        from asteroid.losses import SingleSrcPMSQE  # takes seconds to import, and only this term needs it

        self.distance = freeze_constants(SingleSrcPMSQE(window_name="sqrt_hann", sample_rate=SAMPLE_RATE))
        self.register_buffer("window", torch.hann_window(FRAME).sqrt(), persistent=False)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return self.distance(self._power(estimate), self._power(clean))

    def _power(self, waveform: Tensor) -> Tensor:
        """Return the power spectra of [B, samples], [B, frames, 257]; the last frame is padded with zeros."""
        waveform = waveform.to(self.window.dtype)  # asteroid's tables have this precision
        samples = waveform.shape[-1]
        padded = F.pad(waveform, (0, max(FRAME - samples, -samples % HOP)))
        spectrum = torch.stft(padded, FRAME, HOP, window=self.window, center=False, return_complex=True)
        return power(spectrum).transpose(1, 2) + POWER_FLOOR


@register("PESQ", perceptual=True, invariances=("scale", "sign", "offset"))
class PESQ(LossTerm):
    """Disturbances of a wide-band PESQ without time alignment: 0.1 symmetric + 0.0309 asymmetric, 0 is the lowest.

    Computed by torch-pesq, an extra: pip install --no-deps -r requirements-pesq.txt

    Source: ITU-T P.862.2; audiolabs/torch-pesq.
    """

    def __init__(self) -> None:
        super().__init__()
        # Its type annotations fail under typeguard 4, which the command line needs: switch its check off.
        unchecked = mock.patch("typeguard.typechecked", lambda function: function)
        with needs_package("pip install --no-deps -r requirements-pesq.txt"), unchecked:
            from torch_pesq import PesqLoss
        # Double precision: the filters have poles near one, and small disturbances are raised to the sixth power.
        self.distance = freeze_constants(PesqLoss(1.0, sample_rate=SAMPLE_RATE)).double()

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        samples = max(PESQ_SHORTEST, estimate.shape[-1])
        tone = TONE * torch.arange(samples, device=clean.device, dtype=torch.float64).mul(0.5).cos()  # 1.3 kHz
        e, s = (F.pad(x.double(), (0, samples - x.shape[-1])) + tone for x in (estimate, clean))
        return self.distance(s, e).to(estimate.dtype)


@register("STOI", perceptual=True, invariances=("scale", "sign", "offset"))
class STOI(LossTerm):
    """Minus STOI: correlation of third-octave envelopes over 0.4 s where there is speech, −1 to 0.

    Computed by torch-stoi, which waits for a GPU. Without 0.4 s of speech the value is 0 and there is no gradient.

    Source: Taal et al. 2011 ("An algorithm for intelligibility prediction of time-frequency weighted noisy
    speech").
    """

    extended = False

    def __init__(self) -> None:
        from torch_stoi import NegSTOILoss  # these take seconds to import
        from torchaudio.transforms import Resample

        super().__init__()
        self.resample = freeze_constants(Resample(SAMPLE_RATE, STOI_RATE))
        self.distance = freeze_constants(NegSTOILoss(STOI_RATE, extended=self.extended, do_resample=False))

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        fill = max(0, STOI_SHORTEST - estimate.shape[-1])
        precision = self.distance.OBM.dtype  # of torch-stoi's tables
        e, s = (self.resample(F.pad(x, (0, fill)).to(precision)) for x in (estimate, clean))
        return self.distance(e, s)


@register("ESTOI", perceptual=True, invariances=("scale", "sign", "offset"))
class ESTOI(STOI):
    """Minus extended STOI: the correlation of spectra joins that of envelopes.

    Source: Jensen & Taal 2016 ("An algorithm for predicting the intelligibility of speech masked by modulated
    noise maskers").
    """

    extended = True


@register("DistillMOS", perceptual=True, invariances=("scale",))
class DistillMOS(LossTerm):
    """Minus DistillMOS, a network's prediction of the mean opinion of e, without s: −5 to −1.

    For studies of gaming only: its gradient is no guide to quality. Computed by distillmos, an extra: pip install
    -e .[quality]. Any length up to 7.68 s costs as much as that, ten steps of GTCRN. The package's gradient is NaN
    for shorter signals and for silence; here it is finite, with the same value to 1e-6.

    Source: Stahl & Gamper 2025 ("Distillation and pruning for scalable self-supervised representation-based
    speech quality assessment").
    """

    def __init__(self) -> None:
        super().__init__()
        with needs_package("pip install -e .[quality]"):
            from distillmos import ConvTransformerSQAModel
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the path of its weights
            self.opinion = freeze_constants(ConvTransformerSQAModel())
        self.opinion.cnn = _SmoothSpectra(self.opinion.cnn.cnn)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return -self.opinion(estimate.to(self.opinion.cnn.window.dtype))[:, 0]


class _SmoothSpectra(nn.Module):
    """First layers of DistillMOS: spectra compressed by |X|^0.3 with a gradient at zero, and convolutions."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.register_buffer("window", torch.hann_window(320), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (80, 80), "reflect")
        x = torch.stft(padded, 320, 160, window=self.window, center=False, return_complex=True)
        x = torch.view_as_real(x).permute(0, 3, 1, 2)  # [B, 2, F, T]
        compressed = x * (x.square().sum(1, keepdim=True) + 1e-24) ** -0.35
        return self.layers(compressed).flatten(1, -2)
