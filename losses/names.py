"""A loss's name, such as "SI-SNR+0.3*MR-STFT", and the weights of its terms.

Without numbers, the weights of a combination are those of upstream
(github.com/seorim0/DCCRN-with-various-loss-functions). Ours, for combinations that it does not have, follow the
paper's method: the terms are scaled to equal values at the start of training, and the base term is then weighted 1
to 10 times as much. The paper's first values are MSE 0.001-0.002, LMS 0.1-0.2 and PMSQE 0.8-1.3; with LMS on real
mel bands and PMSQE on power spectra, as computed here, a new network on real speech in noise starts at MSE 0.002,
LMS 1.8, PMSQE 2.7 and SI-SNR -6 dB.

Other combinations have no such weights and are refused: equal weights would be arbitrary, as the units differ.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence

from tools.common.errors import UserError

from .registry import TERMS, LossTerm, known_terms

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
    # Ours: the gradients of this PESQ are as large as those of PMSQE. Asymmetric: its source weights it like the
    # symmetric term; beside SI-SNR it then has half of its influence once the network suppresses. The networks'
    # opinions get the influence of SI-SNR at the output of a trained network, as the discriminator of CMGAN has.
    "SI-SNR+PESQ": (1, 8),
    "SI-SNR+asymmetric": (1, 1),
    "PC-MSE+asymmetric": (1, 1),
    "SI-SNR+metric-GAN": (10, 1),
    "SI-SNR+DistillMOS": (300, 1),
}


# Terms that were published together: the loss, and its source with what is left out here.
COMBINATIONS: dict[str, tuple[str, str]] = {
    # Their SI-SNR keeps the means, as SI-SDR does, and is a bare logarithm: a tenth of the decibels.
    "GTCRN": ("30*compressed-complex+70*compressed-magnitude+0.1*SI-SDR", 'Rong et al. 2024 ("GTCRN")'),
    # The complex term stands for two in the source, which compares the network's spectrum as well: 0.1 + 0.15.
    "FastEnhancer": (
        "0.3*compressed-magnitude+0.25*compressed-complex+0.2*L1+0.001*PESQ",
        "github.com/aask1357/fastenhancer; window Hann there, its root here",
    ),
    # 0.9, 0.1, 0.3 and 0.2 on signals divided by the RMS of the noisy one. Here for an RMS of 0.05, -26 dBFS.
    "MP-SENet": (
        "5*compressed-magnitude+0.5*compressed-complex+0.3*phase+4*L1",
        'Lu et al. 2023 ("MP-SENet"), without consistency and discriminator, weights for -26 dBFS',
    ),
    "DFN3": ("MR-compressed", 'Schröter et al. 2023 ("DeepFilterNet"), without the local SNR'),
}


def parse_loss(name: str) -> dict[str, float | None]:
    """Return the terms of "SI-SNR+0.3*MR-STFT" with their numbers, {"SI-SNR": None, "MR-STFT": 0.3}.

    A published combination may be given by its name alone. Raises UserError.
    """
    numbers: dict[str, float | None] = {}
    written, _ = COMBINATIONS.get(name, (name, ""))
    for part in "".join(written.split()).split("+"):
        number, star, term = part.rpartition("*")
        if term not in TERMS:
            known = ", ".join([*known_terms(perceptual=False), *known_terms(perceptual=True), *COMBINATIONS])
            unnamed = [
                kind.__name__ for kind in LossTerm.__subclasses__() if not (kind.name or kind.__subclasses__())
            ]
            forgotten = f"; without @register: {', '.join(unnamed)}" if unnamed else ""
            raise UserError(f"loss: found {name!r}, but there is no {term!r}; known: {known}{forgotten}")
        if term in numbers:
            raise UserError(f"loss: found {name!r}, expected every term once")
        numbers[term] = _positive(number, name) if star else None
    return numbers


def _positive(text: str, name: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise UserError(f"loss: found {name!r}, expected a positive number before '*', not {text!r}")


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
