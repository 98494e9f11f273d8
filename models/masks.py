"""Masks: how the output of a network changes the noisy spectrum."""

from torch import Tensor, nn

from .complex_layers import ComplexKernel

MASKS = ("E", "C", "R", "none")

# Mask (real, imaginary) that passes the input through: the last layer's initial bias.
# Mask E has tanh on its magnitude: 1.5 gives 0.905, where the gradient is not yet zero.
PASS_THROUGH = {"E": (1.5, 0.0), "C": (1.0, 0.0), "R": (1.0, 1.0), "none": (0.0, 0.0)}
FIRST_MASK_STD = 0.005  # of the last layer's weights: the initial mask is nearly its bias

Parts = tuple[Tensor, Tensor]  # real and imaginary part, of one shape


def apply_mask(kind: str, output: Parts, spectrum: Parts) -> Parts:
    """Return the estimated spectrum.

    kind: E (magnitude through tanh, phases add), C (complex product), R (real and imaginary part separately) or
        none: the output is added to the noisy spectrum.
    Source: Hu et al., arXiv 2008.00264, section 2.2.
    """
    (mask_real, mask_imag), (real, imag) = output, spectrum
    if kind == "none":
        return mask_real + real, mask_imag + imag
    if kind == "R":
        return mask_real * real, mask_imag * imag
    if kind == "E":
        # tanh(|M|) M/|M| has the phase of M without computing it; 1e-12 keeps the gradient finite at 0.
        magnitude = (mask_real.square() + mask_imag.square() + 1e-12).sqrt()
        scale = magnitude.tanh() / magnitude
        mask_real, mask_imag = mask_real * scale, mask_imag * scale
    return mask_real * real - mask_imag * imag, mask_real * imag + mask_imag * real


def start_at_pass_through(last: ComplexKernel, kind: str) -> None:
    """Initialise a network's last layer with a mask that passes the input through.

    SI-SNR does not see the sign: a network that starts from a random mask may learn inverted speech.
    """
    real, imag = PASS_THROUGH[kind]
    nn.init.normal_(last.weight_real, std=FIRST_MASK_STD)
    nn.init.normal_(last.weight_imag, std=FIRST_MASK_STD)
    nn.init.constant_(last.bias_real, (real + imag) / 2)  # bias_real - bias_imag = real,
    nn.init.constant_(last.bias_imag, (imag - real) / 2)  # bias_real + bias_imag = imag
