"""Makes checkpoints as PyTorch and torchvision write them, and PyTorch's own answers to one input.

    state_dicts.py FOLDER
"""

import sys
from argparse import Namespace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torchvision.models import resnet18, resnet50

out = Path(sys.argv[1])
torch.manual_seed(3)
torch.set_num_threads(1)
x = torch.rand(2, 3, 224, 224)
mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


def network(build, outputs):
    model = build(num_classes=outputs)
    # Batch statistics far from the fresh ones, so that folding is put to the test.
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model((torch.rand(2, 3, 96, 96) - mean) / deviation * 1.3)
        for name, tensor in model.state_dict().items():
            if name.endswith(("bn1.weight", "bn2.weight", "bn3.weight")):
                tensor.uniform_(0.5, 1.2)
            elif name.endswith("bias"):
                tensor.normal_(0, 0.1)
    return model.eval()


def put(name, model, wrap, **how):
    torch.save(wrap(model), out / f"{name}.pth", **how)
    with torch.no_grad():
        save_file({"x": x, "logits": model((x - mean) / deviation)}, out / f"{name}.answer.safetensors")


old = {"_use_new_zipfile_serialization": False}
detector = network(resnet50, 1)
optimiser = torch.optim.Adam(detector.parameters(), lr=1e-4)
# As the published CNNDetection checkpoints: written before PyTorch 1.6, weights beside the optimiser's state.
put("cnndetection", detector, lambda m: {"model": m.state_dict(), "optimizer": optimiser.state_dict(), "total_steps": 7}, **old)
put("imagenet18", network(resnet18, 1000), lambda m: m.state_dict())
put("parallel18", network(resnet18, 1), lambda m: {"epoch": 3, "opt": Namespace(lr=1e-4), "state_dict": torch.nn.DataParallel(m).state_dict()})
put("half18", network(resnet18, 1), lambda m: {name: t.half() if t.is_floating_point() else t for name, t in m.state_dict().items()}, **old)

# What must be refused.
torch.save(resnet18(num_classes=1), out / "object.pth")
torch.save({"model": {name: t for name, t in detector.state_dict().items() if name != "layer3.2.bn1.bias"}}, out / "lacking.pth")
bad = dict(resnet18(num_classes=1).state_dict())
bad["layer2.0.conv1.weight"] = bad["layer2.0.conv1.weight"].clone()
bad["layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")
torch.save(bad, out / "nan.pth")
torch.save(torch.nn.Linear(3, 1).state_dict(), out / "linear.pth")
torch.save({"lr": 1.0, "names": ["a"]}, out / "no-weights.pth")
torch.jit.script(torch.nn.Linear(3, 1)).save(out / "script.pt")
