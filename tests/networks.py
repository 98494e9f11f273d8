"""Networks that several test files need: small ones, and the published ones with their weights."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch

from config import Config
from models import DCCRN

REFERENCE = np.load(Path(__file__).with_name("reference_dccrn.npz"))
SMALL = {"kernel_num": (4, 8, 8, 16, 16, 16), "rnn_units": 16}
VARIANTS = {  # estimate in the reference: its weights, its settings
    "E": ("batch_norm", {}),
    "C": ("batch_norm", {"mask": "C"}),
    "R": ("batch_norm", {"mask": "R"}),
    "E_real_lstm": ("real_lstm", {"lstm": "real"}),
    "E_complex_bn": ("complex_bn", {"norm": "complex"}),
}
ALL_SETTINGS = [
    {"mask": mask, "lstm": lstm, "norm": norm, "skip": skip}
    for mask, lstm, norm, skip in itertools.product(
        ("E", "C", "R", "none"), ("complex", "real"), ("batch", "complex"), (True, False)
    )
]


def reference_weights(variant: str) -> dict[str, torch.Tensor]:
    """With upstream's parameter names."""
    prefix = f"{VARIANTS[variant][0]}/"
    names = [name for name in REFERENCE.files if name.startswith(prefix)]
    return {name.removeprefix(prefix): torch.from_numpy(REFERENCE[name]) for name in names}


def trained_like(**options) -> DCCRN:
    """A network far from passing its input through, with norms that have seen signals."""
    torch.manual_seed(0)
    model = DCCRN(**SMALL, **options)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.1)
    with torch.no_grad():
        model(torch.randn(4, 4000) * 0.1)
    return model.eval()


def save_checkpoint(model: DCCRN, path: Path, **settings) -> Path:
    """As train.py does; the settings are those of the model, unless they are to lie."""
    torch.save({"config": Config(**settings).to_dict(), "model": model.state_dict(), "epoch": 1}, path)
    return path
