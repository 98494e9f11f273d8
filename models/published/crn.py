"""Weights of the published CRN code: its parameter names, and the settings that follow from their shapes."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .renaming import bare_last_layer, to_theirs

_NAMES = [
    ("{side}.{n}.0.conv.{kind}", "{side}.{n}.conv.{kind}"),
    ("{side}.{n}.1.{item}", "{side}.{n}.norm.{item}"),
    ("{side}.{n}.2.weight", "{side}.{n}.activation.weight"),
    ("enhance.{item}", "recurrence.lstm.{item}"),
    ("tranform.{kind}", "recurrence.linear.{kind}"),  # spelt so there
]


def crn_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a `CRN` from one with the published names. Raises KeyError for unknown names."""
    return bare_last_layer(_NAMES, state, "CRN")


def crn_to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a `CRN` with the published names."""
    named = {re.sub(r"^(decoder\.\d+)\.(weight|bias)$", r"\1.conv.\2", name): w for name, w in state.items()}
    return to_theirs(_NAMES, named, "CRN")


def crn_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings of `CRN` without the mask. Raises KeyError if a weight for one is missing."""
    encoders = sorted(int(m[1]) for name in state if (m := re.fullmatch(r"encoder\.(\d+)\.0\.conv\.weight", name)))
    kernel_num = tuple(2 * state[f"encoder.{n}.0.conv.weight"].shape[0] for n in encoders)
    return {
        "kernel_num": kernel_num,
        "rnn_units": 2 * state["enhance.weight_hh_l0"].shape[1],
        "rnn_layers": sum(name.startswith("enhance.weight_hh_l") for name in state),
        "skip": 2 * state["decoder.0.0.conv.weight"].shape[0] != kernel_num[-1],
    }
