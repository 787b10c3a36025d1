"""A network trained for a few steps with PyTorch's own fake quantisation, as its exporter writes it, and what onnxruntime
answers: pytorch.py FOLDER, in the form of golden.py. PyTorch rounds weights and values to bytes; biases stay float.
"""

import io
import sys
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.ao import quantization as tq
from torch.ao.nn.quantized import FloatFunctional

from golden import SIDE, write

warnings.filterwarnings("ignore")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = tq.QuantStub()
        self.c1, self.r1 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.c2, self.r2 = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU()
        self.c3, self.add = nn.Conv2d(12, 12, 3, padding=1), FloatFunctional()
        self.pool, self.logit = nn.AdaptiveAvgPool2d(1), nn.Linear(12, 1)

    def forward(self, x):
        x = self.r1(self.c1(self.quant(x)))
        x = self.r2(self.c2(x))
        x = self.add.add_relu(x, self.c3(x))
        return self.logit(self.pool(x).flatten(1))


def main():
    torch.manual_seed(3)
    net = Net().train()
    net.qconfig = tq.QConfig(
        activation=tq.FakeQuantize.with_args(
            observer=tq.MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8
        ),
        weight=tq.default_per_channel_weight_fake_quant,
    )
    net = tq.prepare_qat(tq.fuse_modules_qat(net, [["c1", "r1"], ["c2", "r2"]]))
    # Bright pictures score high, dark ones low: enough to move weights and ranges.
    optimiser = torch.optim.SGD(net.parameters(), 0.05)
    for _ in range(30):
        x = torch.rand(8, 3, SIDE, SIDE) * torch.rand(8, 1, 1, 1)
        loss = (net(x).squeeze(1) - 4 * (x.mean((1, 2, 3)) - 0.25)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    net.apply(tq.disable_observer)
    # The answer is rounded too, which a detector's is not.
    net.logit.activation_post_process = nn.Identity()
    file = io.BytesIO()
    torch.onnx.export(
        net, torch.rand(1, 3, SIDE, SIDE), file, input_names=["x"], output_names=["logit"], opset_version=13,
        dynamo=False,
    )
    write(Path(sys.argv[1]), "pytorch", onnx.load_from_string(file.getvalue()), False)


main()
