"""Draws pictures that no camera took and no generator made: titles, test patterns, charts and gradients, as feeds show them.

    python graphics.py OUT NUMBER SEED

For train.py's --graphics, and with another seed to see how many of them are flagged.
"""

import os
import random
import sys

import cv2
import numpy as np

WORDS = (
    "LIVE NEWS please stand by camera 4 no signal breaking weather market index 12:45 London Berlin test 1080p rec "
    "studio interview with the minister results 48.2 % sports scores traffic update emergency line call now"
).split()
FONTS = [cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX,
         cv2.FONT_HERSHEY_PLAIN]
SIZES = [(360, 640), (480, 640), (540, 960), (720, 1280)]


class Drawing:
    def __init__(self, seed):
        self.random, self.numbers = random.Random(seed), np.random.RandomState(seed)

    def colour(self):
        return tuple(self.random.randint(0, 255) for _ in range(3))

    def point(self, image):
        return self.random.randint(0, image.shape[1]), self.random.randint(0, image.shape[0])

    def edges(self):
        return self.random.choice([cv2.LINE_AA, cv2.LINE_8])

    def gradient(self, height, width):
        r = self.random
        one, other = np.array(self.colour(), float), np.array(self.colour(), float)
        y, x = np.mgrid[:height, :width]
        angle, kind = r.random() * 6.3, r.choice(["line", "ring", "wave"])
        if kind == "line":
            share = np.cos(angle) * x / width + np.sin(angle) * y / height
        elif kind == "ring":
            share = np.hypot(x - width * r.random(), y - height * r.random()) / width
        else:
            share = 0.5 + 0.5 * np.sin(x * r.uniform(0.005, 0.05) + y * r.uniform(0.005, 0.05))
        share = np.clip(share, 0, 1)[..., None]
        return (one * (1 - share) + other * share).astype(np.uint8)

    def ground(self, height, width):
        if self.random.random() < 0.35:
            return self.gradient(height, width)
        colours = [(0, 0, 0), (255, 255, 255), self.colour(), self.colour()]
        return np.full((height, width, 3), self.random.choice(colours), np.uint8)

    def pattern(self, height, width):
        """Bars, a chequerboard, a zone plate, a pinwheel, a grid or a gradient."""
        r, kind = self.random, self.random.randint(0, 5)
        y, x = np.mgrid[:height, :width]
        one, other = np.array(self.colour()), np.array(self.colour())
        if kind == 0:
            bars = r.choice([7, 8, 11])
            colours = np.array([self.colour() for _ in range(bars)], np.uint8)
            return colours[np.minimum(x * bars // width, bars - 1)]
        if kind == 1:
            side = r.choice([1, 2, 4, 8, 16, 40])
            return np.where(((x // side + y // side) % 2)[..., None], one, other).astype(np.uint8)
        if kind == 2:
            far = (x - width / 2) ** 2 + (y - height / 2) ** 2
            return np.repeat((127 + 127 * np.sin(far * r.uniform(0.0005, 0.01)))[..., None], 3, 2).astype(np.uint8)
        if kind == 3:
            angle, far = np.arctan2(y - height / 2, x - width / 2), np.hypot(x - width / 2, y - height / 2)
            wheel = np.sin(angle * r.randint(4, 16) + far * r.uniform(0, 0.03)) > 0
            return np.where(wheel[..., None], one, other).astype(np.uint8)
        if kind == 4:
            image, side = self.ground(height, width), r.choice([16, 32, 60])
            image[::side] = self.colour()
            image[:, ::side] = self.colour()
            return image
        return self.gradient(height, width)

    def shapes(self, image):
        r, edges = self.random, self.edges()
        height, width = image.shape[:2]
        for _ in range(r.randint(1, 25)):
            colour, thick, kind = self.colour(), r.choice([-1, 1, 2, 4, 9]), r.randint(0, 4)
            if kind == 0:
                cv2.circle(image, self.point(image), r.randint(5, height // 3), colour, thick, edges)
            elif kind == 1:
                cv2.rectangle(image, self.point(image), self.point(image), colour, thick)
            elif kind == 2:
                cv2.line(image, self.point(image), self.point(image), colour, max(1, thick), edges)
            elif kind == 3:
                axes = (r.randint(5, width // 3), r.randint(5, height // 3))
                cv2.ellipse(image, self.point(image), axes, r.randint(0, 180), 0, r.randint(60, 360), colour, thick, edges)
            else:
                corners = np.array([self.point(image) for _ in range(r.randint(3, 6))])
                cv2.fillPoly(image, [corners], colour, edges)

    def text(self, image):
        r, edges = self.random, self.edges()
        face, colour, size = r.choice(FONTS), self.colour(), r.uniform(0.4, 3)
        y = int(30 * size)
        while y < image.shape[0]:
            line = " ".join(r.choice(WORDS) for _ in range(r.randint(2, 12)))
            place = (r.randint(0, image.shape[1] // 4), y)
            cv2.putText(image, line, place, face, size, colour, r.choice([1, 1, 2, 3]), edges)
            y += int(r.uniform(25, 60) * size)
            if r.random() < 0.15:
                face, colour, size = r.choice(FONTS), self.colour(), r.uniform(0.4, 3)

    def chart(self, image):
        r, (height, width) = self.random, image.shape[:2]
        points = r.randint(20, 200)
        for _ in range(r.randint(1, 4)):
            y = np.cumsum(self.numbers.randn(points)) * height * 0.03 + height / 2
            curve = np.stack([np.linspace(width * 0.1, width * 0.9, points), y], 1).astype(int)
            cv2.polylines(image, [curve], False, self.colour(), r.choice([1, 2, 3]), cv2.LINE_AA)
        for bar in range(r.randint(0, 12)):
            x, top = width * bar // 14 + 20, height - r.randint(10, height // 2)
            cv2.rectangle(image, (x, top), (x + width // 20, height), self.colour(), -1)

    def picture(self):
        r, size = self.random, self.random.choice(SIZES)
        image = np.ascontiguousarray(self.pattern(*size) if r.random() < 0.35 else self.ground(*size))
        if r.random() < 0.5:
            self.shapes(image)
        if r.random() < 0.5:
            self.text(image)
        if r.random() < 0.2:
            self.chart(image)
        return image


def main():
    out, number, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.makedirs(out, exist_ok=True)
    drawing = Drawing(seed)
    for n in range(number):
        cv2.imwrite(os.path.join(out, f"g{seed}-{n:04d}.png"), drawing.picture())


if __name__ == "__main__":
    main()
