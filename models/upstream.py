"""Parameter names of the published DCCRN code, translated to this project's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# (upstream's name, ours), tried in turn. Layers with batch norm and PReLU are numbered 0 conv, 1 norm, 2 PReLU.
_RENAMES = [
    (r"decoder\.(\d+)\.0\.(real|imag)_conv\.(weight|bias)", r"decoder.\1.conv.\3_\2"),
    (r"encoder\.(\d+)\.0\.(real|imag)_conv\.(weight|bias)", r"encoder.\1.conv.\3_\2"),
    (r"(encoder|decoder)\.(\d+)\.1\.(\w+)", r"\1.\2.norm.\3"),
    (r"(encoder|decoder)\.(\d+)\.2\.weight", r"\1.\2.activation.weight"),
    (r"enhance\.(\d+)\.(real|imag)_lstm\.(\w+)", r"recurrence.layers.\1.\2_lstm.\3"),
    (r"enhance\.(\d+)\.r_trans\.(\w+)", r"recurrence.layers.\1.real_linear.\2"),
    (r"enhance\.(\d+)\.i_trans\.(\w+)", r"recurrence.layers.\1.imag_linear.\2"),
    (r"enhance\.((?:weight|bias)_\w+)", r"recurrence.lstm.\1"),
    (r"tranform\.(\w+)", r"recurrence.linear.\1"),  # spelt so upstream
]
# Complex batch norm: vectors upstream, rows of one tensor here.
_ROWS = {
    "weight": ("Wrr", "Wri", "Wii"),
    "bias": ("Br", "Bi"),
    "running_mean": ("RMr", "RMi"),
    "running_cov": ("RVrr", "RVri", "RVii"),
}


def from_upstream(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict with upstream's parameter names to one that `DCCRN.load_state_dict` takes.

    The transforms' fixed kernels (stft., istft.) are left out. Raises KeyError for a name that upstream's DCCRN
    does not have.
    """
    last = max(int(name.split(".")[1]) for name in state if name.startswith("decoder."))
    renamed = {
        _rename(name).replace(f"decoder.{last}.conv.", f"decoder.{last}."): tensor
        for name, tensor in state.items()
        if not name.startswith(("stft.", "istft."))
    }
    for prefix in {name.removesuffix("Wrr") for name in renamed if name.endswith(".Wrr")}:
        for ours, rows in _ROWS.items():
            renamed[prefix + ours] = torch.stack([renamed.pop(prefix + row) for row in rows])
    return renamed


def _rename(name: str) -> str:
    for pattern, ours in _RENAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    raise KeyError(f"{name}: not a parameter of upstream's DCCRN")
