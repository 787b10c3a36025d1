#!/usr/bin/env python3
"""Writes golden.txt: the features of a made-up picture, by numpy and OpenCV. Needs: pip install numpy opencv-python-headless."""
import os

import cv2
import numpy as np

W, H = 160, 96
y, x = np.mgrid[0:H, 0:W].astype(np.uint64)
luma = (((x * 7919 + y * 104729 + x * y * 31) % 251) // 4 + np.where((x % 8 == 3) != (y % 4 == 1), 6, 0) + x // 2 + y // 3).astype(np.float32)
r = luma - cv2.medianBlur(luma, 3)
r /= np.abs(r) + 2.5
d = cv2.filter2D(luma, -1, np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], np.float32) / 4)
d /= np.abs(d) + 2.5
mirrored = (-np.arange(16)) % 16
out = []
for channel in (r, np.abs(r), d, np.abs(d)):
    f = np.fft.rfft2(channel.reshape(H // 16, 16, W // 16, 16).transpose(0, 2, 1, 3).reshape(-1, 16, 16))
    n = len(f)
    mean, power = np.abs(f.mean(0)) ** 2, (np.abs(f) ** 2).mean(0)
    for i, row in enumerate((np.log(mean * n / (power + 1e-9) + 0.05), np.log(mean / (power + 1e-9) + 1e-4), np.log(power + 1e-4))):
        row = (row + row[mirrored]) / 2
        out += list((row - row.mean() if i == 2 else row)[:9].ravel())
with open(os.path.join(os.path.dirname(__file__), "golden.txt"), "w") as file:
    file.writelines(f"{v:.6f}\n" for v in out)
