"""Enhancement of waveforms in memory, from Python."""

from typing import TypeVar

import numpy as np
import torch
from torch import nn

from models import load_pretrained
from tools.common.errors import UserError
from tools.inference.high_band import HighBandWay
from tools.inference.signal_chain import Kept, SignalChain

Audio = TypeVar("Audio", np.ndarray, torch.Tensor)
BLOCK_SECONDS = 1.0
MOST_CHANNELS = 1024


def enhance(
    audio: Audio,
    rate: int,
    model: nn.Module | None = None,
    *,
    mix: float = 0.0,
    limit_db: float | None = None,
    highband: HighBandWay = "follow",
) -> Audio:
    """Return the enhanced waveform with the same shape, rate, type and device, without gradients.

    Args:
        audio: numpy array or tensor, [samples] or [channels, samples]; floating point, or integers of full scale.
        rate: In Hz.
        model: From `models.load_model`, in evaluation mode; left out: the packaged network.
        mix: Share of the noisy signal in the output, 0 to 1.
        limit_db: Largest attenuation of a cell of the spectrum; None for no limit.
        highband: The band above 8 kHz: follow the network's gain below, keep, or drop.

    Raises UserError for other shapes or types, no samples, NaN, infinity, values out of bounds.
    """
    kept = Kept(mix, limit_db, highband)
    signal, full_scale = _to_float(audio)
    model = load_pretrained() if model is None else model
    if not isinstance(model, nn.Module):
        raise UserError(f"model: found {type(model).__name__}, expected a network from models.load_model")
    peak = float(np.abs(signal).max())
    chain = SignalChain(model, rate, signal.shape[1], kept, peak)
    block = max(1, round(BLOCK_SECONDS * rate))
    pieces = [chain.push(signal[start : start + block]) for start in range(0, len(signal), block)]
    estimate = np.concatenate([*pieces, chain.finish()]).T.reshape(tuple(audio.shape))
    if full_scale > 1:
        estimate = np.clip(np.round(estimate * full_scale), -full_scale, full_scale - 1)
    if isinstance(audio, torch.Tensor):
        return torch.from_numpy(np.ascontiguousarray(estimate)).to(audio.device, audio.dtype)
    return estimate.astype(audio.dtype)


def _to_float(audio: np.ndarray | torch.Tensor) -> tuple[np.ndarray, float]:
    """Return float32 [samples, channels] and the full-scale value."""
    if not isinstance(audio, (np.ndarray, torch.Tensor)):
        raise UserError(f"audio: found {type(audio).__name__}, expected a numpy array or a tensor")
    shape = tuple(audio.shape)
    if len(shape) not in (1, 2) or 0 in shape:
        raise UserError(
            f"audio: found shape {list(shape)}, expected [samples] or [channels, samples], one or more"
        )
    if len(shape) == 2 and shape[0] > min(shape[1], MOST_CHANNELS):
        raise UserError(
            f"audio: found {shape[0]} channels of {shape[1]} samples, expected [channels, samples]; soundfile "
            "reads [samples, channels]: give audio.T"
        )
    array = audio.detach().cpu() if isinstance(audio, torch.Tensor) else audio
    array = array.float().numpy() if isinstance(array, torch.Tensor) and array.is_floating_point() else array
    array = np.asarray(array)
    full_scale = 1.0
    if array.dtype in (np.int16, np.int32):
        full_scale = -float(np.iinfo(array.dtype).min)
    elif array.dtype.kind != "f":
        raise UserError(f"audio: found {audio.dtype}, expected floating point, int16 or int32")
    signal = (array / full_scale).astype(np.float32)
    if not np.isfinite(signal).all():
        raise UserError("audio: found NaN or infinity among its samples, expected finite numbers")
    return signal.reshape(-1, shape[-1]).T, full_scale
