"""Networks and their names: a class with `@register("NAME")` in any file of this folder is one."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

from msgspec import Meta
from torch import nn

from config import Config, check
from tools.common.errors import UserError

Kind = TypeVar("Kind", bound=type[nn.Module])
# Types of settings that several networks have; real and imaginary part together, so that numbers are even.
EvenUnits = Annotated[int, Meta(ge=2, multiple_of=2)]
Channels = Annotated[tuple[EvenUnits, ...], Meta(min_length=1, max_length=8)]


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Settings of a network, options of the command line if it is chosen. Raises UserError as `config.check`."""

    def __post_init__(self) -> None:
        check(self)


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


def complete(config: Config) -> Config:
    """Return the config with all settings of its network, the defaults of those that are not given.

    Raises UserError for a setting that the network does not have, or a value out of bounds.
    """
    kind = find_network(config.model).settings
    known = [field.name for field in dataclasses.fields(kind)]
    for name in config.network.keys() - known:
        has = ", ".join(known) or "none"
        raise UserError(f"{name}: the network {config.model} has no such setting; it has {has}")
    return dataclasses.replace(config, network=dataclasses.asdict(kind(**config.network)))


def read_settings(plain: Mapping[str, Any]) -> Config:
    """Return the complete config of plain values, as in config.json and checkpoints. Raises UserError."""
    return complete(Config.from_dict(plain))
