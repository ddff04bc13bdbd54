"""Small programs as tutorials have them, run with PyTorch and with this package from the same weights and data.

Each takes the module called torch and returns numbers, which must agree. Weights and data come from NumPy.
"""

import copy
import io
import math
import random
from collections import OrderedDict, deque, namedtuple

import numpy as np
import pytest
import tinygrad_cpp as tg

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle


def floats(torch, *shape, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).randn(*shape).astype(np.float32))


def ints(torch, high, *shape, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).randint(0, high, shape))


def with_weights(torch, module, seed=0, scale=0.3):
    """The module with weights that depend on the seed alone."""
    rng = np.random.RandomState(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.from_numpy(scale * rng.randn(*p.shape)))
    return module


def validation_loop(torch):
    """A Dataset of dictionaries with a transform; training, validation, early stopping, the best weights."""
    import importlib

    nn, data = torch.nn, importlib.import_module(f"{torch.__name__}.utils.data")

    class Points(data.Dataset):
        def __init__(self, n, transform=None):
            self.x = np.random.RandomState(n).randn(n, 2).astype(np.float32)
            self.transform = transform

        def __len__(self):
            return len(self.x)

        def __getitem__(self, i):
            sample = {"point": self.x[i], "label": int(self.x[i].prod() > 0)}
            return self.transform(sample) if self.transform else sample

    def to_tensor(sample):
        return {"point": torch.from_numpy(sample["point"]), "label": torch.tensor(sample["label"])}

    train, val = data.DataLoader(Points(60, to_tensor), batch_size=16), data.DataLoader(Points(20), batch_size=8)
    layers = OrderedDict([("fc1", nn.Linear(2, 16)), ("act", nn.ReLU()), ("fc2", nn.Linear(16, 2))])
    model = with_weights(torch, nn.Sequential(layers))
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    out, best, best_state = [], float("inf"), None
    for _ in range(6):
        model.train()
        running = 0.0
        for batch in train:
            optimizer.zero_grad()
            loss = criterion(model(batch["point"]), batch["label"])
            loss.backward()
            optimizer.step()
            running += loss.item() * batch["point"].size(0)
        model.eval()
        correct, held_out = 0, 0.0
        with torch.no_grad():
            for batch in val:
                output = model(batch["point"])
                held_out += criterion(output, batch["label"]).item()
                correct += (torch.max(output.data, 1)[1] == batch["label"]).sum().item()
        scheduler.step(held_out)
        if held_out < best:
            best, best_state = held_out, copy.deepcopy(model.state_dict())
        out += [running / len(train.dataset), held_out, correct, optimizer.param_groups[0]["lr"]]
    model.load_state_dict(best_state)
    return out + model.fc2.bias.tolist()


def residual_network(torch):
    """Blocks with a shortcut, batch norm, Nesterov momentum, label smoothing; a checkpoint taken up again."""
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, inside, outside, stride=1):
            super().__init__()
            self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outside)
            self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(outside)
            self.relu = nn.ReLU(inplace=True)
            self.shortcut = nn.Sequential()
            if stride != 1 or inside != outside:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
                )

        def forward(self, x):
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            out += self.shortcut(x)
            return self.relu(out)

    def make():
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False),
            Block(4, 4),
            Block(4, 8, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
        return model, optimizer

    def steps(model, optimizer, count):
        x, y, losses = floats(torch, 4, 3, 12, 12), ints(torch, 5, 4), []
        for _ in range(count):
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    model, optimizer = make()
    with_weights(torch, model)
    out = steps(model, optimizer, 2)
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 2}, buffer)
    buffer.seek(0)
    checkpoint = torch.load(buffer, map_location="cpu", weights_only=True)
    again, other = make()
    again.load_state_dict(checkpoint["model"])
    other.load_state_dict(checkpoint["optimizer"])
    out += steps(again, other, 2)
    assert steps(model, optimizer, 2) == out[2:] and checkpoint["epoch"] == 2
    return out + again.eval()(floats(torch, 2, 3, 12, 12, seed=9)).flatten().tolist()


