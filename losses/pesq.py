"""A differentiable PESQ."""

import torch
import torch.nn.functional as F
from torch import Tensor

from config import SAMPLE_RATE
from tools.common.errors import UserError

from .registry import LossTerm, freeze_constants, register

SHORTEST = 5376  # samples; the 20 frames over which PESQ aggregates disturbances
FLOOR = 1e-6  # amplitude of a tone added to both signals, -120 dBFS, so that silence can be level-aligned


@register("PESQ", perceptual=True, invariances=("scale", "sign", "offset"))
class PESQ(LossTerm):
    """Disturbances of a wide-band PESQ without time alignment: 0.1 symmetric + 0.0309 asymmetric, 0 is the lowest.

    Computed by torch-pesq, an extra: pip install --no-deps -r requirements-pesq.txt

    Source: ITU-T P.862.2; audiolabs/torch-pesq.
    """

    def __init__(self) -> None:
        super().__init__()
        # Double precision: the filters have poles near one, and small disturbances are raised to the sixth power.
        self.distance = freeze_constants(_import_pesq()(1.0, sample_rate=SAMPLE_RATE)).double()

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        samples = max(SHORTEST, estimate.shape[-1])
        tone = FLOOR * torch.arange(samples, device=clean.device, dtype=torch.float64).mul(0.5).cos()  # 1.3 kHz
        e, s = (F.pad(x.double(), (0, samples - x.shape[-1])) + tone for x in (estimate, clean))
        return self.distance(s, e).to(estimate.dtype)


def _import_pesq() -> type:
    import typeguard

    # Its type annotations fail under typeguard 4 and later, which the command line needs: switch its check off.
    kept, typeguard.typechecked = typeguard.typechecked, lambda function: function
    try:
        from torch_pesq import PesqLoss
    except ImportError:
        raise UserError(
            "loss: PESQ needs torch-pesq, which is not installed; pip install --no-deps -r requirements-pesq.txt"
        ) from None
    finally:
        typeguard.typechecked = kept
    return PesqLoss
