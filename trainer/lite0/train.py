"""Trains EfficientNet-lite0 from ImageNet weights to tell generated pictures from real ones.

    python code.py PAIRS CODED                  # a part of them as video codecs leave them, to lie beside the others
    python train.py --data DATA --pairs PAIRS [--real DIR ...] [--graphics DIR] [--start lite0.pt] --minutes 60 --out new.pt
    python export.py new.pt spotd-lite.onnx

lite0.pt holds the newest weights, in float16.

A trial, until the trainer has this network itself (docs/TRAINING.md says what came of it).

DATA/real/KIND and DATA/fake/KIND hold pictures; PAIRS/real/KIND and PAIRS/fake/KIND pictures of the same names, of
which the second was redrawn by a decoder or enlarged by super-resolution (enlarge.py). Content must not decide: small
crops; more than a third of each batch are pairs, and a third sets whose sides have one origin.
"""

import argparse
import os
import random
import time
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F

from network import Network

PAIRS_A_BATCH = 8
# What the kinds of pairs by enlarge.py begin with.
SUPER_RESOLUTION = "sr-"
# Sides of one origin: real kinds, generated kinds. Photorealistic pictures and frames of video, which are seldom found,
# more often.
MATCHED = [
    *[(["web-photo"], ["web-ai"])] * 2,
    (["stylegan1-256"], ["stylegan1-256"]),
    (["ffhq"], ["stylegan2", "stylegan2-ffhq"]),
    *[(["video-sd-controlavideo", "video-sd-flatten", "video-sd-vidtome"],) * 2] * 3,
]
# Kinds of real pictures beside them; cameras, which are few, more often.
REAL = ["imagenet", "bsds", "ffhq", "web-photo"] + ["canon", "phone"] * 3 + ["png-photo"] * 2
FAKE = ["dalle-mini", "latent-diffusion", "glid3xl", "gpt-image", "gpt-social", "sdxl-flux"]


def pictures(folder):
    if not os.path.isdir(folder):
        return []
    names = sorted(n for n in os.listdir(folder) if n.lower().endswith((".jpg", ".jpeg", ".png")))
    return [os.path.join(folder, n) for n in names]


def is_held_out(path):
    return zlib.crc32(os.path.basename(path).encode()) % 10 == 0


