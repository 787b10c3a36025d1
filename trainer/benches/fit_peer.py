"""The loop of `spotd-train fit` in PyTorch, as its users write it: DataLoader, torchvision, torch.optim.Adam.

    fit_peer.py DATA NET STEPS BATCH THREADS WORKERS BF16

Prints images a second over all steps. DATA is in the paper's layout. Blur and JPEG are Pillow's, which are
faster than the scipy and OpenCV ones of the paper.
"""

import glob
import io
import random
import sys
import time
from pathlib import Path

import torch
import torchvision
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

data, net, steps, batch, threads, workers, bf16 = sys.argv[1:]
steps, batch, bf16 = int(steps), int(batch), bf16 == "true"
torch.set_num_threads(int(threads))
torch.manual_seed(1)

finish = transforms.Compose(
    [
        transforms.RandomCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
resize = transforms.Resize(256)


class Pictures(Dataset):
    def __init__(self, root):
        endings = {".jpg", ".jpeg", ".png"}
        # glob follows links to folders, as the other side does.
        files = sorted(Path(p) for p in glob.glob(f"{root}/**/*", recursive=True))
        files = [p for p in files if p.suffix.lower() in endings and {"0_real", "1_fake"} & set(p.parts)]
        self.items = [(p, float("1_fake" in p.parts)) for p in files]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, at):
        path, label = self.items[at]
        picture = resize(Image.open(path).convert("RGB"))
        if random.random() < 0.5:
            picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0, 3)))
        if random.random() < 0.5:
            out = io.BytesIO()
            picture.save(out, "jpeg", quality=random.randint(30, 100))
            picture = Image.open(out).convert("RGB")
        return finish(picture), label


loader = DataLoader(Pictures(data), batch, shuffle=True, num_workers=int(workers))
model = getattr(torchvision.models, net)(num_classes=1).train()
optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)


def batches():
    while True:
        yield from loader


start = time.monotonic()
seen = 0
for step, (x, y) in enumerate(batches()):
    if step == steps:
        break
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(x)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float().squeeze(1), y.float())
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    loss.item()
    seen += len(y)
print(f"{seen / (time.monotonic() - start):.2f}")
