"""Networks that several test files need: small ones, and the published ones with their weights."""

import itertools
from pathlib import Path

import numpy as np
import torch

from config import Config
from models import build_model

REFERENCE = np.load(Path(__file__).with_name("reference_dccrn.npz"))
SMALL = {"kernel_num": (4, 8, 8, 16, 16, 16), "rnn_units": 16}
# Small ones of every kind, by the settings that make them small.
SMALL_NETWORKS = {
    "DCCRN": SMALL,
    "CRN": SMALL,
    "CRN without skips": {**SMALL, "skip": False, "rnn_layers": 2},
    "CRN direct": {**SMALL, "mask": "none"},
    "FullSubNet": {"full_units": 8, "sub_units": 8},
    "FullSubNet cumulative": {"full_units": 8, "sub_units": 8, "normalisation": "cumulative"},
    "DCUNET": {"kernel_num": (4, 4, 4, 4, 4), "layers": 10},
    "DCUNET of Hu et al.": {"kernel_num": (4,) * 8, "norm": "complex", "layers": 16, "time_stride": 1},
    "GTCRN": {},
    "GTCRN deep": {"channels": 8, "recurrences": 3},
}
STREAMING = {  # latency in samples
    "DCCRN": 1000,
    "CRN": 1000,
    "CRN without skips": 1000,
    "CRN direct": 1000,
    "FullSubNet cumulative": 1024,
    "GTCRN": 512,
    "GTCRN deep": 512,
}
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


def weights_in(file: np.lib.npyio.NpzFile, prefix: str) -> dict[str, torch.Tensor]:
    """With the published names."""
    return {n.removeprefix(prefix): torch.from_numpy(file[n]) for n in file.files if n.startswith(prefix)}


def reference_weights(variant: str) -> dict[str, torch.Tensor]:
    return weights_in(REFERENCE, f"{VARIANTS[variant][0]}/")


@torch.no_grad()
def offline(model: torch.nn.Module, noisy: np.ndarray) -> np.ndarray:
    """The estimate of the whole [samples]."""
    return model(torch.from_numpy(noisy)[None])[0].numpy()


def small(name: str = "DCCRN", **options) -> torch.nn.Module:
    return build_model(Config(model=name.split()[0], network=SMALL_NETWORKS[name] | options))


def small_settings(name: str) -> dict[str, object]:
    return {"model": name.split()[0], "network": SMALL_NETWORKS[name]}


def trained_like(name: str = "DCCRN", **options) -> torch.nn.Module:
    """A network far from passing its input through, with norms that have seen signals."""
    torch.manual_seed(0)
    model = small(name, **options)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.1)
    with torch.no_grad():
        model(torch.randn(4, 4000) * 0.1)
    return model.eval()


def save_checkpoint(model: torch.nn.Module, path: Path, /, **settings) -> Path:
    """As train.py does; the settings are those of the model, unless they are to lie."""
    torch.save({"config": Config.from_dict(settings).to_dict(), "model": model.state_dict(), "epoch": 1}, path)
    return path


def passing():
    """A network that passes its input through, by mask C with the value 1."""
    model = trained_like(mask="C")
    last = model.decoder[-1]
    with torch.no_grad():
        for weight, value in ((last.weight_real, 0), (last.weight_imag, 0), (last.bias_real, 0.5)):
            weight.fill_(value)
        last.bias_imag.fill_(-0.5)
    return model
