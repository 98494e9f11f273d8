"""Composite scores of enhanced speech, and the measures that they combine.

Hu & Loizou, "Evaluation of Objective Quality Measures for Speech Enhancement", IEEE TASLP 16(1), 2008. Frames,
filters, trimming and scaling are those of composite.m, with which published VoiceBank+DEMAND tables are made;
comments note its differences from the paper.
"""

import numpy as np

from config import SAMPLE_RATE

FRAME = 480  # 30 ms
HOP = 120
LPC_ORDER = 16
AUDIBLE = 1e-4  # of the loudest frame's power: speech
KEPT = 0.95  # the frames with the largest distortion are left out of the mean

# Critical bands in Hz (Klatt, ICASSP 1982): 70 Hz wide up to 540 Hz, wider above.
# fmt: off
CENTRES = np.array([
    50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.3, 1288.72,
    1442.54, 1610.7, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63,
])
WIDTHS = np.array([
    70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823,
    168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136,
])
# fmt: on
FFT = 1024


def segmental_snr(clean: np.ndarray, signal: np.ndarray) -> float:
    """Return the mean over frames of the SNR in dB, limited to -10 ... 35 dB in each frame."""
    clean, signal = _frames(clean), _frames(signal)
    tiny = np.finfo(float).eps
    ratio = (clean**2).sum(-1) / (((clean - signal) ** 2).sum(-1) + tiny)
    return float(np.clip(10 * np.log10(ratio + tiny), -10, 35).mean())


def log_likelihood_ratio(clean: np.ndarray, signal: np.ndarray) -> float:
    """Return the mean over frames of log(a_e R a_e / a_s R a_s), R the clean autocorrelation, a predictors.

    Unlike in the paper, a frame's value is not limited to 2. Frames in which the speech is muted count as the
    worst one of the others; further frames in which one of the two is digital silence are left out.
    """
    of_clean, of_signal = (_autocorrelation(_frames(waveform)) for waveform in (clean, signal))
    power, silent = of_clean[:, 0, 0], of_signal[:, 0, 0] == 0
    muted = silent & (power > AUDIBLE * power.max())
    sounds = (power > 0) & ~silent
    if not sounds.any():
        raise ValueError("no frame in which both reference and signal sound")
    of_clean = of_clean[sounds]
    of_predictors = [
        np.einsum("fi,fij,fj->f", predictor, of_clean, predictor)
        for predictor in (_predictor(of_signal[sounds]), _predictor(of_clean))
    ]
    ratios = np.log(of_predictors[0] / of_predictors[1])
    return _trimmed_mean(np.append(ratios, np.full(muted.sum(), ratios.max())))


def weighted_spectral_slope(clean: np.ndarray, signal: np.ndarray) -> float:
    """Return the mean weighted square difference of the slopes of critical band spectra (Klatt 1982).

    As in composite.m, samples in [-1, 1] are divided by 32768, so that the floor of -100 dB hides quiet bands.
    """
    bands = [_band_levels(_frames(waveform) / 32768) for waveform in (clean, signal)]
    slopes = [np.diff(levels) for levels in bands]  # [frames, 24]
    weight = sum(_peak_weight(levels, slope) for levels, slope in zip(bands, slopes, strict=True)) / 2
    return _trimmed_mean((weight * (slopes[0] - slopes[1]) ** 2).sum(-1) / weight.sum(-1))


def composite(pesq: float, llr: float, wss: float, ssnr: float) -> dict[str, float]:
    """Return CSIG (speech), CBAK (background), COVL (overall), each a mean opinion from 1 to 5.

    The regression of the paper, with wide-band PESQ instead of the raw value of P.862, as is usual.
    """
    values = {
        "csig": 3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss,
        "cbak": 1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * ssnr,
        "covl": 1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss,
    }
    return {name: float(np.clip(value, 1, 5)) for name, value in values.items()}


def _frames(waveform: np.ndarray) -> np.ndarray:
    """Return windowed frames [frames, 480] without the last possible one."""
    if waveform.size < FRAME + HOP:
        raise ValueError(f"{waveform.size} samples are too short for frames of {FRAME}")
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), FRAME)[::HOP]
    return frames[: waveform.size // HOP - FRAME // HOP] * np.hanning(FRAME + 2)[1:-1]


def _trimmed_mean(values: np.ndarray) -> float:
    return float(np.sort(values)[: round(values.size * KEPT)].mean())


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    """Return the autocorrelation matrices [frames, order + 1, order + 1]."""
    lags = np.stack([(frames[:, : FRAME - lag] * frames[:, lag:]).sum(-1) for lag in range(LPC_ORDER + 1)], -1)
    return lags[:, np.abs(np.subtract.outer(range(LPC_ORDER + 1), range(LPC_ORDER + 1)))]


def _predictor(matrices: np.ndarray) -> np.ndarray:
    """Return the prediction error filters [frames, order + 1], their first coefficient 1."""
    solved = np.linalg.solve(matrices[:, 1:, 1:], -matrices[:, 1:, :1])[..., 0]
    return np.insert(solved, 0, 1, -1)


def _band_filters() -> np.ndarray:
    """Return Gaussian filters [25, 512] over the bins of an FFT, of equal area, cut at -30 dB."""
    centres, widths = (values[:, None] / (SAMPLE_RATE / 2) * (FFT // 2) for values in (CENTRES, WIDTHS))
    filters = np.exp(-11 * ((np.arange(FFT // 2) - np.floor(centres)) / widths) ** 2) * WIDTHS[0] / WIDTHS[:, None]
    return np.where(filters > np.exp(-30 / (2 * 2.303)), filters, 0)


def _band_levels(frames: np.ndarray) -> np.ndarray:
    """Return levels in dB of the critical bands, [frames, 25]."""
    spectrum = np.fft.rfft(frames, FFT)[:, :-1]
    power = spectrum.real**2 + spectrum.imag**2
    return 10 * np.log10(np.maximum(power @ _band_filters().T, 1e-10))


def _peak_weight(levels: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return the weight of each slope [frames, 24]: large near the frame's highest band and near a local peak.

    The peak is searched uphill; as in composite.m, on a rising slope it is the last band before the top.
    """
    levels_below, top = levels[:, :-1], levels.max(-1, keepdims=True)
    peaks, rising = levels_below.copy(), slopes > 0
    for band in reversed(range(slopes.shape[-1] - 1)):
        goes_on = rising[:, band] & rising[:, band + 1]
        peaks[goes_on, band] = peaks[goes_on, band + 1]
    for band in range(1, slopes.shape[-1]):
        goes_on = ~rising[:, band] & ~rising[:, band - 1]
        peaks[goes_on, band] = peaks[goes_on, band - 1]
    return 20 / (20 + top - levels_below) * (1 / (1 + peaks - levels_below))
