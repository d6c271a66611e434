"""What stands in TensorBoard's event files, read without TensorBoard."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def read_scalars(folder: Path) -> list[tuple[str, int, float]]:
    """Returns tag, step and value of all points in a folder's event files.

    These are TFRecord frames: 8 bytes of length, 4 of checksum, the event, 4 of checksum.
    """
    points = []
    for file in sorted(folder.glob("events*")):
        content, position = file.read_bytes(), 0
        while position < len(content):
            (length,) = struct.unpack_from("<Q", content, position)
            event = Event.FromString(content[position + 12 : position + 12 + length])
            points += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            position += length + 16
        assert position == len(content)
    return sorted(points)
