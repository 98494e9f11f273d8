"""What a network is hop by hop, and which networks can be computed so."""

from typing import Protocol

import torch
from torch import Tensor, nn

from ..safe_load import ModelError

State = dict[str, Tensor]


class Step(Protocol):
    """A network as a function of some hops of waveform and a state; `streaming_step` of a network returns one.

        state = step.first_state(batch)
        estimate, state = step(noisy, state, present)

    noisy, estimate: [B, T * hop] samples; present: [T], 1 for hops of the waveform and its ending, 0 for those
    behind (left out: all 1). Nothing of a state is changed in place, so a state may be kept and gone back to.

    The estimate comes `delay` hops late. After a waveform, feed its `ending` with present 1, which fills the last
    hop, and then `look_ahead` hops of silence with present 0; without its first `delay` hops, the output is what
    the offline network gives for the whole waveform.
    """

    hop: int  # samples
    delay: int  # hops
    look_ahead: int  # hops
    kept: int  # hops before the last that `ending` wants to see

    def first_state(self, batch: int = 1) -> State: ...

    def ending(self, heard: Tensor) -> Tensor: ...

    def __call__(self, noisy: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]: ...


def can_stream(model: nn.Module) -> bool:
    """Return whether the network can be computed hop by hop."""
    return getattr(model, "streams", hasattr(model, "streaming_step"))


def require_streaming(model: nn.Module) -> None:
    """Raise ModelError for a network that cannot be computed hop by hop."""
    if not can_stream(model):
        own = f" with level {model.level}" if hasattr(model, "level") else ""
        raise ModelError(
            f"{type(model).__name__}{own} hears the whole recording and cannot enhance block by block; DCCRN, "
            "CRN, GTCRN and FullSubNet with level cumulative can"
        )


def streaming_step(model: nn.Module, for_export: bool = False) -> Step:
    """Return the network hop by hop, with its weights as they are now.

    for_export: for an ONNX graph instead of PyTorch.
    Raises ModelError for a network that cannot be computed so.
    """
    require_streaming(model)
    with torch.no_grad():
        return model.streaming_step(for_export).eval()
