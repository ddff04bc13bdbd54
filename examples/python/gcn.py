"""A graph convolutional network: nodes of a small generated graph get their group from a few labelled ones.

python examples/python/gcn.py [--epochs 100] [--nodes 240] [--hidden 16]
"""

import argparse

import numpy as np
import tinygrad_cpp as torch
import tinygrad_cpp.nn as nn
import tinygrad_cpp.nn.functional as F


class GraphConvolution(nn.Module):
    """adjacency @ (x @ weight) + bias, with a sparse (N, N) adjacency."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adjacency):
        return torch.spmm(adjacency, torch.mm(x, self.weight)) + self.bias

    def extra_repr(self):
        return f"{self.weight.shape[0]} -> {self.weight.shape[1]}"


class GCN(nn.Module):
    def __init__(self, features, hidden, classes, dropout=0.3):
        super().__init__()
        self.gc1 = GraphConvolution(features, hidden)
        self.gc2 = GraphConvolution(hidden, classes)
        self.dropout = dropout

    def forward(self, x, adjacency):
        x = F.relu(self.gc1(x, adjacency))
        x = F.dropout(x, self.dropout, training=self.training)
        return F.log_softmax(self.gc2(x, adjacency), dim=1)


def make_graph(nodes, groups=4, features=24, seed=0):
    """Groups that are dense inside and thin between; features that say little about the group.

    Returns x (nodes, features), the normalised sparse adjacency D^-1/2 (A + I) D^-1/2 and labels (nodes,).
    """
    rng = np.random.RandomState(seed)
    labels = rng.randint(groups, size=nodes)
    inside = labels[:, None] == labels[None, :]
    linked = np.triu(rng.rand(nodes, nodes) < np.where(inside, 6.0 * groups, 4.0) / nodes, 1)
    row, col = np.nonzero(linked | linked.T | np.eye(nodes, dtype=bool))
    degree = np.bincount(row, minlength=nodes)
    values = torch.from_numpy(1 / np.sqrt(degree[row] * degree[col])).float()
    adjacency = torch.sparse_coo_tensor(torch.from_numpy(np.stack([row, col])), values, (nodes, nodes))
    centres = 0.3 * rng.randn(groups, features)
    x = torch.from_numpy(centres[labels] + rng.randn(nodes, features)).float()
    return x, adjacency, torch.from_numpy(labels).long()


def accuracy(output, labels):
    return output.max(1)[1].type_as(labels).eq(labels).double().mean().item()


def train(model, graph, train_nodes, val_nodes, epochs):
    x, adjacency, labels = graph
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    losses = []
    for epoch in range(1, epochs + 1):
        model.train()
        optimizer.zero_grad()
        loss = F.nll_loss(model(x, adjacency)[train_nodes], labels[train_nodes])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if epoch % 10 == 0 or epoch in (1, epochs):
            model.eval()
            with torch.no_grad():
                right = accuracy(model(x, adjacency)[val_nodes], labels[val_nodes])
            print(f"epoch {epoch:4d}  loss {loss.item():.4f}  validation {right:.2%}", flush=True)
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in dict(epochs=100, nodes=240, hidden=16).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()

    torch.manual_seed(0)
    graph = x, adjacency, labels = make_graph(args.nodes)
    train_nodes, val_nodes, test_nodes = torch.arange(args.nodes).tensor_split((args.nodes // 6, args.nodes // 2))
    model = GCN(x.shape[1], args.hidden, int(labels.max()) + 1)
    print(model)
    train(model, graph, train_nodes, val_nodes, args.epochs)

    model.eval()
    with torch.no_grad():
        right = accuracy(model(x, adjacency)[test_nodes], labels[test_nodes])
    print(f"accuracy {right:.2%} on {len(test_nodes)} nodes without a label")


if __name__ == "__main__":
    main()
