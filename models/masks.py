"""What the network's output does to the noisy spectrum."""

from __future__ import annotations

from torch import Tensor

MASKS = ("E", "C", "R", "none")

Parts = tuple[Tensor, Tensor]  # real and imaginary part, of one shape


def apply_mask(kind: str, output: Parts, spectrum: Parts) -> Parts:
    """The estimated spectrum.

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
