"""How the terms of a combined loss are weighted against each other.

`paper` uses the constants of upstream (github.com/seorim0/DCCRN-with-various-loss-functions). Ours, for
combinations that it does not have, follow the paper's method: the terms are scaled to equal values at the start of
training, and the base term is then weighted 1 to 10 times as much. The paper's first values are MSE
0.001-0.002, LMS 0.1-0.2 and PMSQE 0.8-1.3; with LMS on real mel bands and PMSQE on power spectra, as computed
here, a fresh network on real speech in noise starts at MSE 0.002, LMS 1.8, PMSQE 2.7 and SI-SNR -6 dB.

Other combinations have no `paper` weights and are refused: equal weights would be arbitrary, as the units differ.
"""

from collections.abc import Mapping, Sequence

from tools.common.errors import UserError

from .registry import TERMS

# Compared by default: the paper's two bases, each alone and with either perceptual term.
PAPER_LOSSES = ("MSE", "MSE+LMS", "MSE+PMSQE", "SI-SNR", "SI-SNR+LMS", "SI-SNR+PMSQE")

# "base+perceptual": (weight of base, weight of perceptual); only their ratio matters.
PAPER: dict[str, tuple[float, float]] = {
    "MSE+LMS": (1000, 1),
    "SDR+LMS": (1, 2),
    "SI-SNR+LMS": (1, 2),
    "SDR+PMSQE": (1, 15),
    "SI-SNR+PMSQE": (1, 8),
    # Ours: SI-SDR has the range of SI-SNR. MSE x 7000 starts 10 times as high as PMSQE with the paper's values,
    # as MSE x 1000 does with LMS, and 6 times as high with those measured here.
    "SI-SDR+LMS": (1, 2),
    "SI-SDR+PMSQE": (1, 8),
    "MSE+PMSQE": (7000, 1),
}


def fixed_weights(numbers: Mapping[str, float | None], coupling: str | Sequence[float]) -> dict[str, float]:
    """Return the weights of the terms, whose sum is one. Raises UserError.

    numbers: each term's number in the loss's name, or None.
    coupling: "paper", or one positive number a term.
    """
    name = "+".join(numbers)
    if any(number is not None for number in numbers.values()):
        weights = [1.0 if number is None else number for number in numbers.values()]
    elif coupling != "paper":
        weights = list(coupling)
    elif len(numbers) == 1:
        weights = [1.0]
    elif name in PAPER:
        weights = list(PAPER[name])
    else:
        raise UserError(
            f"coupling: found paper, but no weights are published for {name}; choose --coupling balanced, one "
            f"number a term (--coupling 1 2), or numbers in the name (--loss '{'+0.5*'.join(numbers)}')"
        )
    if len(weights) != len(numbers):
        raise UserError(f"coupling: found {len(weights)} numbers for {name}, expected {len(numbers)}, one a term")
    total = sum(weights)
    return {term: weight / total for term, weight in zip(numbers, weights, strict=True)}


def balanced_shares(terms: Sequence[str], balance: float) -> dict[str, float]:
    """Return each term's target influence: `balance` for base terms combined with perceptual ones, else 1."""
    kinds = {TERMS[term].perceptual for term in terms}
    return {term: balance if len(kinds) == 2 and not TERMS[term].perceptual else 1.0 for term in terms}
