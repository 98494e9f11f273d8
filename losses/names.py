"""The grammar of a loss's name: terms joined by "+", each with a number before it or none."""

from __future__ import annotations

import math

from .registry import TERMS, LossError, known_terms


def parse_loss(name: str) -> dict[str, float | None]:
    """Terms of "SI-SNR+0.3*MR-STFT" with their numbers, {"SI-SNR": None, "MR-STFT": 0.3}; raises LossError."""
    numbers: dict[str, float | None] = {}
    for part in name.split("+"):
        number, star, term = part.rpartition("*")
        if term not in TERMS:
            known = ", ".join(known_terms(perceptual=False) + known_terms(perceptual=True))
            raise LossError(f"loss: found {name!r}, but there is no {term!r}; known terms: {known}")
        if term in numbers:
            raise LossError(f"loss: found {name!r}, expected every term once")
        numbers[term] = _positive(number, name) if star else None
    return numbers


def _positive(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise LossError(f"loss: found {name!r}, expected a positive number before '*', not {text!r}")
    return number
