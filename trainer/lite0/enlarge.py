"""Pairs of a photograph and what super-resolution makes of it, made smaller first.

    python enlarge.py PHOTOS OUT --n 40 [--seed 1] MODEL...

MODEL is the .param file of an ncnn network (Real-ESRGAN, RealSR, Real-CUGAN), the model.json of a Keras one for
TensorFlow.js (ESRGAN and RDN of npm's @upscalerjs), or the .json of a bank member whose `halve` is true. What enlarges
by how much is found by trying.

Writes OUT/fake/KIND/NAME.jpg, the enlarged pictures, OUT/real/KIND/NAME.jpg, the photographs, and the same pictures
again as KIND-plain, whose true side is the small picture enlarged by a plain filter: softness must not decide.
JPEG 95, 4:4:4; sides as make_pairs.py has them.
"""

import argparse
import json
import os
import random
import re

import cv2
import numpy as np
import torch
import torch.nn.functional as F

cv2.setNumThreads(1)
torch.set_num_threads(1)
FILTERS = [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]


def ncnn_network(path):
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    net.load_param(path)
    net.load_model(path.removesuffix("param") + "bin")
    cugan, professional = "cugan" in path.lower(), "pro" in os.path.basename(path).lower() or "models-pro" in path
    first, last = ("in0", "out0") if cugan else ("data", "output")

    def once(planes):
        # ncnn's matrix does not keep numpy's memory alive: both names must live until the clone is made.
        planes = np.ascontiguousarray(planes, dtype=np.float32)
        data = ncnn.Mat(planes).clone()
        run = net.create_extractor()
        run.input(first, data)
        return np.array(run.extract(last)[1])

    def enlarge(planes):
        if not cugan:
            return once(planes)
        # Convolutions without borders eat a margin, which is 18 or 14 pixels of what goes in.
        times = int(re.search(r"(?i)up(\d)x", path)[1])
        edge = {2: 18, 3: 14}[times]
        wide = np.pad(planes, ((0, 0), (edge, edge), (edge, edge)), "reflect")
        out = once(wide * 0.7 + 0.15 if professional else wide)
        out = (out - 0.15) / 0.7 if professional else out
        cut = (out.shape[1] - times * planes.shape[1]) // 2
        return out[:, cut : cut + times * planes.shape[1], cut : cut + times * planes.shape[2]]

    return enlarge


