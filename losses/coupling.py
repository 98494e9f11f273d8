"""Published weights of the terms of a combined loss.

Where upstream (github.com/seorim0/DCCRN-with-various-loss-functions) has constants, these are its own. Where it
has none, they follow the paper's reasoning: from their first values in training, the terms are made alike in
dynamic range, and the base term is then favoured, from 1:1 up to 10:1. The paper's first values are MSE
0.001-0.002, LMS 0.1-0.2 and PMSQE 0.8-1.3; with LMS on real mel bands and PMSQE on power spectra, as computed
here, a fresh network on real speech in noise starts at MSE 0.002, LMS 1.8, PMSQE 2.7 and SI-SNR -6 dB.
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
    # Ours: SI-SDR has the range of SI-SNR. MSE x 7000 starts 10 times as high as PMSQE with the paper's values,
    # as MSE x 1000 does beside LMS, and 6 times as high with those measured here.
    "SI-SDR+LMS": (1, 2),
    "SI-SDR+PMSQE": (1, 8),
    "MSE+PMSQE": (7000, 1),
}


def paper_weights(names: Sequence[str]) -> tuple[float, ...]:
    """Weights for the terms in this order; terms that nobody has published together count alike."""
    return PAPER.get("+".join(names), (1.0,) * len(names))
