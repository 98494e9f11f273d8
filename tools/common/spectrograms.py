"""Spectrograms of speech: levels in dB, drawn as pixels or on a panel of a figure."""

from collections.abc import Iterable

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from scipy import signal

from config import SAMPLE_RATE

DYNAMIC_RANGE = 70  # dB below the loudest point that are shown
GAP = 6  # pixels between two spectrograms


def spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Return levels in dB, [257 bins, frames], of 32 ms Hann windows every 10 ms."""
    window = signal.windows.hann(512, sym=False)
    padded = np.pad(waveform.astype(np.float64), (256, 256))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 512)[::160] * window
    return 20 * np.log10(np.abs(np.fft.rfft(frames)).T / window.sum() + 1e-7)


def draw_spectrograms(waveforms: Iterable[np.ndarray]) -> np.ndarray:
    """Return spectrograms side by side, [257 bins, pixels, 3], 0 … 255, on one scale; 10 ms a pixel, 8 kHz on top.

    A figure with axes takes a second to draw, too long for every epoch of a training.
    """
    levels = [spectrogram(waveform) for waveform in waveforms]  # each [257, frames]
    gap = np.full((levels[0].shape[0], GAP), np.inf)
    joined = np.concatenate([piece for level in levels for piece in (gap, level)][1:], axis=1)
    top = max(level.max() for level in levels)
    colours = colormaps["magma"](np.clip(1 + (joined - top) / DYNAMIC_RANGE, 0, 1))[::-1, :, :3]
    return (255 * colours).astype(np.uint8)


def show_spectrogram(panel: Axes, levels: np.ndarray, seconds: float, top: float) -> AxesImage:
    """Draw levels [bins, frames] in dB, over the dynamic range below `top`."""
    return panel.imshow(
        levels,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, SAMPLE_RATE / 2000),
        vmin=top - DYNAMIC_RANGE,
        vmax=top,
        cmap="magma",
    )
