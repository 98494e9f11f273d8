"""The alarm: a wide-band PESQ that the other scores of the same signal contradict.

PESQ sometimes gives very bad speech a high value. docs/training.md, "Implausible PESQ values", says how the
limit was fitted and how often it errs.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

# Raw wide-band PESQ = sum of these factors times 1, raw narrow-band PESQ and its square, STOI, ESTOI.
FACTORS = (-1.0043, 0.4851, 0.1177, -1.3651, 2.0133)
MARGIN = 1.0  # of raw PESQ above the regression: three standard deviations
MARGIN_MOS = 0.2  # of MOS-LQO in addition, since it is compressed at the lower end
WIDE_BAND, NARROW_BAND = (1.3669, 3.8224), (1.4945, 4.6607)  # slope and shift of P.862.2 and of P.862.1
CONTRADICTED = "PESQ that the other scores contradict"  # the heading of a list
FOLLOW = ("pesq", "csig", "cbak", "covl")  # scores that depend on wide-band PESQ


def contradiction(scores: Mapping[str, Any]) -> str:
    """Return why the PESQ of a signal cannot be right; "" if it can, or if a score for the rule is missing."""
    pesq, narrow, stoi, estoi = (scores.get(name, math.nan) for name in ("pesq", "pesq_nb", "stoi", "estoi"))
    if any(math.isnan(value) for value in (pesq, narrow, stoi, estoi)):
        return ""
    limit = highest_pesq(narrow, stoi, estoi)
    if pesq <= limit:
        return ""
    return (
        f"PESQ {pesq:.2f}, but narrow-band PESQ {narrow:.2f}, STOI {stoi:.2f} and ESTOI {estoi:.2f} "
        f"allow {limit:.2f} at most"
    )


def highest_pesq(narrow: float, stoi: float, estoi: float) -> float:
    """Return the highest plausible wide-band PESQ (MOS-LQO), given the other scores of a signal."""
    slope, shift = NARROW_BAND
    lowest, highest = 0.999 + 1e-3, 4.999 - 1e-3
    raw = (shift - math.log(4 / (min(max(narrow, lowest), highest) - 0.999) - 1)) / slope
    usual = sum(factor * value for factor, value in zip(FACTORS, (1, raw, raw**2, stoi, estoi), strict=True))
    slope, shift = WIDE_BAND
    return 0.999 + 4 / (1 + math.exp(shift - slope * (usual + MARGIN))) + MARGIN_MOS


def leave_out(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows, with NaN for PESQ and the scores computed from it where it raises the alarm."""
    return [
        {name: math.nan if name in FOLLOW and wrong else value for name, value in row.items()}
        for row in rows
        for wrong in [contradiction(row)]
    ]