def attention_translator(torch):
    """A bidirectional GRU encoder and a decoder that attends to its states."""
    nn, F = torch.nn, torch.nn.functional

    class Encoder(nn.Module):
        def __init__(self, vocab, hidden):
            super().__init__()
            self.embedding = nn.Embedding(vocab, hidden)
            self.gru = nn.GRU(hidden, hidden, bidirectional=True)
            self.fc = nn.Linear(2 * hidden, hidden)

        def forward(self, source):
            outputs, hidden = self.gru(self.embedding(source))
            return outputs, torch.tanh(self.fc(torch.cat((hidden[-2], hidden[-1]), dim=1)))

    class Decoder(nn.Module):
        def __init__(self, vocab, hidden):
            super().__init__()
            self.embedding = nn.Embedding(vocab, hidden)
            self.score = nn.Linear(3 * hidden, 1)
            self.cell = nn.GRUCell(3 * hidden, hidden)
            self.fc = nn.Linear(4 * hidden, vocab)

        def forward(self, token, hidden, states):
            repeated = hidden.unsqueeze(0).repeat(states.shape[0], 1, 1)
            weights = F.softmax(self.score(torch.cat((repeated, states), dim=2)).squeeze(2), dim=0)
            context = torch.bmm(weights.t().unsqueeze(1), states.permute(1, 0, 2)).squeeze(1)
            embedded = self.embedding(token)
            hidden = self.cell(torch.cat((embedded, context), dim=1), hidden)
            return self.fc(torch.cat((hidden, context, embedded), dim=1)), hidden

    encoder, decoder = with_weights(torch, Encoder(11, 6)), with_weights(torch, Decoder(11, 6), 1)
    source, target = ints(torch, 11, 6, 3), ints(torch, 11, 5, 3, seed=1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
    out = []
    for _ in range(3):
        states, hidden = encoder(source)
        outputs, token = torch.zeros(5, 3, 11), target[0]
        for t in range(1, 5):
            output, hidden = decoder(token, hidden, states)
            outputs[t] = output
            token = target[t] if t % 2 else output.argmax(1)
        loss = F.cross_entropy(outputs[1:].view(-1, 11), target[1:].reshape(-1), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        out += [loss.item(), nn.utils.clip_grad_norm_(encoder.parameters(), 1.0).item()]
        optimizer.step()
    return out


def packed_tagger(torch):
    """Sentences of different lengths through a packed bidirectional LSTM."""
    nn, rnn = torch.nn, torch.nn.utils.rnn
    embedding = with_weights(torch, nn.Embedding(15, 6, padding_idx=0))
    lstm = with_weights(torch, nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True), 1)
    head = with_weights(torch, nn.Linear(10, 4), 2)
    sentences = [ints(torch, 14, n, seed=n) + 1 for n in (5, 3, 7)]
    x, lengths = rnn.pad_sequence(sentences, batch_first=True), torch.tensor([5, 3, 7])
    y = rnn.pad_sequence([ints(torch, 4, n, seed=n) for n in (5, 3, 7)], batch_first=True, padding_value=-1)
    optimizer = torch.optim.Adamax([*embedding.parameters(), *lstm.parameters(), *head.parameters()], lr=0.01)
    out = []
    for _ in range(3):
        packed = rnn.pack_padded_sequence(embedding(x), lengths, batch_first=True, enforce_sorted=False)
        states, (h, c) = lstm(packed)
        states, sizes = rnn.pad_packed_sequence(states, batch_first=True)
        loss = nn.functional.cross_entropy(head(states).reshape(-1, 4), y.view(-1), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(loss.item())
    return out + h.flatten().tolist() + c.sum(0).flatten().tolist() + sizes.tolist()


def gan_with_gradient_penalty(torch):
    """The critic's loss holds the norm of its own gradient, so backward goes through a backward."""
    nn, autograd = torch.nn, torch.autograd
    G = with_weights(torch, nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2, inplace=True), nn.Linear(16, 2)))
    D = with_weights(torch, nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)), 1)
    for_g, for_d = (torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.5, 0.9)) for m in (G, D))
    out = []
    for step in range(4):
        real, fake = floats(torch, 8, 2, seed=step), G(floats(torch, 8, 4, seed=step + 50)).detach()
        alpha = torch.linspace(0, 1, 8).view(8, 1).expand_as(real)
        between = autograd.Variable(alpha * real.data + (1 - alpha) * fake.data, requires_grad=True)
        scores = D(between)
        gradient = autograd.grad(
            outputs=scores, inputs=between, grad_outputs=torch.ones(scores.size()),
            create_graph=True, retain_graph=True, only_inputs=True,
        )[0]  # fmt: skip
        penalty = ((gradient.norm(2, dim=1) - 1) ** 2).mean() * 10
        loss = D(fake).mean() - D(real).mean() + penalty
        for_d.zero_grad()
        loss.backward()
        for_d.step()
        for p in D.parameters():
            p.requires_grad = False
        fooled = -D(G(floats(torch, 8, 4, seed=step + 90))).mean()
        for_g.zero_grad()
        fooled.backward()
        for_g.step()
        D.requires_grad_(True)
        out += [loss.item(), penalty.item(), fooled.item()]
    return out


