"""Quantised graphs and what onnxruntime answers: golden.py FOLDER

Each case is `NAME.onnx` and `NAME.golden`, an ONNX GraphProto whose initializers are the input `x` and every
output in order: all bytes that a QuantizeLinear makes, then the logit. onnxruntime runs without its
optimisations, so that every operator is computed as ONNX defines it; `--optimised` prints how far its fused
int8 kernels are from that (many steps where u8 meets s8 on a processor without VNNI: sums of 16 bits saturate).
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

SIDE = 12


class Net:
    """A float graph in the making; values are named by the node that makes them."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.at = [], [], "x"

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, op, name, inputs=None, **attributes):
        inputs = [self.at] if inputs is None else inputs
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.at = name
        return name

    def conv(self, name, inputs, outputs, kernel, at=None, group=1, relu=True, **attributes):
        shape = (outputs, inputs // group, kernel, kernel)
        fan = np.prod(shape[1:])
        # Channels of unlike size, as batch normalisation leaves them: per channel and per tensor differ.
        sizes = self.rng.uniform(0.5, 1.5, (outputs, 1, 1, 1))
        weight = self.rng.normal(0, 1.4 / np.sqrt(fan), shape) * sizes
        w = self.constant(f"{name}.weight", weight.astype(np.float32))
        b = self.constant(f"{name}.bias", self.rng.uniform(-0.2, 0.3, outputs).astype(np.float32))
        if "pads" not in attributes and "auto_pad" not in attributes:
            attributes["pads"] = [kernel // 2] * 4
        self.add("Conv", name, [at or self.at, w, b], group=group, kernel_shape=[kernel] * 2, **attributes)
        return self.add("Relu", f"{name}.relu") if relu else name

    def dense(self, inputs, outputs, name="logit"):
        w = self.constant(f"{name}.weight", self.rng.normal(0, 1, (outputs, inputs)).astype(np.float32))
        b = self.constant(f"{name}.bias", self.rng.normal(0, 1, outputs).astype(np.float32))
        return self.add("Gemm", name, [self.at, w, b], transB=1)

    def model(self):
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info(self.at, TensorProto.FLOAT, ["N", 1])],
            self.constants,
        )
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, ir_version=8, opset_imports=opset)


