"""A CUDA device as the default: what is made there, where the default ends, and what is not touched by it."""

import threading

import pytest
import tinygrad_cpp as tg

nn = tg.nn


def made() -> list[tg.Tensor]:
    return [
        tg.tensor([1.0, 2]),
        tg.as_tensor([1]),
        tg.zeros(2),
        tg.full((2,), 3),
        tg.arange(3),
        tg.rand(2),
        tg.randint(0, 5, (3,)),
        tg.randperm(4),
        tg.eye(2),
        tg.linspace(0, 1, 3),
        tg.tril_indices(2, 2),
        tg.hann_window(4),
        tg.zeros(2, device=None),
    ]


def test_factories_make_tensors_there():
    with tg.device("cuda"):
        assert {t.device for t in made()} == {tg.device("cuda:0")} == {tg.get_default_device()}
        assert tg.ones(1, device="cpu").device.type == "cpu"  # what is said wins
        x = tg.ones(2, device="cpu")
        assert tg.zeros_like(x).is_cuda is False and x.new_zeros(2).is_cuda is False  # as is where a tensor says it
    assert {t.device.type for t in made()} == {"cpu"}


def test_values_are_those_of_the_cpu():
    tg.manual_seed(3)
    here = made()
    tg.manual_seed(3)
    with tg.device("cuda"):
        there = made()
    assert all(a.tolist() == b.tolist() and a.dtype == b.dtype for a, b in zip(here, there))


def test_blocks_nest_and_end_with_errors():
    with tg.device("cuda"):
        with tg.device("cpu"):
            assert tg.zeros(1).device.type == "cpu"
        with pytest.raises(KeyError), tg.device("cpu"):
            raise KeyError
        assert tg.zeros(1).is_cuda
    with pytest.raises(tg.DeviceError, match="cuda:9"), tg.device("cuda:9"):
        pass
    assert tg.get_default_device() == tg.device("cpu")


def test_default_is_set_for_one_thread():
    seen = []
    try:
        tg.set_default_device("cuda")
        assert tg.zeros(1).is_cuda and tg.get_default_device() == tg.device("cuda:0")
        other = threading.Thread(target=lambda: seen.append(tg.zeros(1).device.type))
        other.start()
        other.join()
        with pytest.raises(tg.DeviceError, match="cuda:9"):
            tg.set_default_device("cuda:9")
        assert tg.zeros(1).is_cuda  # an error leaves it
    finally:
        tg.set_default_device(None)
    assert seen == ["cpu"] and tg.zeros(1).device.type == "cpu"


LAYERS = [
    lambda: nn.Linear(3, 2),
    lambda: nn.Bilinear(2, 2, 2),
    lambda: nn.Conv2d(1, 2, 3),
    lambda: nn.ConvTranspose1d(1, 2, 3),
    lambda: nn.BatchNorm1d(3),
    lambda: nn.LayerNorm(3),
    lambda: nn.GroupNorm(1, 2),
    lambda: nn.RMSNorm(2),
    lambda: nn.Embedding(4, 2),
    lambda: nn.PReLU(),
    lambda: nn.LSTM(2, 3),
    lambda: nn.GRUCell(2, 3),
    lambda: nn.MultiheadAttention(4, 2),
    lambda: nn.TransformerEncoderLayer(4, 2, 8),
]


@pytest.mark.parametrize("make", LAYERS)
def test_modules_are_made_there(make):
    tg.manual_seed(1)
    here = make()
    tg.manual_seed(1)
    with tg.device("cuda"):
        there = make()
    state = there.state_dict()
    assert state and all(t.is_cuda for t in state.values())
    assert all(state[k].cpu().equal(v) for k, v in here.state_dict().items())  # initialised to the same bits


def test_training_runs_under_the_default():
    with tg.device("cuda"):
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
        optimizer = tg.optim.Adam(net.parameters(), lr=0.05)
        x, y = tg.randn(16, 4), tg.randint(0, 3, (16,))
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_loader_and_files_work_under_the_default(tmp_path):
    data = tg.utils.data.TensorDataset(tg.arange(10.0))
    with tg.device("cuda"):
        seen = [b for (b,) in tg.utils.data.DataLoader(data, batch_size=5, shuffle=True)]
        assert sorted(tg.cat(seen).tolist()) == list(range(10))
        tg.save({"w": tg.ones(2), "c": tg.ones(2, device="cpu")}, tmp_path / "a.pt")
        back = tg.load(tmp_path / "a.pt")
    assert back["w"].tolist() == [1, 1] and back["c"].device.type == "cpu"


def test_the_number_of_a_device_names_it():
    assert tg.zeros(1, device=0).device == tg.device("cuda:0") == tg.device(0)
    assert tg.ones(1).to(0).is_cuda and tg.ones(1).cuda(0).is_cuda and tg.ones(1).cuda("cuda:0").is_cuda
    with pytest.raises(tg.ValueError, match="expected a cuda device"):
        tg.ones(1).cuda("cpu")


def test_files_know_the_device(tmp_path):
    w = tg.arange(6.0, device="cuda").reshape(2, 3)
    tg.save({"w": w, "row": w[1]}, tmp_path / "a.pt")
    back = tg.load(tmp_path / "a.pt")
    assert back["w"].is_cuda and back["row"].tolist() == [3, 4, 5]
    back["w"].zero_()
    assert back["row"].tolist() == [0, 0, 0]  # still one memory
    assert not tg.load(tmp_path / "a.pt", map_location="cpu")["w"].is_cuda
    elsewhere = tmp_path / "b.pt"
    tensors, metadata = tg.serialization.lay_out([w])
    tg._C._save_safetensors(tensors, {**metadata, "devices": '{"0": "cuda:9"}'}, str(elsewhere))
    with pytest.raises(tg.DeviceError, match="cuda:9.*map_location='cpu'"):
        tg.load(elsewhere)
    assert tg.load(elsewhere, map_location="cpu")[0].tolist() == w.tolist()
    for damaged in ("[", "[1]", '{"0": 1}'):
        tg._C._save_safetensors(tensors, {**metadata, "devices": damaged}, str(elsewhere))
        with pytest.raises(tg.FormatError, match="devices"):
            tg.load(elsewhere)


@pytest.mark.parametrize("background", [False, True])
def test_a_run_resumes_exactly(tmp_path, background):
    x, y = tg.randn(32, 4, device="cuda"), tg.randn(32, 1, device="cuda")

    def run(folder, until: int) -> list[float]:
        tg.manual_seed(7)
        net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1)).to("cuda")
        optimizer = tg.optim.AdamW(net.parameters(), lr=0.01)
        losses = []
        training = tg.checkpoint.Training(net, optimizer, folder=folder, every=1, background=background)
        with training:
            for step in range(training.restore() + 1, until + 1):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(net(x), y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                training.after(step)
        return losses

    whole = run(tmp_path / "whole", 6)
    assert run(tmp_path / "cut", 3) + run(tmp_path / "cut", 6) == whole