def keras_network(path):
    content = json.load(open(path))
    manifest = content["weightsManifest"]
    data = b"".join(open(os.path.join(os.path.dirname(path), f), "rb").read() for g in manifest for f in g["paths"])
    weights, at = {}, 0
    for w in (w for g in manifest for w in g["weights"]):
        n = int(np.prod(w["shape"]))
        packed = w.get("quantization", {"dtype": "float32", "scale": 1, "min": 0})
        values = np.frombuffer(data, packed["dtype"], n, at)
        at += values.nbytes
        values = values.astype(np.float32) * packed.get("scale", 1) + packed.get("min", 0)
        weights[w["name"]] = torch.tensor(values.reshape(w["shape"]))
    layers = content["modelTopology"]["model_config"]["config"]["layers"]

    def layer(kind, config, name, inputs):
        x = inputs[0]
        if kind == "Conv2D":
            x = F.conv2d(x, weights[name + "/kernel"].permute(3, 2, 0, 1), weights[name + "/bias"], padding="same")
            return activated(x, config["activation"])
        if kind == "Activation":
            return activated(x, config["activation"])
        if kind == "Concatenate":
            return torch.cat(inputs, 1)
        if kind == "Add":
            return sum(inputs)
        if kind == "UpSampling2D":
            return F.interpolate(x, scale_factor=config["size"][0], mode=config["interpolation"])
        if kind == "MultiplyBeta":
            return x * config.get("beta", 0.2)
        if kind.startswith("PixelShuffle"):
            # TensorFlow's depth_to_space has the place in a block before the channel.
            s, (n, c, h, w) = int(kind.removeprefix("PixelShuffle").removesuffix("x")), x.shape
            return x.reshape(n, s, s, c // s // s, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // s // s, h * s, w * s)
        raise SystemExit(f"{path}: layer of unknown kind {kind}")

    @torch.no_grad()
    def once(planes, white):
        known = {}
        for l in layers:
            inputs = [known[i[0]] for node in l["inbound_nodes"] for i in node]
            x = torch.tensor(planes * white, dtype=torch.float32)[None]
            known[l["name"]] = x if l["class_name"] == "InputLayer" else layer(l["class_name"], l["config"], l["name"], inputs)
        return (known[layers[-1]["name"]][0] / white).numpy()

    # White is 1 for some of them and 255 for others.
    grey = np.linspace(0.2, 0.8, 32 * 32).reshape(1, 32, 32).repeat(3, 0)
    white = min((1, 255), key=lambda v: abs(once(grey, v).mean() - 0.5))
    return lambda planes: once(planes, white)


def activated(x, name):
    return {"relu": F.relu, "linear": lambda x: x, "sigmoid": torch.sigmoid, "tanh": torch.tanh}[name](x)


def bank_network(path):
    from safetensors.torch import load_file

    weights = load_file(path.removesuffix("json") + "safetensors")

    def run(x, layers, prefix):
        for i, l in enumerate(layers):
            kind, key = l["layer"], f"{prefix}{i}"
            if kind == "normalise":
                x = (x - l["mean"]) / l["deviation"]
            elif kind == "conv":
                x = F.conv2d(x, weights[key + ".weight"], weights[key + ".bias"], padding=l["kernel"] // 2)
            elif kind == "conv_transpose":
                x = F.conv_transpose2d(x, weights[key + ".weight"], weights[key + ".bias"], stride=2, padding=1)
            elif kind == "residual":
                x = x + run(x, l["layers"], key + ".")
            elif kind == "pixel_shuffle":
                x = F.pixel_shuffle(x, l["factor"])
            else:
                x = {"relu": F.relu, "sigmoid": torch.sigmoid, "leaky_relu": lambda x: F.leaky_relu(x, l.get("slope"))}[kind](x)
        return x

    layers = json.load(open(path))["net"]["layers"]

    @torch.no_grad()
    def enlarge(planes):
        return run(torch.tensor(planes, dtype=torch.float32)[None], layers, "")[0].numpy()

    return enlarge


def network(path):
    if path.endswith(".param"):
        return ncnn_network(path)
    return keras_network(path) if os.path.basename(path) == "model.json" else bank_network(path)


def kind_of(path):
    """The last names of a path, without what all of them share."""
    stem = os.path.splitext(path.removesuffix("/model.json"))[0]
    name = "-".join(p for p in stem.split("/")[-(5 if path.endswith("model.json") else 3):] if p not in ("npm", "package", "models"))
    return "sr-" + re.sub(r"[^a-z0-9]+", "-", re.sub(r"upscalerjs-|-1\.0\.0|_ncnn_py|models-|sr_vulkan_model_|^.*site-packages-", "", name.lower()))


def liveliest(image, side, rng):
    """The crop with the most detail of four."""
    places = [(rng.randrange(image.shape[0] - side + 1), rng.randrange(image.shape[1] - side + 1)) for _ in range(4)]
    crops = [image[y : y + side, x : x + side] for y, x in places]
    return max(crops, key=lambda c: np.abs(np.diff(c.mean(2))).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("out")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--n", type=int, default=40, help="pairs of each model")
    parser.add_argument("--side", type=int, default=252, help="of the crops, a multiple of 12")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    np.random.seed(options.seed)
    files = [os.path.join(d, f) for d, _, fs in os.walk(options.photos, followlinks=True) for f in fs]
    files = sorted(f for f in files if f.lower().endswith((".jpg", ".jpeg", ".png")))
    for path in options.models:
        enlarge, kind, side, done = network(path), kind_of(path), options.side, 0
        times = enlarge(np.full((3, 48, 48), 0.5, np.float32)).shape[1] / 48
        if times not in (2, 3, 4):
            raise SystemExit(f"{path}: enlarges by {times:.2f}, not by 2, 3 or 4")
        rng.shuffle(files)
        for name in files:
            image = cv2.imread(name)
            scale = max(rng.uniform(0.5, 0.85), side / min(image.shape[:2]))
            if scale > 0.9:
                continue
            size = (max(side, round(image.shape[1] * scale)), max(side, round(image.shape[0] * scale)))
            crop = liveliest(cv2.resize(image, size, interpolation=cv2.INTER_AREA), side, rng)
            small = cv2.GaussianBlur(crop, (0, 0), 0.35 * times) if rng.random() < 0.5 else crop
            how = cv2.INTER_AREA if small is crop else cv2.INTER_LINEAR
            small = cv2.resize(small, None, fx=1 / times, fy=1 / times, interpolation=how)
            if rng.random() < 0.25:
                small = (small + np.random.normal(0, rng.uniform(0, 3), small.shape)).clip(0, 255).astype(np.uint8)
            if rng.random() < 0.25:
                small = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(75, 96)])[1], 1)
            planes = enlarge(small[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255)
            fake = (planes.transpose(1, 2, 0)[..., ::-1] * 255 + 0.5).clip(0, 255).astype(np.uint8)
            plain = cv2.resize(small, (side, side), interpolation=rng.choice(FILTERS))
            if fake.shape != crop.shape:
                raise SystemExit(f"{path}: gives {fake.shape} for {crop.shape}")
            if abs(fake.mean() - crop.mean()) > 8:  # Its brightness would give it away.
                continue
            for label, more, picture in ("real", "", crop), ("fake", "", fake), ("real", "-plain", plain), ("fake", "-plain", fake):
                folder = f"{options.out}/{label}/{kind}{more}"
                os.makedirs(folder, exist_ok=True)
                settings = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
                cv2.imwrite(f"{folder}/{kind}-{options.seed}-{done:05d}.jpg", picture, settings)
            done += 1
            if done == options.n:
                break
        print(f"{kind}: {done} pairs, enlarged by {times:.0f}", flush=True)


if __name__ == "__main__":
    main()
