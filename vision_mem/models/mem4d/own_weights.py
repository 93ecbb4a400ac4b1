"""Open weights of the learned reconstruction that our own training wrote."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import torch

from vision_mem.errors import ModelError
from vision_mem.models.checkpoint import choose_device, fit_weights, read_checkpoint
from vision_mem.models.mem4d.config import config_from_text, named_config
from vision_mem.models.mem4d.network import Mem4DNetwork

SETTINGS = "vision-mem-mem4d"
"""Name of the settings in the header of a weight file."""
_RANDOM = "random:"
_MOST = 2_000_000_000


def load_mem4d(source: str | Path, device: str = "auto") -> Mem4DNetwork:
    """A network, ready for sessions.

    Args:
        source: a ``.safetensors`` file of ``scripts/train_reconstruction.py``, or ``random:NAME``
            with a size of ``mem4d_config.SIZES``: random weights, to try things out.
        device: see ``choose_device``.

    Raises:
        ModelError: for a file that is missing, damaged, or of another model; one line.
        InputError: for an unknown size or device.
    """
    place = choose_device(device)
    if str(source).startswith(_RANDOM):
        name = str(source).removeprefix(_RANDOM)
        config = named_config(name)
        torch.manual_seed(0)
        network = Mem4DNetwork(config)
        network.model_id = f"mem4d-random-{name}"
        return network.to(place).eval().requires_grad_(False)
    path = Path(source)
    state = read_checkpoint(path)
    config = config_from_text(_settings_of(path))
    if config.encoder.layers + config.decoder.layers > 200 or config.size > 4096:
        raise ModelError(f"{path} describes a model of no sensible size")
    with torch.device("meta"):
        network = Mem4DNetwork(config)
    if sum(math.prod(p.shape) for p in network.parameters()) > _MOST:
        raise ModelError(f"{path} describes a model of no sensible size")
    network = network.to_empty(device="cpu")
    fit_weights(network, {k: v.float() for k, v in state.items()}, f"{path}", "its settings")
    network.model_id = f"mem4d-{config.fingerprint}#{_digest(network)}"
    return network.to(place).eval().requires_grad_(False)


def _digest(network: torch.nn.Module) -> str:
    """Eight hexadecimal digits that change when any weight does; single numbers count too."""
    digest = hashlib.blake2b(digest_size=4)
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().flatten().numpy().tobytes())
    return digest.hexdigest()


def _settings_of(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    text = None
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as stored:
                text = (stored.metadata() or {}).get(SETTINGS)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is damaged ({type(error).__name__}); get it again") from error
    if text is None:
        raise ModelError(
            f"{path} does not say what it is; expected a .safetensors file written by "
            "scripts/train_reconstruction.py (checkpoints of CUT3R and DUSt3R: from_checkpoint)"
        )
    return text
