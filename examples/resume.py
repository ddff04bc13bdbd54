"""Kills a training run again and again, starts it again each time, and compares it with one that was left alone.

python examples/resume.py [--kills 3] [--epochs 20] [--out .]   kills, compares, draws the losses of each life
python examples/resume.py --train FOLDER                        only trains: kill it, start it again
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tinygrad_cpp as tg
from tinygrad_cpp import nn
from tinygrad_cpp.utils.data import DataLoader, TensorDataset
from tinygrad_cpp.utils.plot import save_plot

DATA = Path(tg.__file__).parent / "data"


def train(folder, epochs, every):
    """Digits with dropout, a shuffled loader, AdamW and a falling rate; prints the SHA-256 of all weights."""
    tg.manual_seed(0)
    images = tg.load_npy(str(DATA / "digits_images.npy")).float() / 16  # (1797, 8, 8)
    labels = tg.load_npy(str(DATA / "digits_labels.npy")).long()
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = tg.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = tg.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    seen = {"loss": 0.0, "losses": []}
    training = tg.checkpoint.Training(
        model, optimizer, scheduler=scheduler, loader=loader, extra=seen, folder=folder, every=every
    )
    step = training.restore()
    print(f"from step {step}", flush=True)
    for epoch in range(loader.epoch, epochs):
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            seen["loss"] = 0.9 * seen["loss"] + 0.1 * loss.item()
            seen["losses"].append(loss.item())
            step += 1
            training.after(step)
        print(f"epoch {epoch}: step {step}, loss {seen['loss']:.4f}", flush=True)
    training.save(step)
    training.close()
    digest = hashlib.sha256()
    for name, t in model.state_dict().items():
        digest.update(name.encode() + t.numpy().tobytes())
    print("SHA-256", digest.hexdigest())


def start(folder, args):
    command = [sys.executable, __file__, "--train", folder, "--epochs", str(args.epochs), "--every", str(args.every)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def compare(args):
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        alone = start(f"{folder}/alone", args).communicate()[0].split()[-1]
        seconds = time.perf_counter() - begin
        print(f"left alone:  {alone} in {seconds:.1f} s")
        rng, lives = random.Random(args.seed), []
        for i in range(args.kills):
            run = start(f"{folder}/killed", args)
            first = run.stdout.readline().strip()
            time.sleep(rng.uniform(0, 0.6) * seconds / args.kills)
            how = ("kill", "terminate")[i % 2]
            getattr(run, how)()
            run.communicate()
            lives.append(int(first.split()[-1]))
            print(f"{first}, then {'SIGKILL' if how == 'kill' else 'SIGTERM'}: exit code {run.returncode}")
        lines = start(f"{folder}/killed", args).communicate()[0].splitlines()
        print(f"{lines[0]} to the end:  {lines[-1].split()[-1]}")
        lives.append(int(lines[0].split()[-1]))
        draw(f"{folder}/killed", lives, args.out / "resume.png")
        same = lines[-1].split()[-1] == alone
        print("the same bits" if same else "DIFFERENT")
        return 0 if same else 1


def draw(folder, lives, path):
    """The losses of a run, in another colour from each step that it was started again at."""
    losses = tg.load(max(Path(folder).glob("*.safetensors")))["extra"]["losses"]
    ends = [*lives[1:], len(losses)]
    curves = {
        f"from step {begin}": [v if begin <= i < end else float("nan") for i, v in enumerate(losses)]
        for begin, end in zip(lives, ends)
        if begin < end
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_plot(path, {"loss of the killed run": curves})
    print("wrote", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", metavar="FOLDER")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=int, default=10, help="steps between checkpoints")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the picture")
    args = parser.parse_args()
    if args.train:
        return train(args.train, args.epochs, args.every)
    return compare(args)


if __name__ == "__main__":
    sys.exit(main())
