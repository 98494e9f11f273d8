"""Weights that the published code of a network saved, converted to the names and layouts of the network here.

Sources: DCCRN, Hu et al., arXiv 2008.00264, and the code of Hwang et al. 2021; CRN,
github.com/seorim0/DNN-based-Speech-Enhancement-in-the-frequency-domain; FullSubNet, Hao et al., arXiv 2010.15508;
GTCRN, Rong et al., ICASSP 2024.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.common.errors import UserError

from .. import load_tensors
from ..gtcrn import erb_bands
from ..stft import STFT

# A weight that only this network's published code has.
MARKS = {
    "DCCRN": "encoder.0.0.real_conv.weight",
    "CRN": "encoder.0.0.conv.weight",
    "FullSubNet": "fb_model.sequence_model.weight_ih_l0",
    "GTCRN": "encoder.en_convs.0.conv.weight",
}
# Settings that do not follow from the weights, with the values that the published code has.
CHOICES = {
    "DCCRN": {"mask": ("E", "C", "R")},
    "CRN": {"mask": ("E", "none")},
    "FullSubNet": {"normalisation": ("offline", "cumulative")},
    "GTCRN": {},
}
FIXED = ("stft.", "istft.", "erb.")  # transforms and filter banks, which the published code saves with the weights
# Published names and ours: regular expressions, replaced in turn.
NAMES = [
    (r"^(encoder|decoder)\.(\d+)\.0\.(real|imag)_conv\.(\w+)$", r"\1.\2.conv.\4_\3"),
    (r"^(encoder|decoder)\.(\d+)\.0\.conv\.", r"\1.\2.conv."),
    (r"^(encoder|decoder)\.(\d+)\.1\.", r"\1.\2.norm."),
    (r"^(encoder|decoder)\.(\d+)\.2\.", r"\1.\2.activation."),
    (r"^enhance\.(\d+)\.", r"recurrence.layers.\1."),
    (r"\.r_trans\.", ".real_linear."),
    (r"\.i_trans\.", ".imag_linear."),
    (r"^enhance\.", "recurrence.lstm."),
    (r"^tranform\.", "recurrence.linear."),  # spelt so there
    (r"^fb_model\.sequence_model\.", "full."),
    (r"^fb_model\.fc_output_layer\.", "full_linear."),
    (r"^sb_model\.sequence_model\.", "sub."),
    (r"^sb_model\.fc_output_layer\.", "sub_linear."),
]
GTCRN_NAMES = [
    (r"^encoder\.en_convs\.", "encoder."),
    (r"^decoder\.de_convs\.", "decoder."),
    (r"\.point_(conv|bn|act)1?\.", r".widen.\1."),
    (r"\.point_(conv|bn)2\.", r".narrow.\1."),
    (r"\.depth_(conv|bn|act)\.", r".depth.\1."),
    (r"\.conv\.", ".0."),
    (r"\.bn\.", ".1."),
    (r"\.act\.", ".2."),
    (r"\.tra\.att_gru\.", ".attention."),
    (r"\.tra\.att_fc\.", ".gate."),
    (r"^dpgrnn1\.", "recurrences.0."),
    (r"^dpgrnn2\.", "recurrences.1."),
    (r"\.intra_fc\.", ".linears.0."),
    (r"\.inter_fc\.", ".linears.1."),
    (r"\.intra_ln\.", ".norms.0."),
    (r"\.inter_ln\.", ".norms.1."),
    (r"\.intra_rnn\.", ".over_bins."),
    (r"\.inter_rnn\.", ".over_frames."),
]
# Complex batch norm: vectors there, rows of one tensor here.
NORM_ROWS = {
    "weight": ("Wrr", "Wri", "Wii"),
    "bias": ("Br", "Bi"),
    "running_mean": ("RMr", "RMi"),
    "running_cov": ("RVrr", "RVri", "RVii"),
}


def read_published(path: Path, **given: str | None) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Return the network that published weights belong to, its settings, and its state dict here.

    path: a state dict that torch.save wrote, bare or under "model".
    given: the settings that do not follow from the weights (`CHOICES`), others None.
    Raises UserError for weights of no known network or of another transform, and settings that do not match.
    """
    content = load_tensors(path)
    content = content.get("model", content) if isinstance(content, dict) else {}
    state = {name.removeprefix("module."): w for name, w in content.items() if isinstance(w, Tensor)}
    network = next((name for name, mark in MARKS.items() if mark in state), None)
    if network is None:
        marks = ", ".join(f"{mark} ({name})" for name, mark in MARKS.items())
        raise UserError(f"{path}: found weights of no network known here, expected one called one of {marks}")
    for name, value in given.items():
        choices = CHOICES[network].get(name, (None,))
        if value not in choices:
            raise UserError(f"{name}: found {value}, expected one of {', '.join(map(str, choices))} for {network}")
    for name, tensor in fixed_tensors().items():
        found = state.get(name, tensor)
        if found.shape != tensor.shape or not torch.allclose(found, tensor, atol=1e-4):
            raise UserError(f"{path}: found {name} of another transform than that of {network} here")
    weights = convert(network, state)
    try:
        settings = read_sizes(network, weights)
    except (KeyError, IndexError) as error:
        raise UserError(f"{path}: lacks weights of {network} ({error})") from None
    return network, settings | {name: value for name, value in given.items() if value is not None}, weights


