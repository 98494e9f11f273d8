"""Losses: (estimate, clean) in, one value an utterance out."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Literal

from .combined import CombinedLoss
from .coupling import paper_weights
from .registry import TERMS, LossError, LossTerm, known_losses, register

__all__ = ["TERMS", "CombinedLoss", "LossError", "LossTerm", "build_loss", "known_losses", "register"]

# Every file of this folder is imported, so that a new term is one new file.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def build_loss(name: str, coupling: Literal["paper"] | Sequence[float] = "paper") -> CombinedLoss:
    """The loss called `name`: registered terms joined by "+", such as "SI-SNR+LMS".

    coupling: "paper" for the published weights, or one positive number a term. Raises LossError.
    """
    names = name.split("+")
    for term in names:
        if term not in TERMS:
            raise LossError(
                f"loss: found {name!r}, but there is no {term!r}; known losses: {', '.join(known_losses())}"
            )
    if len(set(names)) < len(names):
        raise LossError(f"loss: found {name!r}, expected every term once")
    weights = paper_weights(names) if coupling == "paper" else tuple(coupling)
    if len(weights) != len(names):
        raise LossError(f"coupling: found {len(weights)} numbers for {name}, expected {len(names)}, one a term")
    return CombinedLoss({term: TERMS[term]() for term in names}, dict(zip(names, weights, strict=True)))
