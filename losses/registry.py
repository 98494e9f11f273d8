"""Loss terms and their names: a class with `@register("NAME")` in any file of this folder is one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class LossError(ValueError):
    """A loss that cannot be built; the message names it, what was found and what was expected."""


class LossTerm(nn.Module):
    """One way to compare an estimate with the clean speech: [B, samples] each, 16 kHz, to [B]; lower is better.

    A term implements `compare`. It gets float32 (or float64 where the caller uses it) whatever the precision
    outside, and no autocast touches it.
    """

    perceptual = False  # set by register

    def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
        if estimate.shape != clean.shape or estimate.dim() != 2:
            raise ValueError(
                f"estimate {list(estimate.shape)}, clean {list(clean.shape)}: expected [batch, samples] twice"
            )
        with torch.autocast(estimate.device.type, enabled=False):
            return self.compare(_at_least_float32(estimate), _at_least_float32(clean))

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        """[B, samples] twice to one value an utterance, [B]."""
        raise NotImplementedError


TERMS: dict[str, type[LossTerm]] = {}


def register(name: str, *, perceptual: bool = False) -> Callable[[type[LossTerm]], type[LossTerm]]:
    """Class decorator: makes a LossTerm known as `name`, to stand alone or, if perceptual, beside a base loss."""

    def add(term: type[LossTerm]) -> type[LossTerm]:
        if name in TERMS:
            raise LossError(f"loss term {name}: registered twice, by {TERMS[name].__name__} and {term.__name__}")
        term.perceptual = perceptual
        TERMS[name] = term
        return term

    return add


def known_losses() -> list[str]:
    """Names of all base losses, each alone and with each perceptual term."""
    base = [name for name, term in TERMS.items() if not term.perceptual]
    perceptual = [name for name, term in TERMS.items() if term.perceptual]
    return base + [f"{b}+{p}" for p in perceptual for b in base]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
