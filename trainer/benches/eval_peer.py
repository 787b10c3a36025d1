"""The other side of tools/bench-eval.sh, and its arithmetic.

    eval_peer.py loop NET WORK BATCH THREADS   CNNDetection's demo_dir.py: DataLoader, torchvision, sigmoid over the
                                               files of WORK/all.csv
    eval_peer.py ours WORK COMMAND...          the same of a command that takes a list
    eval_peer.py lists DATA N WORK             writes WORK/all.csv (N pictures) and WORK/two.csv, and links the N into
                                               WORK/pictures
    eval_peer.py weights NET FILE              a torchvision state dict of random weights, one output
    eval_peer.py table                         medians of the lines that the rounds made

`loop` and `ours` print images a second of the clock and of the processor, start-up taken away.
"""

import csv
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path


def read(path):
    with open(path, newline="") as file:
        return [(row["path"], row["label"] == "fake") for row in csv.DictReader(file)]


def lists(data, n, work):
    endings = {".jpg", ".jpeg", ".png"}
    sides = []
    for name, label in (("0_real", "real"), ("1_fake", "fake")):
        files = sorted(
            p.resolve() for folder in Path(data).rglob(name) for p in folder.rglob("*") if p.suffix.lower() in endings
        )
        files = list(dict.fromkeys(files))
        # Evenly over everything that is there.
        want = int(n) // 2
        if len(files) < want:
            sys.exit(f"{data}: {len(files)} {label} pictures, {want} are wanted")
        sides.append([(files[at * len(files) // want], label) for at in range(want)])
    for name, count in (("all", int(n) // 2), ("two", 1)):
        with open(Path(work) / f"{name}.csv", "w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["path", "label", "set"])
            for side in sides:
                out.writerows([path, label, "bench"] for path, label in side[:count])
    pictures = Path(work) / "pictures"
    pictures.mkdir()
    for at, (path, _) in enumerate(sides[0] + sides[1]):
        (pictures / f"{at:05}{path.suffix}").symlink_to(path)


def spent():
    total = 0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


def ours(work, *command):
    times = []
    for name in ("two", "all"):
        start, before = time.monotonic(), spent()
        subprocess.run([*command, str(Path(work) / f"{name}.csv")], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        times.append((time.monotonic() - start, spent() - before))
    n = len(read(Path(work) / "all.csv")) - 2
    print(*("%.3f" % (n / (whole - little)) for whole, little in zip(times[1], times[0])))


def weights(net, path):
    import torch
    import torchvision

    torch.manual_seed(1)
    torch.save(getattr(torchvision.models, net)(num_classes=1).state_dict(), path)


def loop(net, work, batch, threads):
    import torch
    import torchvision
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    torch.set_num_threads(int(threads))
    transform = transforms.Compose(
        [
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    class Pictures(Dataset):
        def __init__(self):
            self.items = read(Path(work) / "all.csv")

        def __len__(self):
            return len(self.items)

        def __getitem__(self, at):
            path, label = self.items[at]
            return transform(Image.open(path).convert("RGB")), label

    model = getattr(torchvision.models, net)(num_classes=1)
    model.load_state_dict(torch.load(Path(work) / f"{net}.pth"))
    model.eval()
    # As ours: the first batch, in which libraries set themselves up, does not count.
    with torch.no_grad():
        model(torch.zeros(2, 3, 224, 224))
    start, before, seen = time.monotonic(), spent(), 0
    scores = []
    with torch.no_grad():
        for x, y in DataLoader(Pictures(), int(batch), num_workers=int(threads)):
            scores += model(x).sigmoid().flatten().tolist()
            seen += len(y)
    clock, processor = time.monotonic() - start, spent() - before
    assert seen == len(scores)
    print("%.3f %.3f" % (seen / clock, seen / processor))


def table():
    rounds = {}
    for line in sys.stdin:
        row, *figures = line.split()
        rounds.setdefault(row, []).append([float(f) for f in figures])
        print(f"{row}: {' '.join(figures)}", file=sys.stderr)
    print("| network | spotd eval | images/s | PyTorch float32, images/s | ratio | a second of the processor: ours | PyTorch | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for row, rows in rounds.items():
        net, precision = row.split("|")
        a, b, c, d = (statistics.median(column) for column in zip(*rows))
        wall = statistics.median(row[0] / row[2] for row in rows)
        processor = statistics.median(row[1] / row[3] for row in rows)
        print(f"| {net} | {precision} | {a:.2f} | {c:.2f} | {wall:.2f} | {b:.2f} | {d:.2f} | {processor:.2f} |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    {f.__name__: f for f in (lists, ours, weights, loop, table)}[sys.argv[1]](*sys.argv[2:])
