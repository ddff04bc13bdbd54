"""REINFORCE on a pole that is to be balanced on a cart; the physics is written out below.

python examples/python/reinforce.py [--episodes 300] [--gamma 0.99] [--lr 0.01]
"""

import argparse
import math
import random

import tinygrad_cpp as torch
import tinygrad_cpp.nn as nn
import tinygrad_cpp.optim as optim
from tinygrad_cpp.distributions import Categorical


class CartPole:
    """A cart of 1 kg on a track, a pole of 0.1 kg and 1 m hinged to it; pushes of 10 N to the left or right.

    The state is (place, speed, angle, turning speed). Each step of 20 ms that ends with the cart within 2.4 m of the
    middle and the pole within 12 degrees of upright earns 1; an episode ends when it falls or after 200 steps.
    """

    def __init__(self, seed):
        self.random = random.Random(seed)

    def reset(self):
        self.state = [self.random.uniform(-0.05, 0.05) for _ in range(4)]
        self.time = 0
        return self.state

    def step(self, action):
        place, speed, angle, turning = self.state
        force = 10.0 if action == 1 else -10.0
        cart, pole, half = 1.0, 0.1, 0.5
        sin, cos = math.sin(angle), math.cos(angle)
        pushed = (force + pole * half * turning**2 * sin) / (cart + pole)
        turning_rate = (9.8 * sin - cos * pushed) / (half * (4 / 3 - pole * cos**2 / (cart + pole)))
        rate = pushed - pole * half * turning_rate * cos / (cart + pole)
        change = (speed, rate, turning, turning_rate)
        self.state = [s + 0.02 * d for s, d in zip(self.state, change)]
        self.time += 1
        fallen = abs(self.state[0]) > 2.4 or abs(self.state[2]) > math.radians(12)
        return self.state, 1.0, fallen or self.time >= 200


class Policy(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2))

    def forward(self, state):
        return Categorical(logits=self.net(state))


def play(policy, world):
    """One episode: log-probabilities of the actions taken, entropies, rewards."""
    state, done = world.reset(), False
    log_probs, entropies, rewards = [], [], []
    while not done:
        actions = policy(torch.tensor(state))
        action = actions.sample()
        log_probs.append(actions.log_prob(action))
        entropies.append(actions.entropy())
        state, reward, done = world.step(action.item())
        rewards.append(reward)
    return torch.stack(log_probs), torch.stack(entropies), rewards


def discounted(rewards, gamma):
    """What each step earns from there on, scaled to mean 0 and deviation 1."""
    returns, ahead = [], 0.0
    for reward in reversed(rewards):
        ahead = reward + gamma * ahead
        returns.append(ahead)
    returns = torch.tensor(returns[::-1])
    return (returns - returns.mean()) / (returns.std(unbiased=False) + 1e-8)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--lr", type=float, default=1e-2)
    args = parser.parse_args()

    torch.manual_seed(0)
    policy, world = Policy(), CartPole(seed=0)
    optimizer = optim.Adam(policy.parameters(), lr=args.lr)
    lengths = []
    for episode in range(1, args.episodes + 1):
        log_probs, entropies, rewards = play(policy, world)
        loss = -(log_probs * discounted(rewards, args.gamma)).sum() - 0.01 * entropies.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lengths.append(len(rewards))
        if episode % 20 == 0 or episode == args.episodes:
            recent = lengths[-20:]
            print(f"episode {episode:4d}  loss {loss.item():8.3f}  steps {sum(recent) / len(recent):6.1f}", flush=True)
    recent = lengths[-50:]
    print(f"balanced for {sum(recent) / len(recent):.1f} of 200 steps on average over the last {len(recent)} episodes")


if __name__ == "__main__":
    main()