def fixed_tensors() -> dict[str, Tensor]:
    """Return what published code saves of the transforms here, to recognise others by."""
    spectra = torch.fft.rfft(torch.diag(STFT().hann), STFT.fft)  # [window, bins]
    kernel = torch.cat([spectra.real, spectra.imag], 1).T[:, None]  # [2 * bins, 1, window]
    return {"erb.erb_fc.weight": erb_bands(), "stft.weight": kernel}


def convert(network: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published state dict with our names and layouts, without fixed tensors; unknown names stay."""
    names = GTCRN_NAMES if network == "GTCRN" else NAMES
    weights = {}
    for name, tensor in state.items():
        if not name.startswith(FIXED):
            for pattern, ours in names:
                name = re.sub(pattern, ours, name)
            weights[name] = tensor
    return _convert_gtcrn(weights) if network == "GTCRN" else _convert_layers(weights)


def _convert_layers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert encoders and decoders: the last layer has no norm, and complex norms have matrices of vectors."""
    last = max((int(name.split(".")[1]) for name in weights if name.startswith("decoder.")), default=0)
    weights = {name.replace(f"decoder.{last}.conv.", f"decoder.{last}."): w for name, w in weights.items()}
    for prefix in [name.removesuffix("Wrr") for name in weights if name.endswith(".Wrr")]:
        for ours, rows in NORM_ROWS.items():
            weights[prefix + ours] = torch.stack([weights.pop(prefix + row) for row in rows])
    return weights


def _convert_gtcrn(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert convolutions, of which the decoder's are transposed there, and the groups of the GRUs."""
    for name, w in weights.items():
        if name.startswith("decoder.") and re.search(r"(widen|narrow)\.0\.weight$", name):
            w = w.transpose(0, 1)
        if name.endswith("widen.0.weight"):
            w = w.reshape(w.shape[0], -1, 1, 3)  # neighbouring bins are stacked as channels there
        if name.startswith("decoder.") and name.endswith("depth.0.weight"):
            w = w.flip(2, 3)
        weights[name] = w.contiguous()
    for name in [name for name in weights if re.search(r"\.rnn1\..*_l0$", name)]:
        directions = [name + end for end in ("", "_reverse") if name + end in weights]
        groups = [one.replace("rnn1", group) for one in directions for group in ("rnn1", "rnn2")]
        stacked = torch.stack([weights.pop(group) for group in groups])
        weights[name.replace("rnn1.", "").removesuffix("_l0")] = stacked
    return weights


def read_sizes(network: str, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings that follow from the shapes of weights with our names."""
    if network == "GTCRN":
        return {"channels": weights["encoder.0.0.weight"].shape[0]}
    if network == "FullSubNet":
        return {f"{part}_units": weights[f"{part}.weight_hh_l0"].shape[1] for part in ("full", "sub")}
    kernels = [w for name, w in weights.items() if re.fullmatch(r"encoder\.\d+\.conv\.weight(_real)?", name)]
    hidden = [w for name, w in weights.items() if re.search(r"(real_|\.)lstm\.weight_hh_l\d+$", name)]
    sizes = {
        "kernel_num": tuple(2 * w.shape[0] for w in kernels),  # both parts; CRN's settings count as DCCRN's
        "rnn_units": 2 * hidden[0].shape[1],
        "rnn_layers": len(hidden),
    }
    if network == "CRN":
        return sizes
    if "recurrence.lstm.weight_hh_l0" in weights:
        sizes |= {"lstm": "real", "rnn_units": hidden[0].shape[1]}
    return sizes | {"norm": "complex" if "encoder.0.norm.running_cov" in weights else "batch"}
