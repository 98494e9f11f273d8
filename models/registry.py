"""Networks and their names: a class with `@register("NAME")` in any file of this folder is one."""

import ast
import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from torch import nn

from config import NETWORK_SETTINGS, Config
from tools.common.errors import UserError

Kind = TypeVar("Kind", bound=type[nn.Module])
_LARGEST = 2**16  # of any size of a network


class Bounds(NamedTuple):
    """Allowed values of a setting: a test of a value, and its description."""

    fine: Callable[[Any], bool]
    expected: str


def one_of(*values: str | int) -> Bounds:
    """Return the bounds of a setting that is one of some names or numbers."""
    return Bounds(
        lambda found: type(found) in (str, int) and found in values, f"one of {', '.join(map(str, values))}"
    )


def whole(low: int, even: bool = False) -> Bounds:
    """Return the bounds of a whole number from `low` to 2^16."""
    kind = "an even" if even else "a whole"
    return Bounds(
        lambda value: type(value) is int and low <= value <= _LARGEST and not (even and value % 2),
        f"{kind} number from {low} to {_LARGEST}",
    )


YES_OR_NO = Bounds(lambda value: type(value) is bool, "True or False")


def channels(most: int) -> Bounds:
    """Return the bounds of the channels of one to `most` layers, half of them real, half imaginary parts."""
    each = whole(2, even=True)
    return Bounds(
        lambda value: isinstance(value, tuple) and 1 <= len(value) <= most and all(map(each.fine, value)),
        f"1 to {most} even numbers from 2 to {_LARGEST}",
    )


def setting(default: Any, bounds: Bounds, meaning: str) -> Any:
    """Return a field of a network's settings."""
    return dataclasses.field(default=default, metadata={"bounds": bounds, "meaning": meaning})


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Settings of a network; each field is a `setting`. Raises UserError for a value out of bounds."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, bounds = getattr(self, field.name), field.metadata["bounds"]
            if not bounds.fine(value):
                raise UserError(f"{field.name}: found {value!r}, expected {bounds.expected}")


class Entry(NamedTuple):
    """A registered network."""

    kind: type[nn.Module]
    settings: type[NetworkSettings]


NETWORKS: dict[str, Entry] = {}


def register(name: str, settings: type[NetworkSettings] = NetworkSettings) -> Callable[[Kind], Kind]:
    """Register a network as `name`, built with the values of `settings` as keywords; a class decorator.

    A class that is defined again, as in a notebook, replaces itself.
    The network maps noisy waveforms [B, samples], 16 kHz, [-1, 1], to estimates of that shape, for any length. The
    first paragraph of its docstring and the one that begins with "Source:" are its row in tools.list_networks.
    Two optional attributes matter for its speed on a CPU: `suits_channels_last` (default False), whether bf16 is
    faster with channels-last memory; `gains_from_bf16` (default True), whether bf16 may be faster than fp32.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise UserError(f"network {name!r}: expected a letter, then letters, digits, '-' and '_' only")

    def add(kind: Kind) -> Kind:
        known = NETWORKS[name].kind if name in NETWORKS else kind
        if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
            raise UserError(f"network {name}: registered twice, by {known.__name__} and {kind.__name__}")
        NETWORKS[name] = Entry(kind, settings)
        return kind

    return add


def find_network(name: str) -> Entry:
    """Return the network of that name. Raises UserError if there is none."""
    if name not in NETWORKS:
        raise UserError(f"model: found {name!r}, expected one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def read_settings(config: Config) -> dict[str, Any]:
    """Return the settings to build the config's network with, its defaults for those that are not given.

    Raises UserError for a setting that the network does not have, or a value out of bounds.
    """
    settings = find_network(config.model).settings
    known = [field.name for field in dataclasses.fields(settings)]
    given = {name: getattr(config, name) for name in NETWORK_SETTINGS if getattr(config, name) is not None}
    for text in config.network:
        key, equals, value = text.partition("=")
        if not equals or key in given:
            raise UserError(
                f"network: found {text!r}, expected name=value, each name once and with no option of its own"
            )
        given[key] = _plain(value)
    for unknown in [key for key in given if key not in known]:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(f"{unknown}: the network {config.model} has no such setting; {has}")
    return dataclasses.asdict(settings(**given))


def _plain(text: str) -> Any:
    """Return the Python literal (number, list, True …) in a text, or the text if it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
