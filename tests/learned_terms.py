"""Loss terms with weights, for tests; run as a program, train.py with these terms."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import train
from losses import TERMS, LossTerm, register
from tools.common.command_line import run_command

LOSS = "SI-SNR+0.5*tiny-GAN+uncertain"


class TinyGAN(LossTerm):
    """A discriminator with what has a state: weights, spectral norm (u, v), statistics of a norm."""

    own_rate = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, -1, 64)),
            spectral_norm(nn.Conv2d(1, 4, 4, 4, bias=False)),  # before a norm, a bias follows rounding only
            nn.BatchNorm2d(4),
            nn.PReLU(),
            spectral_norm(nn.Conv2d(4, 1, 1)),
        )

    def score(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.layers(waveform[:, : waveform.shape[1] // 64 * 64]).mean((1, 2, 3))

    def compare(self, estimate, clean):
        return (1 - self.score(estimate)).square()

    def own_loss(self, estimate, clean, noisy):
        return (1 - self.score(clean)).square() + self.score(estimate).square()


class Uncertain(LossTerm):
    """An error with a learned weight (Kendall et al. 2018), trained with the network."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))

    def compare(self, estimate, clean):
        return (estimate - clean).abs().mean(1) * (-self.log_variance).exp() + self.log_variance


def add_terms() -> None:
    register("tiny-GAN", perceptual=True)(TinyGAN)
    register("uncertain")(Uncertain)


def remove_terms() -> None:
    del TERMS["tiny-GAN"], TERMS["uncertain"]


if __name__ == "__main__":
    add_terms()
    run_command(train.main)