class Draw:
    """Draws pairs of a true and a generated crop, both degraded in the same way."""

    def __init__(self, options):
        self.random = random.Random(options.seed)
        self.options = options
        self.look_again()
        at = lambda side, kinds: [f for k in kinds for f in pictures(os.path.join(options.data, side, k))]
        self.matched = [(at("real", r), at("fake", f)) for r, f in MATCHED]
        self.matched = [(r, f) for r, f in self.matched if r and f]
        self.real = [v for v in [at("real", [k]) for k in REAL] + [pictures(d) for d in options.real] if v]
        self.fake = [v for v in [at("fake", [k]) for k in FAKE] if v]

    def look_again(self):
        """The pairs and graphics that there are by now: they may be made while training runs."""
        self.graphics = pictures(self.options.graphics) if self.options.graphics else []
        self.graphic = set(self.graphics)
        folder = self.options.pairs
        kinds = sorted(os.listdir(os.path.join(folder, "fake")))
        fakes = {k: pictures(os.path.join(folder, "fake", k)) for k in kinds}
        true = lambda f, k: os.path.join(folder, "real", k, os.path.basename(f))
        both = {k: [(true(f, k), f) for f in v if os.path.exists(true(f, k))] for k, v in fakes.items()}
        families = [[k for k in kinds if k.startswith(SUPER_RESOLUTION) == s] for s in (False, True)]
        kept = [[[p for p in both[k] if not is_held_out(p[1])] for k in f] for f in families]
        # Decoders and super-resolution by turns, however many kinds there are of each.
        self.pairs = [f for f in [[v for v in f if v] for f in kept] if f]
        self.held_out = [[p for k in f for p in [p for p in both[k] if is_held_out(p[1])][: 48 // len(f) + 1]] for f in families]

    def files(self):
        u = self.random.random()
        if self.graphics and u > 0.92:
            return self.random.choice(self.graphics), self.random.choice(self.random.choice(self.fake)), False
        if u < 0.36:
            kinds = self.random.choice(self.pairs)
            return *self.random.choice(self.random.choice(kinds)), True
        if u < 0.7:
            real, fake = self.random.choice(self.matched)
            return self.random.choice(real), self.random.choice(fake), False
        return self.random.choice(self.random.choice(self.real)), self.random.choice(self.random.choice(self.fake)), False

    def degradation(self):
        """A change of scale for a sixth; then a video codec for 36 %, JPEG for 46 %, or nothing."""
        r, steps = self.random, []
        if r.random() < 0.15:
            steps.append(("scale", r.choice([r.uniform(0.7, 0.95), r.uniform(1.1, 2)])))
        return steps + self.compression()

    def compression(self):
        r, u = self.random, self.random.random()
        if u < 0.36:
            before = [("jpeg", r.randint(60, 95))] if r.random() < 0.3 else []
            return before + [("video", (*self.codec(), self.moves()))]
        return [("jpeg", r.randint(30, 96))] if u < 0.82 else []

    def codec(self):
        """Encoder, its options, and how coarsely it quantises."""
        r, u = self.random, self.random.random()
        if u < 0.75:
            return "libx264", {"crf": str(r.randint(18, 42)), "preset": r.choice(["ultrafast", "veryfast", "medium"])}
        if u < 0.88:
            return "mpeg4", {"q": r.randint(2, 14)}
        options = "pools=none:frame-threads=1:wpp=0:log-level=none"
        return "libx265", {"crf": str(r.randint(20, 40)), "preset": "ultrafast", "x265-params": options}

    def moves(self):
        """How the picture moves before the frame that is taken, a frame: still for a key frame alone."""
        r = self.random
        return [(r.randint(-3, 3), r.randint(-3, 3)) for _ in range(r.randint(1, 4))] if r.random() < 0.4 else []

    def sharpness(self):
        """For half of the crops, each side by itself: softer or sharper, so that softness does not decide; or doubled by
        repetition."""
        r = self.random
        if r.random() < 0.03:
            return [("doubled", 2)]
        return [("sharpen", (r.uniform(0.5, 1.6), r.uniform(-0.7, 1.2)))] if r.random() < 0.5 else []

    def softness(self):
        """Rendered pictures are sharper than any lens: as they are, blurred, enlarged or shrunk."""
        r, u = self.random, self.random.random()
        if u < 0.25:
            return []
        if u < 0.6:
            return [("blur", r.uniform(0.5, 2.5))]
        return [("scale", r.choice([2, r.uniform(1.2, 2.4), 0.5]))]

    def batch(self, side):
        crops = []
        while len(crops) < 2 * PAIRS_A_BATCH:
            real, fake, same = self.files()
            steps, place, flip = self.degradation(), self.place(), self.random.random() < 0.5
            # Strong compression alone speaks for a real picture: cameras are coded so, and it must raise no alarm.
            alone = [("video", (*self.codec(), self.moves()))] if self.random.random() < 0.12 else steps
            soft = self.softness() if real in self.graphic else self.sharpness()
            # Enlarged by a plain filter: softness must not speak for super-resolution.
            if not same and self.random.random() < 0.07:
                soft = soft + [("scale", self.random.uniform(1.2, 2.2))]
            a = crop_of(real, soft + alone, place, flip, side)
            # Pairs share theirs until they are told apart.
            other = soft if same and self.options.same_sharpness else self.sharpness()
            b = crop_of(fake, other + steps, place if same else self.place(), flip, side)
            if a is not None and b is not None:
                crops += [a, b]
        return tensor(crops)

    def place(self):
        return self.random.random(), self.random.random()


def cut(image, side, place):
    height, width = image.shape[:2]
    if min(height, width) < side:
        image = cv2.copyMakeBorder(image, 0, max(0, side - height), 0, max(0, side - width), cv2.BORDER_REFLECT)
        height, width = image.shape[:2]
    x, y = int(place[0] * (width - side)), int(place[1] * (height - side))
    return image[y : y + side, x : x + side]


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


CODECS = {"libx264": "h264", "libx265": "hevc", "mpeg4": "mpeg4"}


def moved(image, moves):
    """The frames of a picture that moves so, as many as moves and one; the last is its middle."""
    edge = 3 * len(moves)
    height, width = image.shape[0] - 2 * edge, image.shape[1] - 2 * edge
    x = y = edge
    frames = [image[y : y + height, x : x + width]]
    for dx, dy in reversed(moves):
        x, y = x + dx, y + dy
        frames.insert(0, image[y : y + height, x : x + width])
    return frames


def video(image, encoder, options, moves):
    """The picture as a key frame of that encoder, or as the last frame of a movement, decoded again: 4:2:0, even sides."""
    images = moved(image, moves if min(image.shape[:2]) >= 200 else [])
    height, width = (n & ~1 for n in images[0].shape[:2])
    coder = av.CodecContext.create(encoder, "w")
    coder.width, coder.height, coder.pix_fmt = width, height, "yuv420p"
    coder.time_base, coder.thread_count = Fraction(1, 25), 1
    if "q" in options:
        coder.qmin = coder.qmax = options["q"]
    else:
        coder.options = options
    packets = []
    for n, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="bgr24")
        frame.pts = n
        packets += coder.encode(frame)
    decoder = av.CodecContext.create(CODECS[encoder], "r")
    decoder.thread_count = 1
    frames = [f for p in packets + coder.encode(None) for f in decoder.decode(p)] + decoder.decode(None)
    return frames[-1].to_ndarray(format="bgr24")


def crop_of(path, steps, place, flip, side):
    image = cv2.imread(path)
    if image is None:
        return None
    image = cut(image, min(side + 80, max(side, min(image.shape[:2]))), place)
    for kind, value in steps:
        if kind == "jpeg":
            image = jpeg(image, value)
        elif kind == "video":
            image = video(image, *value)
        elif kind == "blur":
            image = cv2.GaussianBlur(image, (0, 0), value)
        elif kind == "doubled":
            image = np.repeat(np.repeat(image, 2, 0), 2, 1)
        elif kind == "sharpen":
            sigma, amount = value
            image = cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), sigma), -amount, 0)
        else:
            how = cv2.INTER_AREA if value < 1 else cv2.INTER_CUBIC
            image = cv2.resize(image, None, fx=value, fy=value, interpolation=how)
    image = cut(image, side, place)
    return image[:, ::-1] if flip else image


