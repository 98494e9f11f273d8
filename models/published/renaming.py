"""Translation of parameter names by patterns."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

# Regular expressions of the fields of a pattern.
FIELDS = {"side": "encoder|decoder", "n": r"\d+", "part": "real|imag", "kind": "weight|bias", "item": r"\w+"}

TRANSFORMS = ("stft.", "istft.")
Names = Sequence[tuple[str, str]]  # (theirs, ours), tried in turn; {field} stands for the same text in both


def to_ours(names: Names, state: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Return the state dict with our names. Raises KeyError with the names that match no pattern."""
    renamed = {name: rename(name, names) for name in state}
    unknown = [name for name, ours in renamed.items() if ours is None]
    if unknown:
        raise KeyError(f"{', '.join(unknown)}: no parameters of the published {network}")
    return {renamed[name]: tensor for name, tensor in state.items()}


def to_theirs(names: Names, state: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Return the state dict with the published names. Raises KeyError as `to_ours`."""
    return to_ours([(ours, theirs) for theirs, ours in names], state, network)


def rename(name: str, names: Names) -> str | None:
    """Return the translation of `name` by the first pattern that matches, or None."""
    for pattern, template in names:
        expression = re.sub(
            r"\\{(\w+)\\}", lambda field: f"(?P<{field[1]}>{FIELDS[field[1]]})", re.escape(pattern)
        )
        if match := re.fullmatch(expression, name):
            return template.format(**match.groupdict())
    return None


def bare_last_layer(names: Names, state: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Return the state dict as `to_ours` does, without fixed transforms; the last decoder layer has no norm."""
    state = {name: tensor for name, tensor in state.items() if not name.startswith(TRANSFORMS)}
    last = max((int(name.split(".")[1]) for name in state if name.startswith("decoder.")), default=0)
    ours = to_ours(names, state, network)
    return {name.replace(f"decoder.{last}.conv.", f"decoder.{last}."): tensor for name, tensor in ours.items()}
