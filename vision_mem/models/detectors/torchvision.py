"""Mask R-CNN and Faster R-CNN of torchvision, where its compiled operators fit this torch."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from vision_mem.errors import InputError, MissingExtra, ModelError
from vision_mem.models.checkpoint import fit_weights, read_checkpoint
from vision_mem.models.detectors.coercion import LeftOut, Vocabulary, coerce
from vision_mem.models.device import choose_device
from vision_mem.models.torchvision_shim import ensure_torchvision
from vision_mem.types import Detections, Frame

KNOWN = {
    "maskrcnn": "maskrcnn_resnet50_fpn_v2",
    "fasterrcnn": "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn-320": "fasterrcnn_mobilenet_v3_large_320_fpn",
}
"""Short names for torchvision's own."""


class TorchvisionDetector:
    """Classes of COCO, as boxes (Faster R-CNN) or masks (Mask R-CNN).

    Args:
        model: a name in ``KNOWN``.
        weights: a ``.pth`` or ``.safetensors`` file of them; None takes those that torchvision has
            fetched before, or fetches them.
        device: ``auto``, or a torch device.
        min_score: boxes below are left out.

    Raises:
        MissingExtra: when torchvision is not installed.
        ModelError: when its compiled operators do not fit this torch; for weights that are
            missing, damaged or of another network.
        InputError: for an unknown name.
    """

    stateful = False
    reports_absence = True

    def __init__(
        self,
        model: str = "maskrcnn",
        *,
        weights: str | Path | None = None,
        device: str = "auto",
        min_score: float = 0.05,
    ) -> None:
        if not 0 <= min_score <= 1:
            raise InputError(f"min_score is {min_score}; expected 0 to 1")
        self.name = model
        self.device = choose_device(device)
        self.dropped = LeftOut()
        self._min_score = min_score
        build, published = _builder(model)
        require_operators()
        network = build(weights=None, weights_backbone=None, box_score_thresh=min_score)
        place = _fetched(published, model) if weights is None else Path(weights).expanduser()
        state = dict(read_checkpoint(place))
        for name, tensor in network.state_dict().items():
            # Networks trained with frozen normalisation do not count batches; nothing reads this.
            if name.endswith("num_batches_tracked"):
                state.setdefault(name, tensor)
        fit_weights(network, state, str(place), KNOWN[model])
        words, none = published.meta["categories"], ("N/A", "__background__")
        self._names = {k: word for k, word in enumerate(words) if word not in none}
        self._network = network.to(self.device).eval()

    @property
    def classes(self) -> dict[int, str]:
        """Words of all classes by their numbers."""
        return self._names

    @torch.inference_mode()
    def detect(self, frame: Frame) -> Detections | None:
        image = torch.from_numpy(frame.image).to(self.device).permute(2, 0, 1).float() / 255.0
        (found,) = self._network([image])
        names = Vocabulary(self._names)
        answer = coerce(found, frame.size, vocabulary=names, dropped=self.dropped)
        self.dropped.tell(self.name, frame.index)
        return answer

    def reset(self) -> None:
        self.dropped.clear()

    def close(self) -> None:
        """Nothing is held but weights."""


def _builder(model: str) -> tuple[Any, Any]:
    """The function of torchvision that makes the network, and its published weights."""
    if model not in KNOWN:
        raise InputError(
            f"no detector {model!r} of torchvision; expected one of {', '.join(KNOWN)}"
        )
    try:
        ensure_torchvision()
        detection = importlib.import_module("torchvision.models.detection")
        models = importlib.import_module("torchvision.models")
    except ImportError as error:
        raise MissingExtra(
            f"detector {model} needs torchvision ({error.name or error}); run: pip install "
            "torchvision"
        ) from error
    name = KNOWN[model]
    return getattr(detection, name), models.get_model_weights(name).DEFAULT


def require_operators() -> None:
    """Make sure that torchvision's compiled operators run.

    Raises:
        ModelError: with what to do, when they do not.
    """
    try:
        torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (NotImplementedError, AttributeError, RuntimeError) as error:
        version = importlib.import_module("torchvision").__version__
        raise ModelError(
            f"torchvision {version} has no compiled operators for torch {torch.__version__} "
            "(nms, roi_align), which its detectors need; install a torchvision that was built for "
            "this torch, or choose a detector that needs none: --detect dfine"
        ) from error


def _fetched(published: Any, model: str) -> Path:
    """The file of published weights, fetched if it is not on this machine."""
    file = published.url.rsplit("/", 1)[-1]
    place = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not place.is_file():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            digest = Path(file).stem.rsplit("-", 1)[-1]
            torch.hub.download_url_to_file(published.url, str(place), digest, progress=False)
        except Exception as error:  # as many kinds as there are networks
            raise ModelError(
                f"the weights of {model} are not on this machine and could not be fetched "
                f"({type(error).__name__}); download {published.url} where there is network and "
                f"copy it to {place}"
            ) from error
    return place
