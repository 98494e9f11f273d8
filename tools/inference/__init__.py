"""Enhancement of waveforms, sound files and live audio, and ONNX graphs.

from tools.inference import enhance
estimate = enhance(noisy, rate)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tools.common.errors import UserError
from tools.inference.graph_stream import Graph, packaged_graph
from tools.inference.signal_chain import BLOCK_SECONDS, EnhanceOptions, SignalChain, inspect

if TYPE_CHECKING:
    from torch import Tensor, nn

Audio = TypeVar("Audio", np.ndarray, "Tensor")


def enhance(audio: Audio, rate: int, model: nn.Module | Graph | None = None, **options: Any) -> Audio:
    """Return the enhanced waveform with the same shape, rate, type and device, without gradients.

    Args:
        audio: numpy array or tensor, [samples] or [channels, samples]; floating point, or integers of full scale.
        rate: In Hz.
        model: From `models.load_model`, in evaluation mode; left out: the packaged network.
        options: Fields of `EnhanceOptions`, such as limit_db=12.

    Raises UserError for other shapes or types, NaN, infinity, and options out of bounds.
    """
    chosen = EnhanceOptions(**options)
    signal, full_scale = _to_float(audio)
    model = packaged_graph() if model is None else model
    chain = SignalChain(model, rate, signal.shape[1], chosen, inspect([signal], rate))
    block = max(1, round(BLOCK_SECONDS * rate))
    estimates = [chain.push(signal[start : start + block]) for start in range(0, len(signal), block)]
    estimate = np.concatenate([*estimates, chain.finish()]).T.reshape(tuple(audio.shape))
    if full_scale > 1:
        estimate = np.clip(np.round(estimate * full_scale), -full_scale, full_scale - 1)
    if _is_tensor(audio):
        import torch

        return torch.from_numpy(np.ascontiguousarray(estimate)).to(audio.device, audio.dtype)
    return estimate.astype(audio.dtype)


def _is_tensor(audio: np.ndarray | Tensor) -> bool:
    return hasattr(audio, "detach")


def _to_float(audio: np.ndarray | Tensor) -> tuple[np.ndarray, float]:
    """Return float32 [samples, channels] and the full-scale value."""
    shape = tuple(audio.shape)
    if len(shape) not in (1, 2) or 0 in shape or (len(shape) == 2 and shape[0] > shape[1]):
        raise UserError(
            f"audio: found shape {list(shape)}, expected [samples] or [channels, samples]; soundfile reads "
            "[samples, channels]: give audio.T"
        )
    is_float_tensor = _is_tensor(audio) and audio.is_floating_point()
    array = np.asarray(audio.detach().cpu().float() if is_float_tensor else audio)
    if array.dtype.kind != "f" and array.dtype not in (np.int16, np.int32):
        raise UserError(f"audio: found {audio.dtype}, expected floating point, int16 or int32")
    full_scale = 1.0 if array.dtype.kind == "f" else -float(np.iinfo(array.dtype).min)
    return (array / full_scale).astype(np.float32).reshape(-1, shape[-1]).T, full_scale
