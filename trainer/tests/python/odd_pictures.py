"""Pictures of every unusual kind, in the paper's layout.

    odd_pictures.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

out = Path(sys.argv[1])
rng = np.random.default_rng(1)


def base(fake):
    picture = rng.normal(128, 30, (70, 80, 3))
    picture[::4] += 40 if fake else 0
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


for kind, fake in (("0_real", False), ("1_fake", True)):
    folder = out / kind
    folder.mkdir(parents=True)
    base(fake).convert("L").save(folder / "grey.png")
    base(fake).convert("LA").save(folder / "grey-alpha.png")
    base(fake).convert("RGBA").save(folder / "alpha.png")
    base(fake).convert("P").save(folder / "palette.png")
    base(fake).convert("1").save(folder / "bilevel.png")
    grey = np.asarray(base(fake).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "sixteen.png")
    base(fake).convert("L").save(folder / "grey.jpg")
    base(fake).convert("CMYK").save(folder / "cmyk.jpg")
    base(fake).save(folder / "progressive.jpg", progressive=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    base(fake).save(folder / "rotated.jpg", exif=exif)
    whole = folder / "whole.jpg"
    base(fake).save(whole)
    (folder / "cut.jpg").write_bytes(whole.read_bytes()[:900])
    base(fake).resize((1, 1)).save(folder / "one.png")
    (folder / "text.jpg").write_text("no picture")
