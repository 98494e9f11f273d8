"""Networks computed hop by hop: their interface, and which networks have it."""

from typing import Protocol

import torch
from torch import Tensor, nn

from tools.common.errors import UserError

State = dict[str, Tensor]


class Step(Protocol):
    """A network as a function of some hops of waveform and a state, as a network's `streaming_step` returns it.

        state = step.first_state(batch)
        estimate, state = step(noisy, state, present)

    noisy, estimate: [B, T * hop] samples; present: [T], 1 for hops of the waveform and its ending, 0 for later
    ones (left out: all 1). A state is never changed in place, so it can be kept and used again.

    The estimate is delayed by `delay` hops. After a waveform, feed its `ending` with present 1, which fills the
    last hop, and then `look_ahead` hops of silence with present 0; without its first `delay` hops, the output
    equals that of the offline network for the whole waveform.
    """

    hop: int  # samples
    delay: int  # hops
    look_ahead: int  # hops
    kept: int  # hops of past waveform that `ending` needs

    def first_state(self, batch: int = 1) -> State: ...

    def ending(self, heard: Tensor) -> Tensor: ...

    def __call__(self, noisy: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]: ...


def can_stream(model: nn.Module) -> bool:
    """Return whether the network can be computed hop by hop."""
    return getattr(model, "streams", hasattr(model, "streaming_step"))


def require_streaming(model: nn.Module) -> None:
    """Raise UserError for a network that cannot be computed hop by hop."""
    if not can_stream(model):
        own = f" with {model.normalisation} normalisation" if hasattr(model, "normalisation") else ""
        raise UserError(
            f"{type(model).__name__}{own} needs the whole recording and cannot enhance block by block; DCCRN, "
            "CRN, GTCRN and FullSubNet with --normalisation cumulative can"
        )


def streaming_step(model: nn.Module, for_export: bool = False) -> Step:
    """Return the network hop by hop, with a copy of its weights.

    for_export: for an ONNX graph instead of PyTorch.
    Raises UserError for a network that cannot be computed hop by hop.
    """
    require_streaming(model)
    with torch.no_grad():
        return model.streaming_step(for_export).eval()
