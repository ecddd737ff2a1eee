"""A ResNet-18 in plain PyTorch, for small images, whose widths are those of a state dict."""

from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, shapes, prefix, stride):
        super().__init__()
        middle, inputs = shapes[f"{prefix}.conv1.weight"][:2]
        outputs = shapes[f"{prefix}.conv2.weight"][0]
        self.conv1 = nn.Conv2d(inputs, middle, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if f"{prefix}.downsample.0.weight" in shapes:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet18(nn.Module):
    def __init__(self, shapes):
        super().__init__()
        stem, inputs = shapes["conv1.weight"][:2]
        self.conv1 = nn.Conv2d(inputs, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        for stage in range(1, 5):
            blocks = [Block(shapes, f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1) for i in range(2)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        classes, features = shapes["fc.weight"]
        self.fc = nn.Linear(features, classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))
