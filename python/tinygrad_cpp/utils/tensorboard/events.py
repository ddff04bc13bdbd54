"""The format of event files: records with checksums, each a protocol buffer message.

Only what is written here is encoded, field by field: `tag` is the field's number in the message's definition in
TensorFlow's event.proto, summary.proto and tensor.proto, and in TensorBoard's plugins.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# ---- protocol buffers


def varint(tag: int, value: int) -> bytes:
    """An integer, bool or enum field."""
    return _varint(tag << 3) + _varint(int(value))


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def double(tag: int, value: float) -> bytes:
    """A double field."""
    return _varint(tag << 3 | 1) + struct.pack("<d", value)


def single(tag: int, value: float) -> bytes:
    """A float field."""
    return _varint(tag << 3 | 5) + np.float32(value).astype("<f4").tobytes()


def data(tag: int, value: bytes | str) -> bytes:
    """A string, bytes or message field."""
    value = value.encode() if isinstance(value, str) else value
    return _varint(tag << 3 | 2) + _varint(len(value)) + value


def doubles(tag: int, values: Iterable[float]) -> bytes:
    """A field of any number of doubles."""
    return data(tag, np.asarray(values, "<f8").tobytes())


# ---- records


def _table() -> list[int]:
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    return table


_CRC = _table()


def crc32c(content: bytes) -> int:
    """The checksum with Castagnoli's polynomial."""
    crc, table = 0xFFFFFFFF, _CRC
    for b in content:
        crc = crc >> 8 ^ table[(crc ^ b) & 255]
    return crc ^ 0xFFFFFFFF


def _masked(content: bytes) -> bytes:
    """The checksum, turned so that one over data that holds checksums stays a good one."""
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(message: bytes) -> bytes:
    """Length, message and their checksums."""
    length = struct.pack("<Q", len(message))
    return length + _masked(length) + message + _masked(message)


# ---- messages


def event(wall_time: float, step: int | None, content: bytes) -> bytes:
    """An Event at a time and step."""
    return double(1, wall_time) + (b"" if step is None else varint(2, step)) + content


def file_version() -> bytes:
    """The first event's content."""
    return data(3, "brain.Event:2")


def session_start() -> bytes:
    """Tells the reader to drop events from this step on that came before."""
    return data(7, varint(1, 1))


def summary(*values: bytes) -> bytes:
    """An event's content: values made by the functions below."""
    return data(5, b"".join(data(1, v) for v in values))


def metadata(plugin: str, content: bytes = b"") -> bytes:
    """Which part of TensorBoard shows a value."""
    return data(9, data(1, data(1, plugin) + (data(2, content) if content else b"")))


def scalar(name: str, value: float) -> bytes:
    """A number."""
    return data(1, name) + single(2, value)


def scalar_tensor(name: str, value: float, in_double: bool) -> bytes:
    """A number in the newer form."""
    tensor = varint(1, 2) + double(6, value) if in_double else varint(1, 1) + single(5, value)
    return data(1, name) + data(8, tensor) + metadata("scalars")


def text(name: str, content: str) -> bytes:
    """Text, shown as Markdown."""
    tensor = varint(1, 7) + data(2, data(2, varint(1, 1))) + data(8, content)
    return data(1, f"{name}/text_summary") + data(8, tensor) + metadata("text")


def image(name: str, png: bytes, height: int, width: int, channels: int) -> bytes:
    """A PNG file."""
    return data(1, name) + data(4, varint(1, height) + varint(2, width) + varint(3, channels) + data(4, png))


def histogram(
    name: str, low: float, high: float, count: float, total: float, squares: float, limits: Any, counts: Any
) -> bytes:
    """Counts in buckets, each up to a limit."""
    numbers = zip(range(1, 6), (low, high, count, total, squares))
    message = b"".join(double(tag, float(x)) for tag, x in numbers) + doubles(6, limits) + doubles(7, counts)
    return data(1, name) + data(5, message)


def _any_value(x: Any) -> bytes:
    """A google.protobuf.Value."""
    return varint(4, x) if isinstance(x, bool) else data(3, x) if isinstance(x, str) else double(2, float(x))


def hparams(parameters: dict[str, Any], metrics: Iterable[str], discrete: dict[str, Sequence[Any]]) -> list[bytes]:
    """The experiment, the start and the end of a session of TensorBoard's table of hyperparameters."""
    infos = b""
    for name, value in parameters.items():
        kind = 2 if isinstance(value, bool) else 1 if isinstance(value, str) else 3
        domain = b"".join(data(1, _any_value(v)) for v in discrete.get(name, ()))
        infos += data(4, data(1, name) + varint(4, kind) + (data(5, domain) if domain else b""))
    infos += b"".join(data(5, data(1, data(2, m))) for m in metrics)
    start = b"".join(data(1, data(1, k) + data(2, _any_value(v))) for k, v in parameters.items())
    end = varint(1, 1)
    parts = {"experiment": data(2, infos), "session_start_info": data(3, start), "session_end_info": data(4, end)}
    return [data(1, f"_hparams_/{name}") + metadata("hparams", content) for name, content in parts.items()]


# ---- images


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file of an array of bytes, height x width x 1, 3 or 4."""
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # a filter byte, 0 for none, before each row
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def png_size(png: bytes) -> tuple[int, int]:
    """Height and width of a PNG file."""
    width, height = struct.unpack(">II", png[16:24])
    return height, width
