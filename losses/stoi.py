"""Negative STOI and ESTOI: predictions of intelligibility."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_stoi import NegSTOILoss
from torchaudio.transforms import Resample

from config import SAMPLE_RATE

from .registry import LossTerm, freeze_constants, register

STOI_RATE = 10000  # Hz
SHORTEST = 6656  # samples at 16 kHz; 30 frames at 10 kHz, the least that STOI needs


@register("STOI", perceptual=True, invariances=("scale", "sign", "offset"))
class STOI(LossTerm):
    """Minus STOI: correlation of third-octave envelopes over 0.4 s where there is speech, −1 to 0.

    Computed by torch-stoi. Without 0.4 s of speech the value is 0 and there is no gradient.

    Source: Taal et al. 2011 ("An algorithm for intelligibility prediction of time-frequency weighted noisy
    speech").
    """

    extended = False

    def __init__(self) -> None:
        super().__init__()
        self.resample = freeze_constants(Resample(SAMPLE_RATE, STOI_RATE))
        self.distance = freeze_constants(_OnDevice(STOI_RATE, extended=self.extended, do_resample=False))

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        fill = max(0, SHORTEST - estimate.shape[-1])
        precision = self.distance.OBM.dtype  # of torch-stoi's tables
        e, s = (self.resample(F.pad(x, (0, fill)).to(precision)) for x in (estimate, clean))
        return self.distance(e, s)


@register("ESTOI", perceptual=True, invariances=("scale", "sign", "offset"))
class ESTOI(STOI):
    """Minus extended STOI: the correlation of spectra joins that of envelopes.

    Source: Jensen & Taal 2016 ("An algorithm for predicting the intelligibility of speech masked by modulated
    noise maskers").
    """

    extended = True


class _OnDevice(NegSTOILoss):
    """torch-stoi with a removal of silent frames that does not wait for the device."""

    @staticmethod
    def remove_silent_frames(
        x: Tensor, y: Tensor, dyn_range: float, window: Tensor, framelen: int, hop: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return clean x and estimate y, [B, samples], without the silent frames of x, and which these are.

        The frames that remain move to the front, zeros fill the end. The mask is [B, frames], 1 for speech.
        """
        frames = torch.stack((x, y)).unfold(-1, framelen, hop) * window.to(x.dtype)  # [2, B, frames, framelen]
        level = 20 * (torch.linalg.vector_norm(frames[0], dim=-1) + 1e-8).log10()
        speech = level > level.amax(-1, keepdim=True) - dyn_range
        order = speech.int().argsort(dim=-1, descending=True, stable=True)
        frames = (frames * speech[..., None]).gather(2, order[None, :, :, None].expand_as(frames))
        samples = (frames.shape[2] - 1) * hop + framelen
        columns = frames.flatten(0, 1).transpose(1, 2)
        joined = F.fold(columns, (1, samples), (1, framelen), stride=(1, hop)).reshape(*frames.shape[:2], samples)
        return joined[0], joined[1], speech.long()
