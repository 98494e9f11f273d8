"""The grammar of a loss's name: terms joined by "+", each with a number before it or none."""

import math
from typing import NamedTuple

from tools.common.errors import UserError

from .registry import TERMS, known_terms


class Combination(NamedTuple):
    """Terms that were published together, with their weights, and by whom."""

    loss: str
    source: str


COMBINATIONS = {
    # Their SI-SNR keeps the means, as SI-SDR does, and is a bare logarithm: a tenth of the decibels.
    "GTCRN": Combination("30*compressed-complex+70*compressed-magnitude+0.1*SI-SDR", 'Rong et al. 2024 ("GTCRN")')
}


def parse_loss(name: str) -> dict[str, float | None]:
    """Return the terms of "SI-SNR+0.3*MR-STFT" with their numbers, {"SI-SNR": None, "MR-STFT": 0.3}.

    A published combination may be given by its name alone. Raises UserError.
    """
    numbers: dict[str, float | None] = {}
    terms = "".join((COMBINATIONS[name].loss if name in COMBINATIONS else name).split())
    for part in terms.split("+"):
        number, star, term = part.rpartition("*")
        if term not in TERMS:
            known = ", ".join(known_terms(perceptual=False) + known_terms(perceptual=True))
            combined = ", ".join(COMBINATIONS)
            raise UserError(
                f"loss: found {name!r}, but there is no {term!r}; known terms: {known}; combinations: {combined}"
            )
        if term in numbers:
            raise UserError(f"loss: found {name!r}, expected every term once")
        numbers[term] = _positive(number, name) if star else None
    return numbers


def _positive(text: str, name: str) -> float:
    try:
        number = float(text) if text.isascii() else math.nan
    except ValueError:
        number = math.nan
    if not 0 < number <= 1e30:  # sums of larger ones overflow
        raise UserError(f"loss: found {name!r}, expected a positive number before '*', not {text!r}")
    return number
