"""Writes a trained network as an ONNX file of spotd's model contract: python export.py lite0.pt spotd-lite.onnx

Batch normalisation is folded into the convolutions; normalisation of pixels is part of the graph.
"""

import sys

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from network import MEAN, STD, Network

SIDE = 224
# A tile's texture can look like nothing that a generator painted in training and still come from one: "real" is said
# with bounded confidence, so that it cannot outvote the coherent part.
LEAST = -1.5
# No bound in effect: rendered and softened pictures, for which there was one, are in training now.
MOST = 12.0


def rounded(values):
    """float32 with 10 bits behind the point, as in float16: what is rounded away would not survive int8, and
    the file packs to half."""
    bits = np.array(values, dtype=np.float32, order="C").view(np.uint32)
    return ((bits + 0x1000) & ~np.uint32(0x1FFF)).view(np.float32)


class Writer:
    def __init__(self):
        self.nodes, self.constants, self.macs = [], [], 0

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(rounded(values), name))
        return name

    def node(self, kind, inputs, name, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def conv(self, x, name, conv, bn, size, activation=True):
        gain = bn.weight.detach().double() / torch.sqrt(bn.running_var.double() + bn.eps)
        weight = (conv.weight.detach().double() * gain[:, None, None, None]).float().numpy()
        bias = (bn.bias.detach().double() - bn.running_mean.double() * gain).float().numpy()
        kernel, stride = weight.shape[2], conv.stride[0]
        # As TensorFlow pads: what is odd goes behind.
        out = -(-size // stride)
        total = max((out - 1) * stride + kernel - size, 0)
        pads = [total // 2, total // 2, total - total // 2, total - total // 2]
        inputs = [x, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        x = self.node("Conv", inputs, name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=conv.groups)
        self.macs += out * out * weight.size
        return (self.node("Clip", [x, "zero", "six"], f"{name}.clip") if activation else x), out


def main():
    source, target = sys.argv[1:3]
    weights = torch.load(source)
    network = Network(short=weights["fc.weight"].shape[1] == 512, imagenet=False)
    network.load_state_dict(weights)
    network.eval()
    w = Writer()
    w.constant("zero", 0.0), w.constant("six", 6.0)
    per_channel = lambda values: np.array(values, np.float32).reshape(1, 3, 1, 1)
    x = w.node("Sub", ["x", w.constant("mean.value", per_channel(MEAN))], "mean")
    x = w.node("Mul", [x, w.constant("spread.value", 1 / per_channel(STD))], "spread")
    x, size = w.conv(x, "stem", network.stem, network.bn, SIDE)
    for n, block in enumerate(network.blocks):
        y, out = x, size
        if block._block_args.expand_ratio != 1:
            y, out = w.conv(y, f"b{n}.expand", block._expand_conv, block._bn0, out)
        y, out = w.conv(y, f"b{n}.depth", block._depthwise_conv, block._bn1, out)
        y, out = w.conv(y, f"b{n}.project", block._project_conv, block._bn2, out, activation=False)
        if out == size and block._block_args.input_filters == block._block_args.output_filters:
            y = w.node("Add", [x, y], f"b{n}.add")
        x, size = y, out
    x, size = w.conv(x, "head", network.head[0], network.head[1], size)
    x = w.node("Flatten", [w.node("GlobalAveragePool", [x], "pool")], "flatten", axis=1)
    weight = w.constant("fc.weight", network.fc.weight.detach().numpy())
    bias = w.constant("fc.bias", network.fc.bias.detach().numpy())
    x = w.node("Gemm", [x, weight, bias], "fc", transB=1)
    w.nodes.append(helper.make_node("Clip", [x, w.constant("least", LEAST), w.constant("most", MOST)], ["logit"], name="bound"))
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(w.nodes, "spotd-lite", [value("x", ["N", 3, SIDE, SIDE])], [value("logit", ["N", 1])], w.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="spotd")
    model.ir_version = 7
    onnx.checker.check_model(model)
    onnx.save(model, target)
    parameters = sum(int(np.prod(c.dims)) for c in w.constants if c.name.endswith(("weight", "bias")))
    print(f"{target}: {(w.macs + network.fc.weight.numel()) / 1e6:.1f} MMAC a tile of {SIDE}x{SIDE}, {parameters} parameters")


if __name__ == "__main__":
    main()
