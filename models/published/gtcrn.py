"""Weights of the published GTCRN code: its parameter names and layouts, in both directions."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..gtcrn import erb_bands

PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BLOCK = {"point_conv1": "widen.0", "point_bn1": "widen.1", "point_act": "widen.2", "depth_conv": "depth.0",
         "depth_bn": "depth.1", "depth_act": "depth.2", "point_conv2": "narrow.0", "point_bn2": "narrow.1",
         "tra.att_gru": "attention", "tra.att_fc": "gate"}  # fmt: skip
PLAIN = {"conv": "0", "bn": "1", "act": "2"}


class _Change(NamedTuple):
    """How to convert a tensor from the published layout, and back."""

    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


SAME = _Change(lambda w: w, lambda w: w)
# There, neighbouring bins are stacked as channels of a 1 x 1 convolution; here its kernel spans three bins.
NEIGHBOURS = _Change(
    lambda w: w.reshape(w.shape[0], -1, 3)[:, :, None], lambda w: w.reshape(w.shape[0], -1)[:, :, None, None]
)
# Transposed convolutions of stride 1 there are convolutions with a flipped kernel here.
TURNED = _Change(lambda w: w.flip(2, 3), lambda w: w.flip(2, 3))
SWAPPED = _Change(lambda w: w.transpose(0, 1), lambda w: w.transpose(0, 1))
SWAPPED_NEIGHBOURS = _Change(
    lambda w: NEIGHBOURS.there(w.transpose(0, 1)), lambda w: NEIGHBOURS.back(w).transpose(0, 1)
)


def gtcrn_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a `GTCRN` from one with the published names. Raises KeyError for a missing name."""
    state = {k: v for k, v in state.items() if not k.startswith("erb.")}
    result = {ours: change.there(state[theirs]).clone() for ours, (theirs, change) in _tensors().items()}
    for ours, parts in _recurrences().items():
        result[ours] = torch.stack([state[part] for part in parts])
    known = {theirs for theirs, _ in _tensors().values()} | {p for parts in _recurrences().values() for p in parts}
    if unknown := sorted(set(state) - known):
        raise KeyError(f"{', '.join(unknown)}: no parameters of the published GTCRN")
    return result


def gtcrn_to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a `GTCRN` with the published names, and the fixed filter bank."""
    result = gtcrn_bands()
    for ours, (theirs, change) in _tensors().items():
        result[theirs] = change.back(state[ours]).contiguous()
    for ours, parts in _recurrences().items():
        result |= {part: block.clone() for part, block in zip(parts, state[ours], strict=True)}
    return result


def gtcrn_bands() -> dict[str, Tensor]:
    """Return the fixed filter bank and its transpose, which the published code saves."""
    bands = erb_bands()
    return {"erb.erb_fc.weight": bands, "erb.ierb_fc.weight": bands.T.contiguous()}


def _tensors() -> dict[str, tuple[str, _Change]]:
    """Return the published name and the conversion of the tensor for each of our names."""
    names = {}
    for side, theirs in (("encoder", "encoder.en_convs"), ("decoder", "decoder.de_convs")):
        for n in range(5):
            block = n >= 2 if side == "encoder" else n < 3
            for part, ours in (BLOCK if block else PLAIN).items():
                for item in _items(part, last=side == "decoder" and n == 4):
                    change = _change(side, part, item) if block else SAME
                    names[f"{side}.{n}.{ours}.{item}"] = f"{theirs}.{n}.{part}.{item}", change
    for n in range(2):
        for place, path in enumerate(("intra", "inter")):
            for item in ("weight", "bias"):
                names[f"recurrences.{n}.linears.{place}.{item}"] = f"dpgrnn{n + 1}.{path}_fc.{item}", SAME
                names[f"recurrences.{n}.norms.{place}.{item}"] = f"dpgrnn{n + 1}.{path}_ln.{item}", SAME
    return names


def _items(part: str, last: bool) -> tuple[str, ...]:
    if re.search(r"bn\d?$", part):
        return NORM
    if part.endswith("gru"):
        return tuple(f"{kind}_l0" for kind in PARTS)
    if part.endswith("act"):
        return () if last else ("weight",)
    return ("weight", "bias")


def _change(side: str, part: str, item: str) -> _Change:
    if item != "weight" or "conv" not in part:
        return SAME
    if part == "point_conv1":
        return NEIGHBOURS if side == "encoder" else SWAPPED_NEIGHBOURS
    if side == "encoder":
        return SAME
    return TURNED if part == "depth_conv" else SWAPPED


def _recurrences() -> dict[str, list[str]]:
    """Return the published names of each of our stacked tensors, by direction, then by group."""
    names = {}
    for n in range(2):
        for path, ours, ends in (("intra", "over_bins", ("", "_reverse")), ("inter", "over_frames", ("",))):
            for kind in PARTS:
                names[f"recurrences.{n}.{ours}.{kind}"] = [
                    f"dpgrnn{n + 1}.{path}_rnn.rnn{group}.{kind}_l0{end}" for end in ends for group in (1, 2)
                ]
    return names
