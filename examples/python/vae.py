"""A variational autoencoder of the 8x8 handwritten digits; at the end it draws digits of its own.

python examples/python/vae.py [--epochs 20] [--latent 8] [--data FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
import tinygrad_cpp as torch
import tinygrad_cpp.nn as nn
import tinygrad_cpp.nn.functional as F
from tinygrad_cpp.utils.data import DataLoader, TensorDataset, random_split


class VAE(nn.Module):
    def __init__(self, latent=8, hidden=128):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU())
        self.mu = nn.Linear(hidden, latent)
        self.log_var = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 64))

    def forward(self, x):
        h = self.encoder(x)
        mu, log_var = self.mu(h), self.log_var(h)
        # The sample is a function of mu and log_var, so that gradients reach both.
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var) if self.training else mu
        return self.decoder(z).view_as(x), mu, log_var


def elbo_loss(x, logits, mu, log_var):
    """The negative evidence lower bound, in nats per image: reconstruction and distance to the prior."""
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    divergence = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
    return (reconstruction + divergence) / x.size(0)


def load_data(folder):
    images = torch.from_numpy(np.load(folder / "digits_images.npy")).float().unsqueeze(1) / 16
    return TensorDataset(images)


def train(model, loader, optimizer):
    model.train()
    total = 0.0
    for (x,) in loader:
        optimizer.zero_grad()
        loss = elbo_loss(x, *model(x))
        loss.backward()
        optimizer.step()
        total += loss.item() * x.size(0)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    return sum(elbo_loss(x, *model(x)).item() * x.size(0) for (x,) in loader) / len(loader.dataset)


def draw(images, shades=" .:*#"):
    """Images side by side as text."""
    rows = (images.squeeze(1).clamp(0, 0.999) * len(shades)).long().permute(1, 0, 2).tolist()
    return "\n".join("  ".join("".join(shades[v] * 2 for v in image) for image in row) for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--data", type=Path, default=Path(torch.__file__).parent / "data")
    args = parser.parse_args()

    torch.manual_seed(0)
    train_set, test_set = random_split(load_data(args.data), [1500, 297], generator=torch.Generator().manual_seed(0))
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=297)
    model = VAE(args.latent)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, args.epochs + 1):
        loss = train(model, train_loader, optimizer)
        print(f"epoch {epoch:3d}  loss {loss:.3f}  held out {evaluate(model, test_loader):.3f}", flush=True)

    with torch.no_grad():
        print(draw(torch.sigmoid(model.decoder(torch.randn(6, args.latent))).view(6, 1, 8, 8)))
    print(f"held-out bound {evaluate(model, test_loader):.3f} nats per image")


if __name__ == "__main__":
    main()
