"""Losses: (estimate, clean) in, one value an utterance out."""

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Literal

from tools.common.errors import UserError

from .combined import Balancer, CombinedLoss
from .names import balanced_shares, fixed_weights, parse_loss
from .registry import TERMS, LossTerm, register

__all__ = ["TERMS", "CombinedLoss", "LossTerm", "build_loss", "register"]

for file in pkgutil.iter_modules(__path__):  # all files, so that a new term is one new file
    importlib.import_module(f"{__name__}.{file.name}")


def build_loss(
    name: str, coupling: Literal["paper", "balanced"] | Sequence[float] = "paper", balance: float = 1.0
) -> CombinedLoss:
    """Return the loss called `name`: registered terms joined by "+", or a published combination, such as "GTCRN".

    Examples: "SI-SNR+LMS", "SI-SNR+0.3*MR-STFT".
    Numbers in the name are weights of their terms (default 1); then leave `coupling` at its default.
    coupling: "paper" for the published weights, one positive number a term, or "balanced": each base term gets
        `balance` times the influence of a perceptual one, measured in training (see Balancer).
    All weights are divided by their sum. Raises UserError.
    """
    numbers = parse_loss(name)
    if coupling != "paper" and any(number is not None for number in numbers.values()):
        raise UserError(
            f"coupling: found {coupling}, but the weights stand in the loss's name, {name}; leave one of them out"
        )
    if coupling == "balanced":
        weights = Balancer(balanced_shares(list(numbers), balance))
    else:
        weights = fixed_weights(numbers, coupling)
    return CombinedLoss({term: TERMS[term]() for term in numbers}, weights)
