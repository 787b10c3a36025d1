"""Other runtimes on the same ONNX files, one thread each, timed on request.

    peers.py SIDE TILES NAME=FILE.onnx ...

TILES holds float32 tiles [3, SIDE, SIDE], one after the other. Prints one JSON line an engine, `{"engine", "file",
"logits"}` or `{"engine", "file", "error"}`, then `{"ready": true}`. Then answers each line of standard input,
`ENGINE FILE SECONDS`, with `{"times": [ms, ...]}` of as many runs as fit.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import ncnn
import numpy as np
import onnxruntime
import openvino


def say(**line):
    print(json.dumps(line), flush=True)


def run_onnxruntime(path, _side):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda tile: session.run(None, {"x": tile})[0]


def run_openvino(path, side):
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, 3, side, side])
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
    if pathlib.Path(path).stem == "f32":
        # Else it takes bfloat16 where the processor has it, and its logits are another model's.
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda tile: request.infer([tile], share_inputs=True, share_outputs=True)[0]


def run_ncnn(path, side):
    """ncnn's own converter from ONNX; the package on PyPI has the program but for its imports."""
    converter = pathlib.Path(ncnn.__file__).parent.parent / "pnnx" / "pnnx"
    stem = path.with_suffix("")
    made = [stem.with_suffix(f".ncnn.{end}") for end in ("param", "bin")]
    if not all(m.exists() for m in made):
        said = subprocess.run(
            [converter, path.name, f"inputshape=[1,3,{side},{side}]", "fp16=0"],
            cwd=path.parent, capture_output=True, text=True, check=False,
        )
        if not all(m.exists() for m in made):
            raise RuntimeError(f"pnnx cannot convert it: {(said.stdout + said.stderr).strip()[-200:]}")
    net = ncnn.Net()
    net.opt.num_threads = 1
    # f32 means f32.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(made[0])) or net.load_model(str(made[1])):
        raise RuntimeError("ncnn cannot load what pnnx made")

    def run(tile):
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(tile[0]).clone())
        failed, output = extractor.extract("out0")
        if failed:
            raise RuntimeError("ncnn fails")
        return np.array(output)[None]

    return run


ENGINES = {"onnxruntime": run_onnxruntime, "openvino": run_openvino, "ncnn": run_ncnn}


def main():
    side = int(sys.argv[1])
    tiles = np.fromfile(sys.argv[2], np.float32).reshape(-1, 1, 3, side, side)
    files = dict(pair.split("=", 1) for pair in sys.argv[3:])
    runs = {}
    for file, path in files.items():
        for engine, make in ENGINES.items():
            if engine == "ncnn" and file != "f32":
                say(engine=engine, file=file, error="pnnx knows no QuantizeLinear; its own int8 tools are not on PyPI")
                continue
            try:
                run = make(pathlib.Path(path), side)
                logits = [float(np.ravel(run(tile))[0]) for tile in tiles]
            except Exception as error:
                say(engine=engine, file=file, error=str(error)[-300:])
                continue
            runs[engine, file] = run
            say(engine=engine, file=file, logits=logits)
    say(ready=True)
    for line in sys.stdin:
        engine, file, seconds = line.split()
        run, tile = runs[engine, file], tiles[0]
        run(tile)
        times, end = [], time.perf_counter() + float(seconds)
        while len(times) < 5 or time.perf_counter() < end:
            begun = time.perf_counter()
            run(tile)
            times.append((time.perf_counter() - begun) * 1e3)
        say(times=times)


main()
