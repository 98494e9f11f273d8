"""Losses that compare spectra: complex ones, magnitudes, ratio masks, mel bands, one or several resolutions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import SAMPLE_RATE

from .registry import LossTerm, register

SILENCE = 1e-12  # of a squared magnitude
MASK_FLOOR = 1e-7  # of the noisy spectrum's power
MASK_LIMIT, STEEPNESS = 10.0, 0.1  # K and C
BANDS = (16, 32, 64)
MEL_FLOOR = 1e-7
MAGNITUDE_FLOOR = 1e-8  # of a squared magnitude


class STFT(nn.Module):
    """[B, samples] to complex [B, fft / 2 + 1, frames], as `torch.stft`: centred frames, reflected edges.

    Edges are zeros for signals of fft / 2 samples or fewer, which cannot be reflected.

    window: its values, or the length of a Hann window.
    """

    def __init__(self, fft: int, hop: int, window: int | Tensor) -> None:
        super().__init__()
        window = torch.hann_window(window) if isinstance(window, int) else window
        self.fft, self.hop, self.length = fft, hop, len(window)
        self.register_buffer("window", window, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        half = self.fft // 2
        x = F.pad(x, (half, half), "reflect" if x.shape[-1] > half else "constant")
        window = self.window.to(x.dtype)
        return torch.stft(x, self.fft, self.hop, self.length, window, center=False, return_complex=True)


def power(spectrum: Tensor) -> Tensor:
    """Return the squared magnitude of a complex spectrum."""
    return spectrum.real.square() + spectrum.imag.square()


class SpectralTerm(LossTerm):
    """Base of terms that compare spectra: the mean of `distance` over one or several STFTs.

    resolutions: FFT, hop and window of each, as for STFT.
    """

    resolutions: Sequence[tuple[int, int, int | Tensor]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(STFT(*resolution) for resolution in self.resolutions)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return torch.stack([self.distance(stft(estimate), stft(clean)) for stft in self.transforms]).mean(0)

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        """Return one value an utterance, [B], for complex spectra of estimate and clean speech, [B, F, T]."""
        raise NotImplementedError


@register("spectral-MSE")
class SpectralMSE(SpectralTerm):
    """Mean of ((Re S − Re E)² + (Im S − Im E)²) / 2 over frames and frequencies; FFT 512, window 400, hop 100.

    Source: direct mapping with DCCRN, github.com/seorim0/DNN-based-Speech-Enhancement-in-the-frequency-domain.
    """

    resolutions = ((512, 100, 400),)

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        return power(s - e).mean((1, 2)) / 2


@register("magnitude-MSE", perceptual=True, invariances=("sign",))
class MagnitudeMSE(SpectralTerm):
    """Mean of (|S| − |E|)² over frames and frequencies; FFT 512, window 400, hop 100.

    Source: direct mapping with CRN, github.com/seorim0/DNN-based-Speech-Enhancement-in-the-frequency-domain.
    """

    resolutions = ((512, 100, 400),)

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        e, s = ((power(x) + SILENCE).sqrt() for x in (e, s))
        return (s - e).square().mean((1, 2))


@register("cIRM-MSE", needs_noisy=True)
class MaskMSE(LossTerm):
    """Mean squared error of the compressed complex ratio mask: 10 tanh(m / 20) of both parts of S / X and E / X.

    FFT and window 512, hop 256, Hann.

    Source: Williamson et al. 2016 ("Complex ratio masking for monaural speech separation"); Hao et al. 2021
    ("FullSubNet").
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(512, 256, 512)

    def compare(self, estimate: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        x = self.stft(noisy)
        by_x = x.conj() / (power(x) + MASK_FLOOR)
        ours, ideal = (
            MASK_LIMIT * (torch.view_as_real(self.stft(y) * by_x) * (STEEPNESS / 2)).tanh()
            for y in (estimate, clean)
        )
        return (ideal - ours).square().mean((1, 2, 3))


@register("LMS", perceptual=True, invariances=("sign",))
class LMS(LossTerm):
    """Log-mel distance: root mean square difference of log-mel spectra over 16, 32 and 64 bands.

    Magnitude spectra (Hann window of 400 samples, hop 100, 512-point FFT, divided by 512) pass HTK mel banks of
    16, 32 and 64 bands up to 8 kHz. The differences of their natural logarithms are averaged as root mean square
    over the bands of a frame, then over the frames and the three banks.

    Source: [P], after Kim et al. ("Multi-channel speech enhancement with log-mel loss"); docs/design.md says what
    [P]'s code computes instead.
    """

    def __init__(self) -> None:
        from torchaudio.functional import melscale_fbanks  # takes seconds to import, and only this term needs it

        super().__init__()
        self.register_buffer("window", F.pad(torch.hann_window(400), (0, 112)), persistent=False)
        banks = [melscale_fbanks(257, 0.0, 8000.0, bands, SAMPLE_RATE, mel_scale="htk") for bands in BANDS]
        self.register_buffer("banks", torch.cat(banks, 1), persistent=False)  # [257, 16 + 32 + 64]

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        difference = self._log_mel(estimate) - self._log_mel(clean)  # [B, frames, 112]
        distances = [(part.square().mean(-1) + MEL_FLOOR).sqrt().mean(-1) for part in difference.split(BANDS, -1)]
        return torch.stack(distances).mean(0)

    def _log_mel(self, waveform: Tensor) -> Tensor:
        # Zeros at both ends: every sample lies in the same number of frames, and any length has a frame.
        padded = F.pad(waveform, (300, 412))
        window = self.window.to(waveform.dtype)
        spectrum = torch.stft(padded, 512, 100, window=window, center=False, return_complex=True)
        mel = spectrum.abs().transpose(1, 2) / 512 @ self.banks.to(waveform.dtype)
        return (mel + MEL_FLOOR).log()


@register("MR-STFT", perceptual=True, invariances=("sign",))
class MultiResolutionSTFT(SpectralTerm):
    """‖|S| − |E|‖ / ‖|S|‖ plus the mean of |ln |S| − ln |E||, over three STFTs (FFT 512, 1024, 2048).

    Hann windows of 240, 600 and 1200 samples, hops of 50, 120 and 240. Each utterance is computed as auraloss
    computes a batch of one; for larger batches, auraloss takes one norm over all utterances.

    Source: Yamamoto et al. 2020 ("Parallel WaveGAN"); Steinmetz & Reiss 2020 ("auraloss").
    """

    resolutions = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        e, s = (power(x).clamp(min=MAGNITUDE_FLOOR).sqrt() for x in (e, s))
        convergence = torch.linalg.matrix_norm(s - e) / torch.linalg.matrix_norm(s)
        return convergence + (s.log() - e.log()).abs().mean((1, 2))


@register("MR-L1", perceptual=True, invariances=("scale", "sign"))
class MultiResolutionL1(SpectralTerm):
    """0.5 mean |y − s| + 0.5 mean ||Y| − |S||, y = a e nearest to s, s at a variance of 1, over four STFTs.

    a = ⟨e, s⟩ / ⟨e, e⟩; rectangular windows and FFT of 256, 512, 768 and 1024 samples, half a window of hop.
    Means instead of the source's sums, so that the value (about 2 at 5 dB) does not depend on the length, and
    a silent clean signal or estimate gives a finite value and a gradient of 0 instead of NaN. The output's level
    and polarity are free: combine it with a term that sees them.

    Source: Lu et al. 2022 ("Towards low-distortion multi-channel speech enhancement"), as in ESPnet and the
    URGENT challenges.
    """

    resolutions = tuple((n, n // 2, torch.ones(n)) for n in (256, 512, 768, 1024))

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        s = clean / (clean.var(-1, keepdim=True, correction=min(1, clean.shape[-1] - 1)) + SILENCE).sqrt()
        y = (estimate * s).sum(-1, keepdim=True) / (estimate.square().sum(-1, keepdim=True) + SILENCE) * estimate
        return 0.5 * (y - s).abs().mean(-1) + 0.5 * super().compare(y, s)

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        return (e.abs() - s.abs()).abs().mean((1, 2))
