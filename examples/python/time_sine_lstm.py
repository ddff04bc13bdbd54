"""Two LSTM cells learn sine waves by LBFGS, then continue waves they have not seen.

python examples/python/time_sine_lstm.py [--steps 8] [--waves 40] [--length 100]
"""

import argparse

import numpy as np
import tinygrad_cpp as torch
import tinygrad_cpp.nn as nn
import tinygrad_cpp.optim as optim


class Sequence(nn.Module):
    """Reads (N, T) values, answers with T + future: each the guess of the next value."""

    def __init__(self, hidden=32):
        super().__init__()
        self.hidden = hidden
        self.lstm1 = nn.LSTMCell(1, hidden)
        self.lstm2 = nn.LSTMCell(hidden, hidden)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, input, future=0):
        zeros = torch.zeros(input.size(0), self.hidden, dtype=input.dtype, device=input.device)
        state1, state2 = (zeros, zeros), (zeros, zeros)
        inputs, outputs = list(input.split(1, dim=1)), []
        for t in range(len(inputs) + future):
            x = inputs[t] if t < len(inputs) else outputs[-1]
            state1 = self.lstm1(x, state1)
            state2 = self.lstm2(state1[0], state2)
            outputs.append(self.linear(state2[0]))
        return torch.cat(outputs, dim=1)


def make_waves(count, length, period=20.0, seed=2):
    """Sine waves of one period that start anywhere, (count, length) in float64."""
    start = np.random.RandomState(seed).uniform(-4 * period, 4 * period, (count, 1))
    return torch.from_numpy(np.sin((np.arange(length) + start) * 2 * np.pi / period))


def train(model, waves, steps, lr=0.8):
    x, y = waves[:, :-1], waves[:, 1:]
    criterion = nn.MSELoss()
    optimizer = optim.LBFGS(model.parameters(), lr=lr, max_iter=10, line_search_fn="strong_wolfe")
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        return loss

    for step in range(1, steps + 1):
        losses.append(optimizer.step(closure).item())
        print(f"step {step:3d}  loss {losses[-1]:.3e}", flush=True)
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in dict(steps=8, waves=40, length=100).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()

    torch.manual_seed(0)
    future = args.length // 2
    waves = make_waves(args.waves, args.length + future)
    held_out = max(1, args.waves // 10)
    model = Sequence().double()
    train(model, waves[held_out:, : args.length], args.steps)

    with torch.no_grad():
        seen = waves[:held_out, : args.length]
        continued = model(seen, future=future)[:, args.length - 1 : -1]
        error = (continued - waves[:held_out, args.length :]).pow(2).mean().sqrt().item()
    print(" ".join(f"{v:+.2f}" for v in continued[0, :12].tolist()))
    print(f"root mean square error {error:.4f} over {future} values continued freely")


if __name__ == "__main__":
    main()
