"""Weights of the published code of the networks: how to recognise them, and their names there and here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from .crn import crn_from_published, crn_settings, crn_to_published
from .dccrn import from_upstream, infer_settings, to_upstream, upstream_transforms
from .fullsubnet import FULLSUBNET, fullsubnet_settings
from .gtcrn import gtcrn_bands, gtcrn_from_published, gtcrn_to_published
from .renaming import to_ours, to_theirs

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """A network's published code.

    mark: a parameter name that only this code has.
    settings: the settings that follow from the shapes of the weights.
    to_ours, to_theirs: translate state dicts; both raise KeyError for unknown names.
    unread: the settings that do not follow from the weights, with their allowed values.
    constants: tensors that it saves with the weights.
    has: whether the published code can compute a network.
    """

    mark: str
    settings: Callable[[State], dict[str, Any]]
    to_ours: Callable[[State], dict[str, Tensor]]
    to_theirs: Callable[[State], dict[str, Tensor]]
    unread: Mapping[str, tuple[str, ...]]
    constants: Callable[[], dict[str, Tensor]] = dict
    has: Callable[[nn.Module], bool] = lambda model: True


PUBLISHED = {
    "DCCRN": Published(
        "encoder.0.0.real_conv.weight",
        infer_settings,
        from_upstream,
        to_upstream,
        {"mask": ("E", "C", "R")},
        upstream_transforms,
        lambda model: model.mask != "none" and model.skip,
    ),
    "CRN": Published(
        "encoder.0.0.conv.weight",
        crn_settings,
        crn_from_published,
        crn_to_published,
        {"mask": ("E", "none")},
        has=lambda model: model.skip,
    ),
    "FullSubNet": Published(
        "fb_model.sequence_model.weight_ih_l0",
        fullsubnet_settings,
        partial(to_ours, FULLSUBNET, network="FullSubNet"),
        partial(to_theirs, FULLSUBNET, network="FullSubNet"),
        {"level": ("offline", "cumulative")},
    ),
    "GTCRN": Published(
        "encoder.en_convs.0.conv.weight",
        lambda state: {"channels": state["encoder.en_convs.0.conv.weight"].shape[0]},
        gtcrn_from_published,
        gtcrn_to_published,
        {},
        gtcrn_bands,
    ),
}


def recognise(state: State) -> str | None:
    """Return the name of the network whose published code saved this state dict, or None."""
    return next((name for name, code in PUBLISHED.items() if code.mark in state), None)
