"""utils.tensorboard: event files, read by a reader written for this test and by TensorBoard itself where it is."""

from __future__ import annotations

import math
import os
import pathlib
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp.utils.tensorboard import SummaryWriter, events

# ---- a reader that shares nothing with the writer


def crc32c(content):
    crc = 0xFFFFFFFF
    for b in content:
        crc ^= b
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    return crc ^ 0xFFFFFFFF


def check(content, stored):
    (masked,) = struct.unpack("<I", stored)
    turned = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert ((turned >> 17) | (turned << 15)) & 0xFFFFFFFF == crc32c(content)


def records(path):
    raw, at = path.read_bytes(), 0
    while at < len(raw):
        head = raw[at : at + 8]
        check(head, raw[at + 8 : at + 12])
        (n,) = struct.unpack("<Q", head)
        body = raw[at + 12 : at + 12 + n]
        assert len(body) == n
        check(body, raw[at + 12 + n : at + 16 + n])
        yield fields(body)
        at += 16 + n


def fields(raw):
    """{tag: [value]} of a message; numbers are decoded by their wire type, the rest is bytes."""
    def varint():
        nonlocal at
        value = shift = 0
        while True:
            b = raw[at]
            at += 1
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    found, at = {}, 0
    while at < len(raw):
        key = varint()
        if key & 7 == 0:
            value = varint()
        else:
            n = {1: 8, 5: 4}.get(key & 7) or varint()
            value, at = raw[at : at + n], at + n
            if key & 7 == 1:
                (value,) = struct.unpack("<d", value)
            elif key & 7 == 5:
                (value,) = struct.unpack("<f", value)
            else:
                assert key & 7 == 2 and len(value) == n
        found.setdefault(key >> 3, []).append(value)
    return found


def doubles(raw):
    return list(struct.unpack(f"<{len(raw) // 8}d", raw))


def event_file(folder):
    (path,) = pathlib.Path(folder).glob("events.out.tfevents.*")
    return path


def values(folder):
    """[(step, tag, fields of the value)]"""
    found = []
    for event in records(event_file(folder)):
        for summary in event.get(5, []):
            for value in fields(summary)[1]:
                value = fields(value)
                found.append((event.get(2, [None])[0], value[1][0].decode(), value))
    return found


