"""Charts: what is drawn, and that the PNG is one that others read."""

import math
import struct
import zlib

import pytest
import tinygrad_cpp as tg
from tinygrad_cpp.utils.plot import save_bars, save_plot


def pixels(path) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of an 8-bit RGB PNG, read by zlib and the definition of its filters 0 and 2."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(data):
        (n,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        chunks[kind] = body = data[at + 8 : at + 8 + n]
        assert struct.unpack(">I", data[at + 8 + n : at + 12 + n])[0] == zlib.crc32(kind + body)
        at += 12 + n
    width, height, depth, color = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, color) == (8, 2)
    raw, rows, above = zlib.decompress(chunks[b"IDAT"]), [], bytes(3 * width)
    assert len(raw) == height * (3 * width + 1)
    for y in range(height):
        kind, *line = raw[y * (3 * width + 1) : (y + 1) * (3 * width + 1)]
        assert kind in (0, 2)
        above = bytes((v + a) & 255 for v, a in zip(line, above)) if kind == 2 else bytes(line)
        rows.append(above)
    return width, height, rows


BLUE = bytes((31, 119, 180))


def places(rows: list[bytes], color: bytes) -> list[tuple[int, int]]:
    return [(i // 3, y) for y, row in enumerate(rows) for i in range(0, len(row), 3) if row[i : i + 3] == color]


def test_lines(tmp_path):
    file = tmp_path / "a.png"
    save_plot(file, {"loss": {"": [4.0, 3.0, 2.0, 1.0]}, "gap": {"x": [1.0, math.nan, 2.0]}})
    width, height, rows = pixels(file)
    assert (width, height) == (920, 320)
    falling = [p for p in places(rows, BLUE) if p[0] < 460]
    assert min(falling)[1] < max(falling)[1] and max(falling)[0] - min(falling)[0] > 300
    assert file.stat().st_size < 60_000  # 883 KB of pixels


def test_logarithmic_axes_make_powers_straight(tmp_path):
    file = tmp_path / "a.png"
    save_plot(file, {"": {"": {10.0**k: 10.0 ** (2 * k) for k in range(4)}}}, log=True)
    points = places(pixels(file)[2], BLUE)
    (x0, y0), (x1, y1) = min(points), max(points)
    middle = [y for x, y in points if abs(x - (x0 + x1) / 2) < 1]
    # lines are two pixels thick and rounded to whole pixels
    assert abs(sum(middle) / len(middle) - (y0 + y1) / 2) <= 2


def test_bars(tmp_path):
    file = tmp_path / "a.png"
    save_bars(file, "", ["half", "whole", "none", "long"], {"": [0.5, 1.0, math.nan, 9.0]}, line=1.0, most=2.0)
    points = places(pixels(file)[2], BLUE)
    lengths = [
        max(x for x, y in points if y == row) - min(x for x, _ in points) for row in sorted({y for _, y in points})
    ]
    half, whole, long = sorted(set(lengths))
    assert abs(2 * half - whole) <= 2 and abs(2 * whole - long) <= 2  # whole pixels


def test_errors(tmp_path):
    with pytest.raises(tg.ValueError, match="no charts"):
        save_plot(tmp_path / "a.png", {})
    with pytest.raises(tg.ValueError, match="series 'x' has 1 values for 2 labels"):
        save_bars(tmp_path / "a.png", "", ["a", "b"], {"x": [1.0]})
    assert not list(tmp_path.iterdir())