def physics_informed_network(torch):
    """Burgers' equation: first and second derivatives of a network by its inputs, in float64."""
    nn, grad = torch.nn, torch.autograd.grad
    net = with_weights(torch, nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 1)).double())
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")
    x, t = (torch.from_numpy(np.random.RandomState(s).rand(16, 1)).requires_grad_() for s in (0, 1))
    out = []

    def closure():
        optimizer.zero_grad()
        u = net(torch.cat((x, t), 1))
        u_t = grad(u, t, torch.ones_like(u), create_graph=True)[0]
        u_x = grad(u.sum(), x, create_graph=True)[0]
        u_xx = grad(u_x, x, grad_outputs=torch.ones_like(u_x), create_graph=True)[0]
        start = net(torch.cat([x, torch.zeros_like(t)], -1)) + torch.sin(math.pi * x)
        loss = ((u_t + u * u_x - 0.01 / math.pi * u_xx) ** 2).mean() + start.pow(2).mean()
        loss.backward()
        out.append(loss.item())
        return loss

    for _ in range(2):
        optimizer.step(closure)
    return out


def deep_q_learning(torch):
    """A replay memory, states without a successor, a target network that follows slowly."""
    nn = torch.nn
    Transition = namedtuple("Transition", "state action next_state reward")
    policy = with_weights(torch, nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)))
    target = copy.deepcopy(policy)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3, amsgrad=True)
    memory, rng = deque(maxlen=100), np.random.RandomState(0)
    for i in range(30):
        state = torch.tensor(rng.randn(4), dtype=torch.float32).unsqueeze(0)
        after = None if i % 7 == 0 else torch.tensor(rng.randn(4).tolist()).unsqueeze(0)
        with torch.no_grad():
            greedy = policy(state).max(1).indices.view(1, 1)
        action = greedy if i % 2 else torch.tensor([[rng.randint(2)]], dtype=torch.long)
        memory.append(Transition(state, action, after, torch.tensor([float(i % 3)])))
    out = []
    for _ in range(4):
        batch = Transition(*zip(*random.Random(0).sample(memory, 16)))
        goes_on = torch.tensor(tuple(s is not None for s in batch.next_state), dtype=torch.bool)
        values = torch.zeros(16)
        with torch.no_grad():
            values[goes_on] = target(torch.cat([s for s in batch.next_state if s is not None])).max(1).values
        chosen = policy(torch.cat(batch.state)).gather(1, torch.cat(batch.action))
        loss = nn.SmoothL1Loss()(chosen, (values * 0.99 + torch.cat(batch.reward)).unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(policy.parameters(), 100)
        optimizer.step()
        slow, fast = target.state_dict(), policy.state_dict()
        for key in fast:
            slow[key] = fast[key] * 0.05 + slow[key] * 0.95
        target.load_state_dict(slow)
        out.append(loss.item())
    return out + target[0].weight.flatten().tolist()


def class_activation_map(torch):
    """Forward and backward hooks that pick up features and their gradients."""
    nn = torch.nn
    layers = [
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    ]
    model, features, gradients = with_weights(torch, nn.Sequential(*layers)), {}, {}

    def keep(name):
        def hook(module, inputs, output):
            features[name] = output.detach()

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in model.named_children()]
    handles.append(model[2].register_full_backward_hook(lambda module, gi, go: gradients.update(conv=go[0])))
    handles.append(model[0].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,)))
    x = floats(torch, 1, 1, 8, 8).requires_grad_()
    scores = model(x)
    scores[0, scores.argmax(dim=1).item()].backward()
    weights = gradients["conv"].mean(dim=(2, 3), keepdim=True)
    cam = torch.relu((weights * features["2"]).sum(1))
    for handle in handles:
        handle.remove()
    return [
        *features["5"].flatten().tolist(),
        *cam.flatten().tolist(),
        *x.grad.flatten().tolist(),
        *model(x)[0].tolist(),
    ]


