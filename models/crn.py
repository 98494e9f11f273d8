"""CRN: a real convolutional encoder and decoder around an LSTM that estimate magnitudes."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from config import Positive

from .complex_layers import WEIGHT_STD, Parts
from .encoder_decoder import Doubling, EncoderDecoder, Halving
from .layers import RealRecurrence
from .registry import Channels, EvenUnits, NetworkSettings, register

# Initial bias of the last layer. E: tanh gives 0.905; none: a small magnitude above zero.
START = {"E": 1.5, "none": 0.1}
FIRST_OUTPUT_STD = 0.005  # of the last layer's weights: the initial output is nearly its bias


@dataclass(frozen=True)
class CRNSettings(NetworkSettings):
    """Settings of CRN; the defaults are the published network."""

    mask: Literal["E", "none"] = "E"
    """E: the estimated magnitude is tanh(output) times the noisy one; none: it is the output itself."""
    kernel_num: Channels = (32, 64, 128, 256, 256, 256)
    """Channels of each encoder layer, counted as DCCRN's: the real layers have half of them."""
    rnn_units: EvenUnits = 256
    """Units of a recurrent layer, counted as DCCRN's: the real LSTM has half of them."""
    rnn_layers: Positive = 1
    """Recurrent layers."""
    skip: bool = True
    """Skip connections: each decoder layer also gets the output of the encoder layer of its size."""


@register("CRN", CRNSettings)
class CRN(EncoderDecoder):
    """The real counterpart of DCCRN, which estimates the magnitude and keeps the noisy phase.

    Its layers have the size of one part of DCCRN's with the same settings. Latency as DCCRN, 62.5 ms with six
    layers.

    Source: github.com/seorim0/DNN-based-Speech-Enhancement-in-the-frequency-domain, after Tan & Wang, Interspeech
    2018.
    """

    suits_channels_last = True

    def __init__(self, **settings: Any) -> None:
        """Build the network with the values of CRNSettings that are given. Raises UserError."""
        own = CRNSettings(**settings)
        sizes = [1, *(number // 2 for number in own.kernel_num)]
        recurrence = partial(RealRecurrence, units=own.rnn_units // 2, layers=own.rnn_layers)
        super().__init__(sizes, Conv, ConvTranspose, nn.BatchNorm2d, recurrence, own.skip)
        self.mask = own.mask
        nn.init.normal_(self.decoder[-1].weight, std=FIRST_OUTPUT_STD)
        nn.init.constant_(self.decoder[-1].bias, START[self.mask])

    @staticmethod
    def observe(spectrum: Tensor) -> Tensor:
        """Return the magnitude of a spectrum, with a floor above zero so that it can be divided by."""
        return (spectrum.square().sum(0, keepdim=True) + 1e-16).sqrt()

    def conclude(self, output: Tensor, spectrum: Tensor) -> Parts:
        gain = output.tanh() if self.mask == "E" else output / self.observe(spectrum)
        return (spectrum * gain).unbind(0)

    @staticmethod
    def join(x: Tensor, skip: Tensor) -> Tensor:
        return torch.cat([x, skip], 1)


class _Normal(nn.Module):
    """Initialises the weights as the published code does."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=WEIGHT_STD)
        nn.init.zeros_(self.bias)


class Conv(_Normal, Halving, nn.Conv2d):
    """See `Halving`."""


class ConvTranspose(_Normal, Doubling, nn.ConvTranspose2d):
    """See `Doubling`."""