def residual():
    """Strides, ReLU6, a residual sum, max pooling, a depthwise layer."""
    net = Net(1)
    net.conv("c1", 3, 8, 3)
    net.conv("c2", 8, 12, 3, relu=False, strides=[2, 2])
    low, high = net.constant("low", np.float32(0)), net.constant("high", np.float32(6))
    trunk = net.add("Clip", "c2.clip", [net.at, low, high])
    net.conv("c3", 12, 12, 3)
    net.conv("c4", 12, 12, 3, relu=False)
    net.add("Add", "sum", [net.at, trunk])
    net.add("Relu", "sum.relu")
    net.add("MaxPool", "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    net.conv("depth", 12, 12, 3, group=12)
    net.conv("point", 12, 16, 1, relu=False)
    net.add("GlobalAveragePool", "mean")
    net.add("Flatten", "flat")
    net.dense(16, 1)
    return net.model()


def varied():
    """Paddings of each kind, groups, pools that average, concatenation, functions of one value."""
    net = Net(2)
    mean = net.constant("normal.mean", np.array([0.48, 0.45, 0.4], np.float32).reshape(1, 3, 1, 1))
    deviation = net.constant("normal.deviation", np.array([0.23, 0.22, 0.25], np.float32).reshape(1, 3, 1, 1))
    net.add("Sub", "centred", ["x", mean])
    net.add("Div", "normal", [net.at, deviation])
    net.conv("c1", 3, 8, 5, auto_pad="SAME_UPPER", strides=[2, 2])
    one = net.conv("c2", 8, 8, 3, group=2, pads=[0, 1, 2, 1])
    net.add("AveragePool", "average", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    two = net.conv("c3", 8, 6, 1, relu=False)
    net.add("Concat", "both", [one, two], axis=1)
    net.conv("c4", 14, 8, 7, auto_pad="SAME_LOWER", relu=False)
    net.add("Sigmoid", "c4.sigmoid")
    net.add("AveragePool", "padded", kernel_shape=[2, 2], strides=[2, 2], count_include_pad=1, pads=[0, 0, 1, 1])
    net.conv("c5", 8, 8, 3, relu=False, pads=[0, 0, 0, 0])
    net.add("LeakyRelu", "c5.leaky", alpha=0.1)
    net.add("ReduceMean", "mean", axes=[2, 3], keepdims=0)
    net.dense(8, 1)
    return net.model()


def plain():
    """Dense layers behind a picture that is flattened."""
    net = Net(3)
    net.conv("c1", 3, 8, 3, strides=[2, 2])
    net.add("MaxPool", "pool", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("c2", 8, 6, 3)
    net.add("Flatten", "flat")
    net.dense(6 * (SIDE // 4) ** 2, 10, "hidden")
    net.add("Relu", "hidden.relu")
    net.dense(10, 1)
    return net.model()


def pictures(rng, count):
    """Waves in 0..1 in whole 255ths, as pixels are."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    f = rng.uniform(0.5, 4, (count, 3, 2, 1, 1))
    p = rng.uniform(0, 6.28, (count, 3, 1, 1))
    wave = 0.5 + 0.5 * np.sin(6.28 * (f[:, :, 0] * x + f[:, :, 1] * y) + p)
    return (np.round(wave * 255) / 255).astype(np.float32)


class Pictures(CalibrationDataReader):
    def __init__(self):
        self.left = iter(pictures(np.random.default_rng(7), 16))

    def get_next(self):
        return next(({"x": p[None]} for p in self.left), None)


def quantised(model, activation, weight, per_channel, symmetric=False):
    """As onnxruntime's own quantiser writes it."""
    with tempfile.TemporaryDirectory() as folder:
        source, ready, out = (str(Path(folder) / name) for name in ("f.onnx", "p.onnx", "q.onnx"))
        onnx.save(model, source)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            out,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=activation,
            weight_type=weight,
            extra_options={"ActivationSymmetric": symmetric},
        )
        return onnx.load(out)


def fake_quantised():
    """As training with fake quantisation is exported: float weights that the graph itself quantises, a
    transposed dense weight, ReLU behind bytes of its own, a sum that is not rounded before the residual."""
    net = Net(4)

    def fake(name, value, scale, zero, dtype=np.uint8):
        s, z = net.constant(f"{name}.scale", np.float32(scale)), net.constant(f"{name}.zero", dtype(zero))
        q = net.add("QuantizeLinear", f"{name}.q", [value, s, z])
        return net.add("DequantizeLinear", f"{name}.dq", [q, s, z])

    def conv(name, at, inputs, outputs):
        w = net.rng.normal(0, 1.2 / np.sqrt(inputs * 9), (outputs, inputs, 3, 3)).astype(np.float32)
        scale = np.abs(w).max(axis=(1, 2, 3)) / 127
        zeros = np.zeros(outputs, np.int8)
        s, z = net.constant(f"{name}.ws", scale.astype(np.float32)), net.constant(f"{name}.wz", zeros)
        q = net.add("QuantizeLinear", f"{name}.wq", [net.constant(f"{name}.weight", w), s, z], axis=0)
        d = net.add("DequantizeLinear", f"{name}.wdq", [q, s, z], axis=0)
        b = net.constant(f"{name}.bias", net.rng.uniform(-0.2, 0.3, outputs).astype(np.float32))
        return net.add("Conv", name, [at, d, b], kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    at = fake("pixels", "x", 1 / 255, 0)
    trunk = fake("c1", conv("c1", at, 3, 8), 0.04, 120)
    at = fake("r1", net.add("Relu", "c1.relu", [trunk]), 0.02, 0)
    conv("c2", at, 8, 8)
    net.add("Add", "sum", [trunk, net.at])
    net.add("Relu", "sum.relu")
    at = fake("sum", net.at, 0.03, 3)
    conv("c3", at, 8, 8)
    net.add("Relu", "c3.relu")
    net.add("Add", "sum2", [net.at, at])
    at = fake("sum2", net.at, 0.05, 0)
    net.add("GlobalAveragePool", "mean", [at])
    net.add("Flatten", "flat")
    at = fake("flat", net.at, 0.02, 0)
    w = net.constant("logit.weight", net.rng.normal(0, 1, (1, 8)).astype(np.float32))
    w = fake("w", w, 0.02, 0, np.int8)
    w = net.add("Transpose", "w.t", [w], perm=[1, 0])
    net.add("MatMul", "product", [at, w])
    net.add("Add", "logit", [net.at, net.constant("logit.bias", np.array([0.3], np.float32))])
    return net.model()


def write(folder, name, model, optimised):
    known = {c.name for c in model.graph.initializer}
    logit = model.graph.output[0]
    shapes = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in known:
            model.graph.output.append(shapes[node.output[0]])
    outputs = [o for o in model.graph.output if o.name != logit.name] + [logit]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    del model.graph.value_info[:]
    model.producer_name, model.producer_version, model.doc_string = "golden.py", "", ""
    onnx.checker.check_model(model)
    data = model.SerializeToString(deterministic=True)
    x = pictures(np.random.default_rng(11), 1)

    def run(level):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})

    answers = run(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    graph = onnx.GraphProto(name="golden")
    graph.initializer.append(numpy_helper.from_array(x, "x"))
    for output, answer in zip(outputs, answers):
        graph.initializer.append(numpy_helper.from_array(answer, output.name))
    (folder / f"{name}.onnx").write_bytes(data)
    (folder / f"{name}.golden").write_bytes(graph.SerializeToString(deterministic=True))
    if optimised:
        for output, a, b in zip(outputs, answers, run(ort.GraphOptimizationLevel.ORT_ENABLE_ALL)):
            a, b = a.astype(np.float64), b.astype(np.float64)
            print(f"{name} {output.name}: at most {np.abs(a - b).max()}, {(a != b).mean():.5f} differ")


def main():
    folder = Path(next(a for a in sys.argv[1:] if not a.startswith("-")))
    optimised = "--optimised" in sys.argv
    u8, s8 = QuantType.QUInt8, QuantType.QInt8
    for name, model in [("residual", residual()), ("varied", varied()), ("plain", plain())]:
        write(folder, f"{name}-u8s8-channel", quantised(model, u8, s8, True), optimised)
        write(folder, f"{name}-u8u8-tensor", quantised(model, u8, u8, False), optimised)
        write(folder, f"{name}-s8s8-tensor", quantised(model, s8, s8, False), optimised)
        write(folder, f"{name}-s8s8-symmetric", quantised(model, s8, s8, True, True), optimised)
    write(folder, "fake-quantised", fake_quantised(), optimised)


if __name__ == "__main__":
    main()
