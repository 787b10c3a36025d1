"""Pictures as a video codec leaves them: python code.py PICTURES OUT [--of 3]

PICTURES/SIDE/KIND/NAME becomes OUT/SIDE/KIND/NAME.jpg: a key frame of x264 (of x265 for a fifth) at a CRF of 20 to 40,
decoded again by GStreamer. Codec and CRF follow from the name, so that both sides of a pair are coded alike. A network that
never saw strong compression takes what it leaves for a generator's work.
"""

import argparse
import os
import random
import subprocess
import sys

import cv2

ENCODERS = {
    "x264": "x264enc pass=qual quantizer={crf} threads=1 ! avdec_h264 max-threads=1",
    "x265": "x265enc option-string=crf={crf}:pools=none:frame-threads=1:wpp=0:info=0 ! h265parse ! avdec_h265 max-threads=1",
}


def code(source, target):
    draw = random.Random(os.path.splitext(os.path.basename(source))[0])
    encoder = "x264" if draw.random() < 0.8 else "x265"
    crf = draw.choice([draw.randint(20, 30), draw.randint(28, 40)])
    image = cv2.imread(source)
    if image is None:
        return False
    # 4:2:0 needs even sides.
    image = image[: image.shape[0] & ~1, : image.shape[1] & ~1]
    way = ENCODERS[encoder].format(crf=crf)
    text = f"fdsrc ! pngdec ! videoconvert ! video/x-raw,format=I420 ! {way} ! videoconvert ! jpegenc quality=97 ! filesink"
    png = cv2.imencode(".png", image)[1].tobytes()
    os.makedirs(os.path.dirname(target), exist_ok=True)
    done = subprocess.run(["gst-launch-1.0", "-q", *text.split(), f'location="{target}.part"'], input=png, capture_output=True, check=False)
    if done.returncode == 0 and os.path.getsize(target + ".part"):
        os.replace(target + ".part", target)
        return True
    print(f"{source}: {encoder}: {done.stderr.decode().strip() or 'no picture came out'}", file=sys.stderr)
    if os.path.exists(target + ".part"):
        os.remove(target + ".part")
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures")
    parser.add_argument("out")
    parser.add_argument("--of", type=int, default=1, metavar="N", help="every Nth picture of a kind, by name")
    options = parser.parse_args()
    coded = 0
    for folder, _, names in sorted(os.walk(options.pictures, followlinks=True)):
        pictures = [n for n in sorted(names) if n.lower().endswith((".jpg", ".jpeg", ".png"))]
        for name in pictures[:: options.of]:
            target = os.path.join(options.out, os.path.relpath(folder, options.pictures), os.path.splitext(name)[0] + ".jpg")
            coded += os.path.exists(target) or code(os.path.join(folder, name), target)
    print(f"{options.out}: {coded} pictures")
    return 0 if coded else 2


if __name__ == "__main__":
    sys.exit(main())
