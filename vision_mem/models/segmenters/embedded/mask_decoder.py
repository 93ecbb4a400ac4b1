"""The embedded segmenter's mask decoder: votes, features and picture in, an outline out.

Votes over frozen features are as coarse as the tokens, and where they err they err alike: they
spread over look-alikes, and thin out where the object has turned. This small network has learned
on generated clips what to make of them (``scripts/train/train_embedded.py``). It starts from the
votes and says what to change, at strides 8, 4 and 2 in turn.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vision_mem.errors import ModelError
from vision_mem.models.checkpoint import fingerprint
from vision_mem.models.efficientnet import CHANNELS

VOTES = 4
"""Maps that the votes come as; see ``voting.vote``."""
_WIDTHS = (48, 24, 12)
_FILE = Path(__file__).with_name("mask_decoder.safetensors")
"""The weights that come with the package."""


class MaskDecoder(nn.Module):
    """Logits of a window at half its size.

    As it is made, without learned weights, it gives back the votes.

    Attributes:
        fingerprint: eight hexadecimal digits that change when any weight does.
    """

    def __init__(self) -> None:
        """Make the network; weights are random until ``load_packaged``."""
        super().__init__()
        wide, middle, narrow = _WIDTHS
        self.narrow = nn.Conv2d(CHANNELS[8] + CHANNELS[16], 32, 1)
        self.coarse = nn.Conv2d(32 + VOTES, wide, 3, padding=1)
        self.near = nn.Conv2d(wide, wide, 3, padding=1)
        self.far = nn.Conv2d(wide, wide, 3, padding=2, dilation=2)
        self.down = nn.Conv2d(wide, middle, 1)
        self.fine = nn.Conv2d(CHANNELS[4], middle, 1)
        self.medium = nn.Conv2d(middle, middle, 3, padding=1)
        self.medium_again = nn.Conv2d(middle, middle, 3, padding=1)
        self.last_down = nn.Conv2d(middle, narrow, 1)
        self.colours = nn.Conv2d(3, narrow, 3, padding=1)
        self.outline = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.change = nn.Conv2d(narrow, 1, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(1))
        self.mix = nn.Parameter(torch.eye(CHANNELS[8] + CHANNELS[16]))
        self.fingerprint = "random"
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)  # type: ignore[arg-type]

    @classmethod
    def load_packaged(cls) -> MaskDecoder:
        """Build it with the weights that come with the package.

        Raises:
            ModelError: when their file is missing or damaged.
        """
        decoder = cls()
        try:
            decoder.load_state_dict({k: v.float() for k, v in load_file(_FILE).items()})
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"{_FILE.name} of vision-mem cannot be read ({type(error).__name__}); reinstall "
                "the package with pip install --force-reinstall --no-deps vision-mem"
            ) from error
        decoder.fingerprint = fingerprint(decoder)
        return decoder.eval().requires_grad_(False)

    def comparable(self, tokens: Tensor) -> Tensor:
        """Unit tokens ``(..., N, C)`` as votes compare them: mixed, and of unit length again."""
        return F.normalize(tokens @ self.mix, dim=-1)

    def forward(self, tokens: Tensor, fine: Tensor, picture: Tensor, votes: Tensor) -> Tensor:
        """Decode B windows.

        Args:
            tokens: ``(B, C, t, t)`` unit vectors.
            fine: ``(B, 24, 2t, 2t)`` the trunk's map at stride 4.
            picture: ``(B, 3, 4t, 4t)`` in about [-1, 1].
            votes: ``(B, 4, t, t)`` as ``voting.vote`` gives them.

        Returns:
            ``(B, 4t, 4t)`` logits.
        """
        x = F.relu(self.narrow(tokens * tokens.shape[1] ** 0.5))
        x = F.relu(self.coarse(torch.cat([x, votes], dim=1)))
        x = x + F.relu(self.near(x))
        x = x + F.relu(self.far(x))
        x = _double(self.down(x)) + self.fine(fine)
        x = x + F.relu(self.medium(F.relu(x)))
        x = x + F.relu(self.medium_again(x))
        x = F.relu(_double(self.last_down(x)) + self.colours(picture))
        x = x + F.relu(self.outline(x))
        said = torch.logit(votes[:, :1].float(), eps=1e-3).to(votes.dtype)
        said = F.interpolate(said, scale_factor=4, mode="bilinear", align_corners=False)
        return torch.Tensor.float((self.gain * said + self.change(x))[:, 0])


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
