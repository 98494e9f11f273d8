"""Weights of the published FullSubNet code: its parameter names, and settings that follow from their shapes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

FULLSUBNET = [  # names there, and here
    ("fb_model.sequence_model.{item}", "full.{item}"),
    ("fb_model.fc_output_layer.{kind}", "full_linear.{kind}"),
    ("sb_model.sequence_model.{item}", "sub.{item}"),
    ("sb_model.fc_output_layer.{kind}", "sub_linear.{kind}"),
]


def fullsubnet_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the sizes of the LSTMs. Raises KeyError if a weight for one is missing."""
    parts = {"full_units": "fb_model", "sub_units": "sb_model"}
    return {name: state[f"{part}.sequence_model.weight_hh_l0"].shape[1] for name, part in parts.items()}