def decode_png(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (n,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + n]
        assert struct.unpack(">I", png[at + 8 + n : at + 12 + n])[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + n
    width, height, bits, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert bits == 8 and not rows[:, 0].any() and b"IEND" in chunks
    return rows[:, 1:].reshape(height, width, channels)


# ---- what is in the files


def test_checksum():
    assert crc32c(b"123456789") == 0xE3069283 == events.crc32c(b"123456789")
    raw = bytes(range(256)) * 3
    assert events.crc32c(raw) == crc32c(raw) and events.crc32c(b"") == 0


def test_first_event_and_names(tmp_path):
    SummaryWriter(tmp_path / "run", filename_suffix=".mine").close()
    path = event_file(tmp_path / "run")
    (first,) = records(path)
    assert first[3] == [b"brain.Event:2"] and abs(first[1][0] - time.time()) < 60
    assert path.name.endswith(".mine") and len(path.name.split(".")[3]) == 10


def test_scalars(tmp_path):
    given = {0: 1.5, 1: tg.tensor(2.5, requires_grad=True), 2: np.float64(3), 3: 4, 4: tg.tensor([5]), 5: np.array([[6.0]]), 6: True}
    with SummaryWriter(tmp_path) as writer:
        assert writer.get_logdir() == writer.log_dir == str(tmp_path)
        for step, value in given.items():
            writer.add_scalar("loss/train", value, step, walltime=100.5 + step)
        writer.add_scalar("nan", math.nan, tg.tensor(7))
        writer.add_scalar("none", 1.0)
        writer.add_scalar("precise", 0.1, 2**40, double_precision=True)
        writer.add_scalar("new", 0.5, -1, new_style=True)
    found = values(tmp_path)
    assert [(s, t, v[2][0]) for s, t, v in found[:7]] == [(i, "loss/train", x) for i, x in enumerate([1.5, 2.5, 3, 4, 5, 6, 1])]
    assert [e[1][0] for e in records(event_file(tmp_path))][1:8] == [100.5 + i for i in range(7)]
    assert found[7][0] == 7 and math.isnan(found[7][2][2][0]) and found[8][0] is None
    step, _, precise = found[9]
    assert step == 2**40 and fields(precise[8][0]) == {1: [2], 6: [0.1]} and b"scalars" in precise[9][0]
    assert found[10][0] == 2**64 - 1 and fields(found[10][2][8][0]) == {1: [1], 5: [0.5]}


def test_scalars_side_by_side(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step in range(3):
            writer.add_scalars("run/14h", {"sin": math.sin(step), "cos": tg.tensor(math.cos(step))}, step)
    for name, f in (("sin", math.sin), ("cos", math.cos)):
        found = values(tmp_path / f"run_14h_{name}")
        assert [(s, t) for s, t, _ in found] == [(i, "run/14h") for i in range(3)]
        np.testing.assert_allclose([v[2][0] for *_, v in found], [f(i) for i in range(3)], rtol=1e-6)


@pytest.mark.parametrize("bins", ["tensorflow", "auto", 7, np.array([-10, 0, 10])])
def test_histogram(tmp_path, bins):
    x = tg.randn(1000, dtype=tg.float64)
    with SummaryWriter(tmp_path) as writer:
        writer.add_histogram("weights", x, 3, bins=bins)
    ((step, tag, value),) = values(tmp_path)
    h = fields(value[5][0])
    a = x.numpy()
    assert (step, tag) == (3, "weights") and h[3] == [1000]
    np.testing.assert_allclose([h[1][0], h[2][0], h[4][0], h[5][0]], [a.min(), a.max(), a.sum(), (a**2).sum()])
    limits, counts = doubles(h[6][0]), doubles(h[7][0])
    assert len(limits) == len(counts) and sum(counts) == 1000 and counts[0] == 0
    for i in range(1, len(limits)):  # a bucket holds what lies between two limits
        inside = (a >= limits[i - 1]) & ((a < limits[i]) if i < len(limits) - 1 else (a <= limits[i]))
        assert inside.sum() == counts[i]


@pytest.mark.oracle
@pytest.mark.parametrize("options", [{}, {"bins": 9}, {"bins": 9, "max_bins": 3}])
def test_histogram_is_pytorchs(tmp_path, options):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter as Theirs

    x = np.linspace(-2, 3, 500) ** 3
    found = []
    for folder, cls in (("mine", SummaryWriter), ("theirs", Theirs)):
        with cls(tmp_path / folder) as writer:
            writer.add_histogram("x", x, 1, **options)
            writer.add_histogram_raw("raw", 0.0, 3.0, 3, 4.0, 6.0, [1.0, 2.0, 4.0], [1, 1, 1], 2)
            writer.add_text("note", "*hello*", 4)
            writer.add_scalar("s", 0.25, 5)
        found.append([(s, t, {k: fields(v[5][0]) if k == 5 else b for k, b in v.items()}) for s, t, v in values(tmp_path / folder)])
    mine, theirs = found
    assert [m[:2] for m in mine] == [t[:2] for t in theirs]
    for (_, _, a), (_, _, b) in zip(mine, theirs):
        for part in (1, 2, 8):
            assert a.get(part) == b.get(part)
        for k in b.get(5, {}):
            np.testing.assert_allclose(*(doubles(h[5][k][0]) if k > 5 else h[5][k][0] for h in (a, b)), rtol=1e-12)


def test_text(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_text("note", "größer **x**", 4)
    ((step, tag, value),) = values(tmp_path)
    tensor = fields(value[8][0])
    assert (step, tag) == (4, "note/text_summary") and tensor[1] == [7] and tensor[8][0].decode() == "größer **x**"
    assert fields(fields(value[9][0])[1][0])[1] == [b"text"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_image(tmp_path, channels):
    x = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    with SummaryWriter(tmp_path) as writer:
        writer.add_image("HWC", x, 1, dataformats="HWC")
        writer.add_image("CHW", tg.from_numpy(x).permute(2, 0, 1), 2)
        writer.add_image("float", tg.from_numpy(x).permute(2, 0, 1).double() / 255 + 1e-9, 3)
        writer.add_image("HW", x[:, :, 0], 4, dataformats="HW")
    found = values(tmp_path)
    for step, tag, value in found:
        image = fields(value[4][0])
        png = decode_png(image[4][0])
        assert (image[1], image[2], image[3]) == ([5], [7], [png.shape[2]])
        np.testing.assert_array_equal(png, x[:, :, :1] if tag == "HW" else x)
        assert step == ["HWC", "CHW", "float", "HW"].index(tag) + 1


def test_images_in_a_grid(tmp_path):
    x = tg.arange(10).reshape(10, 1, 1, 1).expand(10, 3, 2, 4).to(tg.uint8)
    with SummaryWriter(tmp_path) as writer:
        writer.add_images("grid", x)
        writer.add_images("rows last", x.permute(0, 2, 3, 1), dataformats="NHWC")
        writer.add_image("out of range", tg.tensor([[[-1.0, 2.0, math.nan, 0.5]]]))
    first, second, clipped = (decode_png(fields(v[4][0])[4][0]) for *_, v in values(tmp_path))
    assert first.shape == (4, 32, 3) and (first == second).all()
    assert first[0, ::4, 0].tolist() == list(range(8)) and first[2, ::4, 1].tolist() == [8, 9] + [0] * 6
    assert clipped[0, :, 0].tolist() == [0, 255, 0, 127]


def test_figure(tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure = pyplot.figure(figsize=(2, 1), dpi=50)
    with SummaryWriter(tmp_path) as writer:
        writer.add_figure("plot", figure, 1)
    ((_, tag, value),) = values(tmp_path)
    image = fields(value[4][0])
    assert tag == "plot" and (image[1], image[2]) == ([50], [100]) and not pyplot.get_fignums()


def test_figure_by_its_method_alone(tmp_path):
    class Figure:
        def savefig(self, stream, format):
            stream.write(events.encode_png(np.zeros((3, 5, 4), np.uint8)))

    with SummaryWriter(tmp_path) as writer:
        writer.add_figure("plot", [Figure(), Figure()], 1, close=False)
    assert [(fields(v[4][0])[1], fields(v[4][0])[2]) for *_, v in values(tmp_path)] == [([3], [5])] * 2


def test_hparams(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_hparams({"lr": 0.1, "opt": "adam", "norm": True, "n": 3, "none": None}, {"accuracy": tg.tensor(0.5)}, run_name="a")
    found = values(tmp_path / "a")
    assert [t for _, t, _ in found] == ["_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info", "accuracy"]
    assert found[3][2][2] == [0.5]


def test_purge_step_close_and_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SummaryWriter(comment="-try", purge_step=20) as writer:
        writer.add_scalar("x", 1.0, 20)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-try")
    _, purge, _ = records(event_file(folder))
    assert purge[2] == [20] and fields(purge[7][0]) == {1: [1]}
    writer.add_scalar("x", 2.0, 21)  # opens a new file
    assert len(list(folder.iterdir())) == 2
    writer.flush()
    writer.close()
    writer.close()


def test_nothing_is_lost_when_the_program_ends_badly(tmp_path):
    program = "import os, sys; from tinygrad_cpp.utils.tensorboard import SummaryWriter\nw = SummaryWriter(sys.argv[1]); w.add_scalar('x', 1.0, 3); os._exit(1)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, env=os.environ)
    assert [(s, t) for s, t, _ in values(tmp_path)] == [(3, "x")]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda w: w.add_scalar("x", "a"), TypeError, "'a'"),
        (lambda w: w.add_scalar("x", tg.zeros(2)), TypeError, "one number"),
        (lambda w: w.add_histogram("x", tg.zeros(0)), ValueError, "got none"),
        (lambda w: w.add_histogram("x", [math.nan]), ValueError, "NaN"),
        (lambda w: w.add_histogram("x", [5.0], bins=[0, 1]), ValueError, "outside"),
        (lambda w: w.add_histogram_raw("x", 0, 1, 1, 1, 1, [1], [1, 2]), ValueError, "1 bucket_limits for 2"),
        (lambda w: w.add_image("x", tg.zeros(2, 3)), ValueError, r"'CHW' does not fit an image of size \[2, 3\]"),
        (lambda w: w.add_image("x", tg.zeros(2, 3, 3)), ValueError, "channels"),
        (lambda w: w.add_hparams({"a": object()}, {}), TypeError, "add_hparams"),
    ],
)
def test_errors(tmp_path, call, error, text):
    with SummaryWriter(tmp_path) as writer, pytest.raises(error, match=text) as caught:
        call(writer)
    assert isinstance(caught.value, tg.Error)


def test_graph_says_that_it_draws_nothing(tmp_path):
    with SummaryWriter(tmp_path) as writer, pytest.warns(UserWarning, match="draws nothing"):
        writer.add_graph(tg.nn.Linear(2, 2), tg.zeros(1, 2))


def test_tensorboard_reads_it(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    x = tg.randn(300)
    with SummaryWriter(tmp_path) as writer:
        for step in range(10):
            writer.add_scalar("loss", 1 / (step + 1), step, new_style=False)
        writer.add_scalar("precise", 0.1, 3, double_precision=True)
        writer.add_histogram("weights", x, 2)
        writer.add_text("note", "hello", 1)
        writer.add_image("image", tg.rand(3, 4, 5), 6)
        writer.add_hparams({"lr": 0.1, "opt": "adam", "norm": True}, {"accuracy": 0.5}, {"opt": ["adam", "sgd"]}, "a", 1)

    read = EventAccumulator(str(event_file(tmp_path)), {"tensors": 0, "images": 0, "histograms": 0})
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(i, float(np.float32(1 / (i + 1)))) for i in range(10)]
    (h,) = read.Histograms("weights")
    assert h.step == 2 and h.histogram_value.num == 300 and sum(h.histogram_value.bucket) == 300
    (image,) = read.Images("image")
    assert (image.step, image.width, image.height) == (6, 5, 4) and decode_png(image.encoded_image_string).shape == (4, 5, 3)
    (text,) = read.Tensors("note/text_summary")
    assert text.tensor_proto.string_val[0] == b"hello"
    assert read.Tensors("precise")[0].tensor_proto.double_val[0] == 0.1
    assert read.SummaryMetadata("note/text_summary").plugin_data.plugin_name == "text"

    read = EventAccumulator(str(event_file(tmp_path / "a")))
    read.Reload()
    start = metadata.parse_session_start_info_plugin_data(
        read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content)
    assert start.hparams["lr"].number_value == 0.1 and start.hparams["opt"].string_value == "adam" and start.hparams["norm"].bool_value
    experiment = metadata.parse_experiment_plugin_data(read.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content)
    assert [i.name for i in experiment.hparam_infos] == ["lr", "opt", "norm"]
    assert [v.string_value for v in experiment.hparam_infos[1].domain_discrete.values] == ["adam", "sgd"]
    assert experiment.metric_infos[0].name.tag == "accuracy"
    assert [(e.step, e.value) for e in read.Scalars("accuracy")] == [(1, 0.5)]
