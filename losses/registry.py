"""Loss terms and their names: a class with `@register("NAME")` in any file of this folder is one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tools.common.errors import UserError

INVARIANCES = ("scale", "sign", "offset")
RESERVED = ("noisy", "clean", "enhanced", "loss")  # they name signals and columns in tables


class LossTerm(nn.Module):
    """Compares an estimate with the clean speech: [B, samples] each, 16 kHz, to [B]; lower is better.

    A term implements `compare`, for any length from one sample on. It gets the type of its weights, else float32
    (or float64 if the caller uses it), whatever the precision outside, without autocast. A term registered with
    `needs_noisy` gets the noisy speech as well.

    A term may have weights. They are trained with the network, or, in a term that implements `own_loss` (such as
    a discriminator), to minimise that. Both are saved in last.pt with their buffers and optimiser. Parts whose
    weights are all frozen, by `requires_grad_(False)` or `freeze_constants`, stay in evaluation mode.

    The first paragraph of a term's docstring and the one that begins with "Source:" are its row in the table of
    losses (tools.list_losses), where s is the clean speech, e the estimate and x the noisy speech.
    """

    # Set by register.
    name = ""
    perceptual = False
    needs_noisy = False
    invariances: tuple[str, ...] = ()

    own_rate = 1.0  # learning rate of the optimiser that minimises own_loss, relative to the network's
    pool: Any = None  # set by train.py: the ScorePool whose processes may compute scores for own_loss

    def forward(self, estimate: Tensor, clean: Tensor, noisy: Tensor | None = None) -> Tensor:
        signals = {"estimate": estimate, "clean": clean} | ({"noisy": noisy} if self.needs_noisy else {})
        shapes = {name: list(getattr(x, "shape", [type(x).__name__])) for name, x in signals.items()}
        if len(shapes["clean"]) != 2 or any(shape != shapes["clean"] for shape in shapes.values()):
            raise UserError(f"found {shapes}, expected [batch, samples] for all, also of what a network returns")
        # Its own objective trains the weights, not this value.
        own_weights = [w for w in self.parameters() if w.requires_grad and self.has_own_loss]
        for weight in own_weights:
            weight.requires_grad_(False)
        result = self._checked(self.compare, estimate.requires_grad, *signals.values())
        for weight in own_weights:
            weight.requires_grad_(True)
        return result

    @property
    def has_own_loss(self) -> bool:
        """Return whether the term's weights have an objective of their own."""
        return type(self).own_loss is not LossTerm.own_loss

    def compute_own_loss(self, estimate: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        """Return `own_loss` of estimates without their graph, checked as `compare` is."""
        return self._checked(self.own_loss, True, estimate.detach(), clean, noisy)

    def train(self, mode: bool = True) -> LossTerm:
        """Set training or evaluation mode; parts whose weights are all frozen stay in evaluation mode."""
        super().train(mode)
        for part in list(self.modules())[1:]:
            weights = list(part.parameters())
            all_frozen = weights and not any(weight.requires_grad for weight in weights)
            if all_frozen or getattr(part, "is_frozen", False):
                part.eval()
        return self

    def _checked(self, function: Callable[..., Tensor], needs_gradient: bool, *signals: Tensor) -> Tensor:
        """Return the result of `compare` or `own_loss`; UserError if it is not one value an utterance."""
        name, expected = type(self).__name__, [len(signals[0])]
        versions = [x._version for x in signals]
        with torch.autocast(signals[0].device.type, enabled=False):
            dtype = next(self.parameters(), at_least_float32(signals[0])).dtype
            result = function(*(x.to(dtype) for x in signals))
        found = list(getattr(result, "shape", [type(result).__name__]))
        if found != expected:  # it would be broadcast in silence
            raise UserError(f"loss term {name}: {function.__name__} returned {found}, expected {expected}")
        if versions != [x._version for x in signals]:
            raise UserError(f"loss term {name}: {function.__name__} changes a signal in place, which others use")
        if torch.is_grad_enabled() and needs_gradient and not result.requires_grad:
            raise UserError(f"loss term {name}: its value has no gradient, expected one to train with")
        return result

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        """Return one value an utterance, [B], for waveforms [B, samples]; `needs_noisy` adds a third, noisy."""
        raise NotImplementedError

    def own_loss(self, estimate: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        """Return what the term's weights minimise, [B]: once a step, with an optimiser of their own.

        The estimate has no graph here, and in `compare` the weights are constants.
        """
        raise NotImplementedError


TERMS: dict[str, type[LossTerm]] = {}


def register(
    name: str, *, perceptual: bool = False, needs_noisy: bool = False, invariances: tuple[str, ...] = ()
) -> Callable[[type[LossTerm]], type[LossTerm]]:
    """Register a LossTerm as `name`; a class decorator. A class that is defined again replaces itself.

    perceptual: it compares spectra or loudness, and is usually combined with a base term; `balance` sets the
        influence of the one over the other.
    needs_noisy: `compare` takes the noisy speech as a third argument.
    invariances: changes of the estimate that the term does not see: "scale" (a positive gain), "sign" (inverted
        polarity), "offset" (a constant added). The tests check these, and that there are no others.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", name) or name.lower() in RESERVED:
        raise UserError(f"loss term {name!r}: expected letters, digits, '-' and '_', and none of {RESERVED}")

    def add(term: type[LossTerm]) -> type[LossTerm]:
        known = TERMS.get(name, term)
        if (known.__module__, known.__qualname__) != (term.__module__, term.__qualname__):
            raise UserError(f"loss term {name}: registered twice, by {known.__name__} and {term.__name__}")
        term.name, term.perceptual = name, perceptual
        term.needs_noisy, term.invariances = needs_noisy, invariances
        TERMS[name] = term
        return term

    return add


def known_terms(perceptual: bool) -> list[str]:
    """Return the names of the perceptual terms, or of the base terms."""
    return [name for name, term in TERMS.items() if term.perceptual == perceptual]


def at_least_float32(x: Tensor) -> Tensor:
    """Return the tensor in float32, or in float64 if it has that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def freeze_constants(module: nn.Module) -> nn.Module:
    """Turn a network's weights and buffers into constants, outside of optimisers and state dicts; no dropout."""
    module.is_frozen = True  # without parameters, LossTerm.train could not tell
    for part in module.modules():
        for name, constant in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            delattr(part, name)
            part.register_buffer(name, constant.detach(), persistent=False)
    return module.eval()