def masked_language_model(torch):
    """A pre-norm Transformer encoder with padding masks; targets of -100 count for nothing."""
    nn = torch.nn
    layer = nn.TransformerEncoderLayer(12, 3, 24, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, num_layers=2, norm=nn.LayerNorm(12), enable_nested_tensor=False)
    parts = {"embed": nn.Embedding(20, 12, padding_idx=0), "encoder": encoder, "head": nn.Linear(12, 20)}
    model = with_weights(torch, nn.ModuleDict(parts))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=0.01)
    out = []
    for step in range(3):
        tokens = ints(torch, 18, 4, 10, seed=step) + 1
        tokens[0, 7:] = 0
        labels, padding = tokens.clone(), tokens == 0
        hidden = (torch.from_numpy(np.random.RandomState(step).rand(4, 10)) < 0.3) & ~padding
        labels[~hidden] = -100
        states = model["encoder"](model["embed"](tokens.masked_fill(hidden, 19)), src_key_padding_mask=padding)
        loss = nn.functional.cross_entropy(model["head"](states).transpose(1, 2), labels, ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(loss.item())
    return out


def own_optimizer_and_function(torch):
    """A subclass of Optimizer with state, one of the learning-rate schedule, and a straight-through sign."""

    class Lion(torch.optim.Optimizer):
        def __init__(self, params, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.0):
            super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

        @torch.no_grad()
        def step(self, closure=None):
            with torch.enable_grad():
                loss = closure() if closure is not None else None
            for group in self.param_groups:
                for p in group["params"]:
                    state = self.state[p]
                    if len(state) == 0:
                        state["mean"] = torch.zeros_like(p)
                    p.data.mul_(1 - group["lr"] * group["weight_decay"])
                    b1, b2 = group["betas"]
                    p.add_((state["mean"] * b1 + p.grad * (1 - b1)).sign_(), alpha=-group["lr"])
                    state["mean"].mul_(b2).add_(p.grad, alpha=1 - b2)
            return loss

    class WarmUp(torch.optim.lr_scheduler.LRScheduler):
        def get_lr(self):
            return [base * min(1.0, (self.last_epoch + 1) / 4) for base in self.base_lrs]

    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, width):
            ctx.save_for_backward(x)
            ctx.width = width
            return x.sign()

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            return gradient * (x.abs() <= ctx.width).type_as(gradient), None

    weight = floats(torch, 4, 3).requires_grad_()
    optimizer = Lion([weight], weight_decay=0.1)
    scheduler, out = WarmUp(optimizer), []

    def closure():
        optimizer.zero_grad()
        loss = (floats(torch, 6, 4, seed=1) @ Sign.apply(weight, 0.9) - 1).square().mean() + weight.square().mean()
        loss.backward()
        return loss

    for _ in range(5):
        out += [optimizer.step(closure).item(), *scheduler.get_last_lr()]
        scheduler.step()
    return out + weight.flatten().tolist() + [len(optimizer.state_dict()["state"])]


def own_loss(torch):
    """A loss derived from the class behind the library's own, with flattened gradients as averaging across programs has."""
    import importlib

    losses = importlib.import_module(f"{torch.__name__}.nn.modules.loss")
    helpers = importlib.import_module(f"{torch.__name__}._utils")

    class Dice(losses._WeightedLoss):
        def forward(self, logits, target):
            p = torch.softmax(logits, 1) * self.weight
            loss = 1 - 2 * (p * target).sum(1) / (p + target).sum(1)
            return loss if self.reduction == "none" else getattr(loss, self.reduction)()

    class Old(losses._Loss):
        def forward(self, x):
            return getattr(x, self.reduction)()

    net = with_weights(torch, torch.nn.Linear(3, 4))
    target = torch.eye(4)[ints(torch, 4, 5)]
    criterion = Dice(weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    criterion(net(floats(torch, 5, 3)), target).backward()
    grads = [p.grad for p in net.parameters()]
    flat = helpers._flatten_dense_tensors(grads)
    again = helpers._unflatten_dense_tensors(flat, grads)
    old = Old(size_average=False)(torch.ones(3))
    return flat.tolist() + [float((a - b).abs().sum()) for a, b in zip(again, grads)] + [old.item()]


def texts(torch):
    """What programs print and look for in messages."""
    nn = torch.nn
    shown = [torch.ones(2, 3).shape, torch.max(torch.tensor([[1.0, 2.0], [4.0, 3.0]]), 1), torch.Size([]) + (3,)]
    shown += [torch.sort(torch.tensor([[2.0, 1.0], [4.0, 3.0]]))]
    shown += [nn.Sequential(nn.ParameterList([torch.ones(2), torch.ones(2, 3)])), nn.ParameterList([torch.ones(2)])]
    try:
        nn.Linear(2, 3).load_state_dict({"weight": torch.ones(3, 4), "extra": torch.ones(1)})
    except RuntimeError as error:
        shown.append(str(error).replace(". \n", ".\n"))
    return [str(x).replace(torch.__name__ + ".", "").replace("load_state_dict: ", "") for x in shown]


@pytest.mark.parametrize(
    "program",
    [
        validation_loop,
        own_loss,
        residual_network,
        attention_translator,
        packed_tagger,
        gan_with_gradient_penalty,
        physics_informed_network,
        deep_q_learning,
        class_activation_map,
        masked_language_model,
        own_optimizer_and_function,
    ],
    ids=lambda f: f.__name__,
)
def test_program(program):
    got, want = program(tg), program(torch)
    assert len(got) == len(want)
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-5)


def test_texts():
    assert texts(tg) == texts(torch)
