"""Suspect PESQ: a wide-band PESQ that the other scores of the same signal contradict.

PESQ sometimes gives very bad speech a high value. The limit was fitted to 4000 degraded mixtures of LibriSpeech
with 57 types of noise and 1500 enhanced ones. It flags 3 of the 8640 enhanced signals of published runs, and 2 of
500 other mixtures, both below -6 dB.
"""

import numpy as np
import pandas as pd

# Raw wide-band PESQ = sum of these factors times 1, raw narrow-band PESQ and its square, STOI, ESTOI.
FACTORS = (-1.0043, 0.4851, 0.1177, -1.3651, 2.0133)
MARGIN = 1.0  # of raw PESQ above the regression: three standard deviations
MARGIN_MOS = 0.2  # of MOS-LQO in addition, since it is compressed at the lower end
WIDE_BAND, NARROW_BAND = (1.3669, 3.8224), (1.4945, 4.6607)  # slope and shift of P.862.2 and of P.862.1
USED = ["pesq", "pesq_nb", "stoi", "estoi"]
DEPENDENT = ["pesq", "csig", "cbak", "covl"]  # scores computed from wide-band PESQ


def find_suspect(scores: pd.DataFrame) -> pd.Series:
    """Return why the PESQ of each row is suspect; "" if it is not, or if a score for the rule is missing."""
    reasons = pd.Series("", scores.index, dtype=object)
    if not set(USED) <= set(scores):
        return reasons
    template = "PESQ {:.2f}, but narrow-band PESQ {:.2f}, STOI {:.2f}, ESTOI {:.2f}"
    for index, *values in scores.loc[scores["pesq"] > highest_pesq(scores), USED].itertuples():
        reasons[index] = template.format(*values)
    return reasons


def highest_pesq(scores: pd.DataFrame) -> pd.Series:
    """Return the highest plausible wide-band PESQ (MOS-LQO) of each row, given its other scores."""
    slope, shift = NARROW_BAND
    narrow = scores["pesq_nb"].clip(0.999 + 1e-3, 4.999 - 1e-3)
    raw = (shift - np.log(4 / (narrow - 0.999) - 1)) / slope
    terms = (1, raw, raw**2, scores["stoi"], scores["estoi"])
    usual = sum(factor * term for factor, term in zip(FACTORS, terms, strict=True))
    slope, shift = WIDE_BAND
    return 0.999 + 4 / (1 + np.exp(shift - slope * (usual + MARGIN))) + MARGIN_MOS


def without_suspect(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores with NaN for each PESQ with a reason in `suspect`, and for the scores computed from it."""
    dependent = [name for name in DEPENDENT if name in scores]
    return scores.assign(**scores[dependent].mask(scores["suspect"] != ""))
