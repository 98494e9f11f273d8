"""TensorBoard's files, read back without TensorBoard."""

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def events_in(folder: Path) -> Iterator[Event]:
    """Events of all files, in order, read as the format says: length, its checksum, content, its checksum.

    A file whose writer was killed may end within an event: that one is left out, as TensorBoard does.
    """
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while len(data) >= 8:
            (length,) = struct.unpack("<Q", data[:8])
            if len(data) < 16 + length:
                break
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
