"""EfficientNet-Lite0 down to stride 32, shaped as the trunk of SAM 2's image encoder.

``configs/models/nano.yaml`` names this class, so the unchanged ``sam2`` package builds ``nano``
wherever ``vision_mem`` is installed beside it. Batch normalisation is folded into the
convolutions: nothing here behaves otherwise in training than in evaluation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vision_mem.models.efficientnet import CHANNELS, EfficientNetLite0, _Block

# (kernel, stride, expansion, output channels, repeats) of the stages that follow stride 16.
_DEEPER = ((5, 2, 6, 192, 4), (3, 1, 6, 320, 1))
# Blocks after which a map is handed out: the last ones at strides 4, 8, 16 and 32.
_TAPS = (2, 4, 10, 15)
# SAM 2 hands over (v / 255 - mean) / deviation, EfficientNet-Lite wants (v - 127) / 128.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class NanoTrunk(EfficientNetLite0):
    """Features of an image at strides 4, 8, 16 and 32 (24, 40, 112 and 320 channels).

    Weights are random until ``load_packaged`` or a checkpoint brings others.

    Attributes:
        channel_list: channels of the maps, coarse to fine, as SAM 2's neck asks for them.
    """

    gain: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        inside = CHANNELS[16]
        for kernel, stride, expansion, outside, repeats in _DEEPER:
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                self.blocks.append(_Block(inside, outside, kernel, step, expansion))
                inside = outside
        self.channel_list = [inside, CHANNELS[16], CHANNELS[8], CHANNELS[4]]
        mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _DEVIATION))
        # Not persistent: the weights file holds what is learned.
        self.register_buffer("gain", deviation * (255 / 128), persistent=False)
        self.register_buffer("offset", (mean * 255 - 127) / 128, persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        """Compute features.

        Args:
            x: ``(B, 3, H, W)`` RGB in [0, 1], minus ImageNet's mean, over its deviation.

        Returns:
            Maps ``(B, C, ceil(H / stride), ceil(W / stride))``, fine to coarse.
        """
        # Channels last: depthwise convolutions take half the time on a CPU.
        x = (x * self.gain + self.offset).contiguous(memory_format=torch.channels_last)
        x = nn.functional.relu6(self.stem(x), inplace=True)
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _TAPS:
                maps.append(x)
        return maps
