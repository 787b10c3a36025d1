"""Runs int8 models with onnxruntime and OpenVINO and holds their outputs against tract's.

    check.py FOLDER

FOLDER holds NAME.onnx, NAME.tiles (float32, tiles one after the other) and NAME.json with `shape` (of one tile),
`logits` (tract's, a tile each), `float` (those of the float model), `close` and `near` (how far a runtime may be off) and `spread`.

onnxruntime is asked for exact sums: on x86 CPUs without VNNI the fast paths of both runtimes add pairs of products
in 16 bits, which saturates. There their answers are printed and not judged.

OpenVINO folds scales into one another, so that values between two steps go to the other one here and there, which deep random
networks make more of. Where it is not near, it has to be as near to the float model as tract is.
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime
import openvino


def has_exact_products():
    """Whether int8 products are summed in 32 bits by the CPU itself."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    return any(flag in info for flag in ("avx512_vnni", "avx_vnni", "asimddp", "asimd "))


def onnxruntime_logits(path, tiles, exact):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.array([session.run(None, {"x": tile[None]})[0][0, 0] for tile in tiles])


def unfused_logits(path, tiles):
    """Every QuantizeLinear and DequantizeLinear as it stands, layers in float: what the file means."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.array([session.run(None, {"x": tile[None]})[0][0, 0] for tile in tiles])


def openvino_logits(path, tiles):
    core = openvino.Core()
    core.set_property({"INFERENCE_NUM_THREADS": 1})
    model = core.read_model(path)
    model.reshape([1, *tiles.shape[1:]])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array([compiled(tile[None])[0][0, 0] for tile in tiles])


# How much larger the error may be, of 8 tiles.
AS_NEAR = 2.0


def rms(errors):
    return float(np.sqrt(np.mean(np.square(errors))))


def main():
    folder = pathlib.Path(sys.argv[1])
    failed = False
    exact = has_exact_products()
    names = sorted(folder.glob("*.json"))
    assert names, f"{folder} holds no NAME.json"
    for described in names:
        path = described.with_suffix(".onnx")
        about = json.loads(described.read_text())
        tiles = np.fromfile(described.with_suffix(".tiles"), np.float32).reshape(-1, *about["shape"])
        expected = np.array(about["logits"])
        runs = [
            ("onnxruntime, unfused", unfused_logits(path, tiles), about["close"]),
            ("onnxruntime, exact", onnxruntime_logits(path, tiles, True), about["near"]),
            ("onnxruntime, fast", onnxruntime_logits(path, tiles, False), about["near"] if exact else None),
            ("OpenVINO", openvino_logits(path, tiles), about["near"] if exact else None),
        ]
        float_model = np.array(about["float"])
        moved = rms(expected - float_model)
        for runtime, logits, allowed in runs:
            off = float(np.abs(logits - expected).max())
            verdict = "not judged" if allowed is None else "same" if off <= allowed else "DIFFERS"
            if verdict == "DIFFERS" and runtime == "OpenVINO":
                error = rms(logits - float_model)
                good = error <= AS_NEAR * moved
                verdict = f"{error:.4f} from the float model, tract {moved:.4f}: {'as near' if good else 'DIFFERS'}"
            failed |= "DIFFERS" in verdict
            print(
                f"{described.stem:24} {runtime:22} off by {off:.5f} at most"
                f" (allowed {allowed if allowed is not None else float('nan'):.5f}, spread {about['spread']:.3f}): {verdict}"
            )
    sys.exit(failed)


main()
