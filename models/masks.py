"""What the network's output does to the noisy spectrum, and how little of it may be left."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from .complex_layers import ComplexKernel
from .safe_load import ModelError

MASKS = ("E", "C", "R", "none")

# What the last layer's bias must be for a network that passes its input through: (real, imaginary) of the mask.
# Mask E has tanh on its magnitude: 1.5 gives 0.905, a place where the gradient still flows.
PASS_THROUGH = {"E": (1.5, 0.0), "C": (1.0, 0.0), "R": (1.0, 1.0), "none": (0.0, 0.0)}
FIRST_MASK_STD = 0.005  # of the last layer's weights: the first mask is its bias and little else

Parts = tuple[Tensor, Tensor]  # real and imaginary part, of one shape


def apply_mask(kind: str, output: Parts, spectrum: Parts) -> Parts:
    """Return the estimated spectrum.

    kind: E (magnitude through tanh, phases add), C (complex product), R (real and imaginary part apart) or none:
        the network estimates what has to be added to the noisy spectrum.
    Source: Hu et al., arXiv 2008.00264, section 2.2.
    """
    (mask_real, mask_imag), (real, imag) = output, spectrum
    if kind == "none":
        return mask_real + real, mask_imag + imag
    if kind == "R":
        return mask_real * real, mask_imag * imag
    if kind == "E":
        # tanh(|M|) M/|M|: the phase of M without computing it; the tiny term keeps the gradient finite at 0.
        magnitude = (mask_real.square() + mask_imag.square() + 1e-12).sqrt()
        scale = magnitude.tanh() / magnitude
        mask_real, mask_imag = mask_real * scale, mask_imag * scale
    return mask_real * real - mask_imag * imag, mask_real * imag + mask_imag * real


def start_at_pass_through(last: ComplexKernel, kind: str) -> None:
    """Let a network's last layer begin with a mask that passes the input through.

    SI-SNR cannot see the sign, so a network that starts anywhere may learn the inverted speech.
    """
    real, imag = PASS_THROUGH[kind]
    nn.init.normal_(last.weight_real, std=FIRST_MASK_STD)
    nn.init.normal_(last.weight_imag, std=FIRST_MASK_STD)
    nn.init.constant_(last.bias_real, (real + imag) / 2)  # bias_real - bias_imag = real,
    nn.init.constant_(last.bias_imag, (imag - real) / 2)  # bias_real + bias_imag = imag


def limit_attenuation(model: nn.Module, limit_db: float | None) -> nn.Module:
    """Return the network with a limit in dB below which it attenuates no cell of the spectrum; None for no limit.

    The weights are shared with `model`, which is left as it is. Raises ModelError for a limit that is not above 0,
    or a network without `floor`, the least gain of a cell, which it hands to `hold_floor`.
    """
    if limit_db is None:
        return model
    if not 0 < limit_db < math.inf:
        raise ModelError(f"limit_db: found {limit_db}, expected a number of dB above 0")
    if not hasattr(model, "floor"):
        raise ModelError(f"limit_db: the network {type(model).__name__} has no limit; see docs/networks.md")
    limited = copy.copy(model)
    limited.floor = 10 ** (-limit_db / 20)
    return limited


def hold_floor(estimate: Tensor, noisy: Tensor, floor: float | Tensor) -> Tensor:
    """Return the estimated spectrum, complex, with no magnitude below `floor` times the noisy one; phases stay.

    A cell that is zero takes the noisy phase.
    """
    if isinstance(floor, float) and floor == 0:
        return estimate
    return torch.complex(*hold_floor_of_parts((estimate.real, estimate.imag), (noisy.real, noisy.imag), floor))


def hold_floor_of_parts(estimate: Parts, noisy: Parts, floor: float | Tensor) -> Parts:
    """Do the same to real and imaginary parts."""
    if isinstance(floor, float) and floor == 0:
        return estimate
    (real, imag), (noisy_real, noisy_imag) = estimate, noisy
    least = floor * (noisy_real.square() + noisy_imag.square()).sqrt()
    lacking = (least - (real.square() + imag.square()).sqrt()).clamp(min=0)
    along_real, along_imag = real + 1e-6 * noisy_real, imag + 1e-6 * noisy_imag
    scale = lacking / (along_real.square() + along_imag.square() + 1e-30).sqrt()
    return real + scale * along_real, imag + scale * along_imag
