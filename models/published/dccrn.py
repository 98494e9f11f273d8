"""Weights of the published DCCRN code: parameter names, fixed transforms, settings that follow from shapes."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .renaming import bare_last_layer, to_theirs

# (upstream's name, ours). Layers with batch norm and PReLU are numbered 0 conv, 1 norm, 2 PReLU.
_NAMES = [
    ("{side}.{n}.0.{part}_conv.{kind}", "{side}.{n}.conv.{kind}_{part}"),
    ("{side}.{n}.1.{item}", "{side}.{n}.norm.{item}"),
    ("{side}.{n}.2.weight", "{side}.{n}.activation.weight"),
    ("enhance.{n}.{part}_lstm.{item}", "recurrence.layers.{n}.{part}_lstm.{item}"),
    ("enhance.{n}.r_trans.{kind}", "recurrence.layers.{n}.real_linear.{kind}"),
    ("enhance.{n}.i_trans.{kind}", "recurrence.layers.{n}.imag_linear.{kind}"),
    ("enhance.{item}", "recurrence.lstm.{item}"),
    ("tranform.{kind}", "recurrence.linear.{kind}"),  # spelt so upstream
]
# Complex batch norm: vectors upstream, rows of one tensor here.
_ROWS = {
    "weight": ("Wrr", "Wri", "Wii"),
    "bias": ("Br", "Bi"),
    "running_mean": ("RMr", "RMi"),
    "running_cov": ("RVrr", "RVri", "RVii"),
}
_WINDOW, _FFT = 400, 512


def from_upstream(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a `DCCRN` from one with upstream's parameter names.

    The transforms' fixed kernels (stft., istft.) are left out. Raises KeyError with unknown names, or a missing
    one.
    """
    renamed = bare_last_layer(_NAMES, state, "DCCRN")
    for prefix in {name.removesuffix("Wrr") for name in renamed if name.endswith(".Wrr")}:
        for ours, rows in _ROWS.items():
            renamed[prefix + ours] = torch.stack([renamed.pop(prefix + row) for row in rows])
    return renamed


def to_upstream(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a `DCCRN` with upstream's parameter names, and upstream's fixed transforms."""
    ours = {}
    for name, tensor in state.items():
        name = re.sub(r"^(decoder\.\d+)\.(weight|bias)_", r"\1.conv.\2_", name)  # the last layer has no norm
        prefix, _, item = name.rpartition(".")
        rows = _ROWS.get(item, ()) if f"{prefix}.running_cov" in state else ()
        if rows:
            ours |= {f"{prefix}.{row}": vector.clone() for row, vector in zip(rows, tensor, strict=True)}
        else:
            ours[name] = tensor
    return upstream_transforms() | to_theirs(_NAMES, ours, "DCCRN")


def upstream_transforms() -> dict[str, Tensor]:
    """Return the kernels of upstream's transforms, which it stores with the weights."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)  # periodic Hann
    basis = np.fft.rfft(np.eye(_FFT))[:_WINDOW]
    kernel = np.concatenate([basis.real, basis.imag], 1)  # [window, 2 * bins]
    arrays = {
        "stft.weight": (kernel.T * window)[:, None],
        "istft.weight": (np.linalg.pinv(kernel) * window)[:, None],
        "istft.window": window[None, :, None],
        "istft.enframe": np.eye(_WINDOW)[:, None],
    }
    return {name: torch.from_numpy(np.ascontiguousarray(a, np.float32)) for name, a in arrays.items()}


def infer_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings of `DCCRN` (without the mask, which has no weights) for weights with upstream's names.

    Raises KeyError if a weight for a setting is missing.
    """
    encoders = sorted(
        int(m[1]) for name in state if (m := re.fullmatch(r"encoder\.(\d+)\.0\.real_conv\.weight", name))
    )
    kernel_num = tuple(2 * state[f"encoder.{n}.0.real_conv.weight"].shape[0] for n in encoders)
    if not kernel_num:
        raise KeyError("encoder.0.0.real_conv.weight")
    is_complex = "enhance.0.real_lstm.weight_hh_l0" in state
    layers = r"enhance\.\d+\.real_lstm\.weight_hh_l0" if is_complex else r"enhance\.weight_hh_l\d+"
    first = state["enhance.0.real_lstm.weight_hh_l0" if is_complex else "enhance.weight_hh_l0"]
    return {
        "kernel_num": kernel_num,
        "rnn_units": first.shape[1] * (2 if is_complex else 1),
        "rnn_layers": sum(re.fullmatch(layers, name) is not None for name in state),
        "lstm": "complex" if is_complex else "real",
        "norm": "complex" if "encoder.0.1.Wrr" in state else "batch",
        "skip": state["decoder.0.0.real_conv.weight"].shape[0] == kernel_num[-1],
    }
