"""Signals that the tests of losses compare."""

import math

import torch


def speech_like(seed: int, samples: int = 16000, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy and clean, [batch, samples] float64: modulated coloured noise, and other noise on it at 5 dB."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(2, batch, samples, generator=generator, dtype=torch.float64)
    time = torch.arange(samples, dtype=torch.float64) / 16000
    clean = torch.cumsum(white[0], -1) * 0.003 * (1 + torch.sin(2 * math.pi * 4 * time))
    clean = clean - clean.mean(-1, keepdim=True) + 0.01
    noise = white[1] * clean.std(-1, keepdim=True) * 10 ** (-5 / 20)
    return clean + noise, clean


def voiced(seed: int, samples: int = 16000, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy and clean, [batch, samples] float64: harmonics that each have a rhythm of syllables, noise at 5 dB."""
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    time = torch.arange(samples, dtype=torch.float64) / 16000
    number = torch.arange(1, 31, dtype=torch.float64)[:, None]  # of the harmonic
    phase = 2 * math.pi * between(90, 220, batch, 1, 1) * number * time + between(0, 6, batch, 30, 1)
    rhythm = 1 + torch.sin(2 * math.pi * between(2, 6, batch, 30, 1) * time + between(0, 6, batch, 30, 1))
    clean = (phase.sin() * rhythm / number).sum(1)
    clean = 0.05 * clean / clean.square().mean(-1, keepdim=True).sqrt()
    noise = torch.randn(batch, samples, generator=generator, dtype=torch.float64)
    return clean + 0.05 * 10 ** (-5 / 20) * noise, clean
