"""The image side of SAM 2, with what never changes between frames made once.

The image encoder of the ``sam2`` package interpolates its learned positions and writes out sine
positions of all scales for every frame, although they depend on the image size only. Here its
parts are called one by one, so that the constants are kept. Same operations, same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class EncodedImage:
    """What SAM 2 makes of a frame: flattened maps ``(HW, 1, C)``, fine to coarse.

    Attributes:
        maps: features of each scale.
        position: sine positions of the coarsest scale, ``(HW, 1, C)``; shared by all frames.
        sizes: ``(h, w)`` of each scale.
        fine: all scales but the coarsest as images ``(1, C, h, w)``.
        shared: what all objects of the frame need, made by whoever needs it first.
    """

    maps: list[torch.Tensor]
    position: torch.Tensor
    sizes: list[tuple[int, int]]
    fine: list[torch.Tensor]
    shared: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """The value called ``name``, made at the first call for this frame."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]


class ImageSide:
    """Encodes normalised images.

    Args:
        network: a ``SAM2Base`` in evaluation mode.
        compiled: run the package's own ``forward_image`` through ``torch.compile``.
    """

    def __init__(self, network: Any, *, compiled: bool = False) -> None:
        self._network = network
        self._whole: Callable[[torch.Tensor], dict[str, Any]] | None = None
        encoder = network.image_encoder
        known = (type(encoder.trunk).__name__, type(encoder.neck).__name__) == ("Hiera", "FpnNeck")
        if compiled:
            self._whole = torch.compile(network.forward_image)
        elif not known:
            self._whole = network.forward_image
        self._learned: dict[tuple[int, int], torch.Tensor] = {}
        self._sine: dict[tuple[Any, ...], torch.Tensor] = {}

    def __call__(self, image: torch.Tensor) -> EncodedImage:
        """Encode one image.

        Args:
            image: ``(1, 3, S, S)``, normalised.

        Returns:
            The features that objects read.
        """
        net = self._network
        if self._whole is not None:
            levels = self._whole(image)["backbone_fpn"]
        else:
            levels = self._neck(self._trunk(image))
            if net.use_high_res_features_in_sam:
                levels[0] = net.sam_mask_decoder.conv_s0(levels[0])
                levels[1] = net.sam_mask_decoder.conv_s1(levels[1])
        levels = levels[-net.num_feature_levels :]
        sizes = [(int(level.shape[-2]), int(level.shape[-1])) for level in levels]
        maps = [level.flatten(2).permute(2, 0, 1) for level in levels]
        fine = [to_image(m, size) for m, size in zip(maps[:-1], sizes[:-1], strict=True)]
        return EncodedImage(maps, self._position(levels[-1]), sizes, fine)

    def _trunk(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Source: SAM 2, ``hieradet.py: Hiera.forward``."""
        trunk = self._network.image_encoder.trunk
        x = trunk.patch_embed(image)
        size = (int(x.shape[1]), int(x.shape[2]))
        if size not in self._learned:
            self._learned[size] = trunk._get_pos_embed(size)
        x = x + self._learned[size]
        outputs = []
        last = trunk.stage_ends[-1]
        for number, block in enumerate(trunk.blocks):
            x = block(x)
            if number == last or (number in trunk.stage_ends and trunk.return_interm_layers):
                outputs.append(x.permute(0, 3, 1, 2))
        return outputs

    def _neck(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Levels fine to coarse, without their positions.

        Source:
            SAM 2, ``image_encoder.py: FpnNeck.forward, ImageEncoder.forward``.
        """
        encoder = self._network.image_encoder
        neck = encoder.neck
        levels: list[torch.Tensor] = []
        for place, (conv, x) in enumerate(zip(neck.convs, reversed(inputs), strict=True)):
            side = conv(x)
            if levels and len(inputs) - 1 - place in neck.fpn_top_down_levels:
                from_above = F.interpolate(
                    levels[0].to(dtype=torch.float32),
                    scale_factor=2.0,
                    mode=neck.fpn_interp_model,
                    align_corners=None if neck.fpn_interp_model == "nearest" else False,
                    antialias=False,
                )
                side = side + from_above
                if neck.fuse_type == "avg":
                    side = side / 2
            levels.insert(0, side)
        return levels[: -encoder.scalp] if encoder.scalp > 0 else levels

    def _position(self, level: torch.Tensor) -> torch.Tensor:
        key = (*map(int, level.shape[-2:]), level.dtype, level.device)
        if key not in self._sine:
            made = self._network.image_encoder.neck.position_encoding(level).to(level.dtype)
            self._sine[key] = made.flatten(2).permute(2, 0, 1)
        return self._sine[key]


def to_image(flat: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """``(HW, B, C)`` to ``(B, C, H, W)``."""
    return flat.permute(1, 2, 0).view(flat.shape[1], flat.shape[2], *size)
