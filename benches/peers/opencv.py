"""What people write instead of spotd: OpenCV reads the streams, onnxruntime runs the same model.

    opencv.py MODEL.onnx URL STREAMS FPS TILES

Prints `ready` when every stream has delivered, and at the end of standard input the number of frames judged.

It is written as well as such a script can be: a frame that is not wanted is decoded, as OpenCV cannot do
otherwise, but not converted; tiles are cut at native resolution; one session serves all streams; onnxruntime
neither spins nor starts threads of its own, which would only add to its CPU time.
"""

import os
import sys
import threading
import time

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp"

import cv2
import numpy as np
import onnxruntime

SIDE = 224


def tiles(frame, count):
    """`count` tiles of a BGR frame on a grid, as float32 RGB of shape (count, 3, SIDE, SIDE)."""
    height, width = frame.shape[:2]
    across = int(np.ceil(np.sqrt(count)))
    cut = []
    for n in range(count):
        row, column = divmod(n, across)
        top = (height - SIDE) * (2 * row + 1) // (2 * across)
        left = (width - SIDE) * (2 * column + 1) // (2 * across)
        cut.append(frame[top : top + SIDE, left : left + SIDE, ::-1])
    return np.stack(cut).astype(np.float32).transpose(0, 3, 1, 2) / 255.0


class Stream(threading.Thread):
    """Reads one stream and judges `fps` frames a second of it."""

    def __init__(self, session, url, fps, count):
        super().__init__(daemon=True)
        self.session, self.url, self.pause, self.count = session, url, 1.0 / fps, count
        self.judged = 0
        self.begun = threading.Event()

    def run(self):
        capture = cv2.VideoCapture(self.url, cv2.CAP_FFMPEG)
        wanted = time.monotonic()
        while capture.grab():
            now = time.monotonic()
            if now < wanted:
                continue
            wanted = max(wanted + self.pause, now)
            good, frame = capture.retrieve()
            if not good:
                continue
            logits = self.session.run(None, {"x": tiles(frame, self.count)})[0]
            score = 1.0 / (1.0 + np.exp(-float(logits.mean())))
            assert 0.0 <= score <= 1.0
            self.judged += 1
            self.begun.set()


def main():
    model, url, streams, fps, count = sys.argv[1:]
    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    threads = [Stream(session, url, float(fps), int(count)) for _ in range(int(streams))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.begun.wait(60)
    print("ready", flush=True)
    for line in sys.stdin:
        print(sum(thread.judged for thread in threads), flush=True)
    os._exit(0)


main()
