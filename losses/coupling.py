"""Published weights of the terms of a combined loss.

Where upstream (github.com/seorim0/DCCRN-with-various-loss-functions) has constants, these are its own. Where it
has none, they follow the paper's reasoning: the first values of the terms (MSE 0.001-0.002, LMS 0.1-0.2,
PMSQE 0.8-1.3, SI-SNR some dB) are made alike in dynamic range, and the base term is then favoured by as much as in
its published sibling.
"""

from __future__ import annotations

from collections.abc import Sequence

# "base+perceptual": (weight of base, weight of perceptual); only their ratio matters.
PAPER: dict[str, tuple[float, float]] = {
    "MSE+LMS": (1000, 1),
    "SDR+LMS": (1, 2),
    "SI-SNR+LMS": (1, 2),
    "SDR+PMSQE": (1, 15),
    "SI-SNR+PMSQE": (1, 8),
    # Ours. SI-SDR has the range of SI-SNR. PMSQE starts about 7 times as high as LMS, so MSE, favoured as in
    # MSE+LMS, gets 7 times the weight.
    "SI-SDR+LMS": (1, 2),
    "SI-SDR+PMSQE": (1, 8),
    "MSE+PMSQE": (7000, 1),
}


def paper_weights(names: Sequence[str]) -> tuple[float, ...]:
    """Weights for the terms in this order; terms that nobody has published together count alike."""
    return PAPER.get("+".join(names), (1.0,) * len(names))