def tensor(crops):
    rgb = np.ascontiguousarray(np.stack(crops)[..., ::-1].transpose(0, 3, 1, 2))
    return (torch.tensor(rgb, dtype=torch.float32) / 255).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def watch(network, held_out):
    """Of held-out pairs at JPEG 95 and 75: the share of pictures on the right side, and of pairs in the right order."""
    if not held_out:
        return "none"
    network.eval()
    crops = lambda f, quality: cut(jpeg(cv2.imread(f), quality), 128, (0.5, 0.5))
    pairs = lambda quality: torch.stack([network(tensor([crops(a, quality), crops(b, quality)])) for a, b in held_out])
    found = []
    for logits in pairs(95), pairs(75):
        right = ((logits[:, 0] < 0).float() + (logits[:, 1] > 0).float()).mean() / 2
        found.append(f"{right:.2f} {(logits[:, 1] > logits[:, 0]).float().mean():.2f}")
    network.train()
    return ", ".join(found)


@torch.no_grad()
def follow(average, network, step):
    keep = min(0.998, step / (step + 50))
    for mean, now in zip(average.state_dict().values(), network.state_dict().values()):
        mean.lerp_(now, 1 - keep) if mean.dtype.is_floating_point else mean.copy_(now)


def save(network, path):
    torch.save(network.state_dict(), path + ".part")
    os.replace(path + ".part", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--real", action="append", default=[], help="a further folder of true pictures")
    parser.add_argument("--graphics", help="a folder of rendered true pictures")
    parser.add_argument("--start", help="weights of an earlier run instead of ImageNet's")
    parser.add_argument("--same-sharpness", action="store_true", help="both sides of a pair are softened or sharpened alike")
    parser.add_argument("--short", action="store_true", help="the first eleven of sixteen blocks")
    parser.add_argument("--side", type=int, default=160, help="of the crops, in pixels")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    draw = Draw(options)
    network = Network(options.short, imagenet=not options.start)
    if options.start:
        network.load_state_dict(torch.load(options.start))
    network = network.to(memory_format=torch.channels_last)
    average = Network(options.short, imagenet=False)
    average.load_state_dict(network.state_dict())
    fresh = list(network.head.parameters()) + list(network.fc.parameters())
    known = [p for n, p in network.named_parameters() if not n.startswith(("head", "fc"))]
    groups = [{"params": known, "times": 1}, {"params": fresh, "times": 4}]
    optimiser = torch.optim.AdamW(groups, options.rate, weight_decay=0.01)
    begun, saved, step, losses = time.time(), time.time(), 0, []
    network.train()
    while (done := (time.time() - begun) / 60 / options.minutes) < 1:
        for group in optimiser.param_groups:
            cosine = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done))
            group["lr"] = group["times"] * options.rate * min(1, (step + 1) / 50) * cosine
        logits = network(draw.batch(options.side))
        labels = torch.tensor([0.0, 1.0] * PAIRS_A_BATCH)
        # Each picture by itself, and of the two the generated one above the other.
        loss = F.binary_cross_entropy_with_logits(logits, labels) + 0.5 * F.softplus(logits[::2] - logits[1::2]).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2)
        optimiser.step()
        step += 1
        follow(average, network, step)
        losses.append(loss.item())
        if step % 200 == 0:
            draw.look_again()
            decoders, super_resolution = (watch(network, pairs) for pairs in draw.held_out)
            print(f"{step} {time.time() - begun:.0f} s loss {np.mean(losses[-200:]):.3f}; held-out pairs on the right side, "
                  f"in order, at JPEG 95, 75: decoders {decoders}; super-resolution {super_resolution}", flush=True)
        if time.time() - saved > 300:
            save(average, options.out)
            saved = time.time()
    save(average, options.out)


if __name__ == "__main__":
    main()
