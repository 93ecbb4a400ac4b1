"""Our streaming session beside transformers' own video session, on the same networks and frames.

Theirs keeps the whole video and all it ever computed; ours holds one frame and a bounded memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hf_segmenters import KINDS, SIDES, network, processor
from parity_inputs import config, golden, image

from vision_mem.models.segmenters.transformers import TransformersSegmenter, preparation_of
from vision_mem.tracking import TrackingSession
from vision_mem.types import Frame, Prompt

pytestmark = pytest.mark.slow  # importing the library takes seconds
HEIGHT, WIDTH = 96, 128
LOGITS, NEAR = 1e-3, 1e-4
MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MASK[26:57, 14:47] = True
BOXES = [(14.0, 26.0, 46.0, 56.0), (60.0, 40.0, 100.0, 90.0), (5.0, 50.0, 50.0, 95.0)]
PROMPTS = {
    "box": Prompt(object_id=1, box=BOXES[0]),
    "click": Prompt(object_id=1, points=[(30, 40)]),
    "clicks": Prompt(object_id=1, points=[(30, 40), (90, 20), (35, 45)], labels=[1, 0, 1]),
    "mask": Prompt(object_id=1, mask=MASK),
}


class Script:
    """Makes what the mask decoder says follow a table, so that memories and scores matter.

    Random weights alone give masks that mean nothing. The n-th look on a frame takes other rows
    than the first, so that several objects see different things.
    """

    def __init__(self, decoder: Any) -> None:
        self._tables, self._decoder = golden("model.npz"), decoder
        self.frame = self.calls = 0

    def at(self, t: int) -> None:
        self.frame, self.calls = t, 0

    def __enter__(self) -> Script:
        original = self._decoder.forward
        self._decoder.forward = lambda *args, **given: self._changed(original(*args, **given))
        return self

    def __exit__(self, *_: object) -> None:
        del self._decoder.forward  # the instance's hid the class's

    def _changed(self, made: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        masks, iou, tokens, logit = made
        rows = []
        for row in range(len(masks)):
            rows.append(self._row((self.frame + 7 * self.calls) % 40, masks[row : row + 1]))
            self.calls += 1
        masks, iou, seen = (torch.cat(part) for part in zip(*rows, strict=True))
        return masks, iou, tokens, seen.expand_as(logit)

    def _row(self, t: int, masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        g, count = self._tables, masks.shape[2]
        y, x = np.meshgrid(np.arange(32.0), np.arange(32.0), indexing="ij")
        bumps = []
        for j in range(4 - count, 4):
            distance = np.sqrt((x - g["in_cx"][t, j]) ** 2 + (y - g["in_cy"][t, j]) ** 2)
            bumps.append(g["in_slope"][t, j] * (g["in_rad"][t, j] - distance))
        bump = torch.from_numpy(np.stack(bumps).astype(np.float32))
        masks = 0.6 * (masks - masks.mean(dim=(-2, -1), keepdim=True)) + bump
        iou = torch.from_numpy(g["in_iou"][t, 4 - count :].copy()).view(1, 1, count)
        return masks, iou, torch.full((1, 1, 1), float(g["in_obj"][t]))


def frame(t: int) -> Frame:
    return Frame(t, t / 30.0, image(t)[:HEIGHT])


def our_segmenter(kind: str) -> TransformersSegmenter:
    torch.set_num_threads(1)
    return TransformersSegmenter(
        network(kind), model_id=kind, device=torch.device("cpu"), preparation=preparation_of(kind)
    )


def ours(kind: str, frames: int, prompts: list[Prompt], preset: str = "sam2") -> Any:
    """Logits at the frame's size, by frame and object, and the bytes held after each frame."""
    seg = our_segmenter(kind)
    hint = frames if frames < 16 else None  # theirs knows how long the video is
    session = TrackingSession(seg, config(preset, fill_hole_area=None, num_frames_hint=hint))
    made, held = [], []
    with Script(seg.network.mask_decoder) as script:
        for t in range(frames):
            script.at(t)
            session.step(frame(t), prompts if t == 0 else ())
            shown = type("Shown", (), {"video_size": (HEIGHT, WIDTH)})
            made.append(
                {i: seg.to_video(o.logits, shown)[0, 0] for i, o in session._outcomes.items()}
            )
            held.append(session.usage().bytes)
    return made, held


def theirs(kind: str, frames: int, prompts: list[Prompt]) -> Any:
    """The same of the library's session."""
    net, tools = network(kind), processor(kind)
    video = [image(t)[:HEIGHT] for t in range(frames)]
    state = tools.init_video_session(video=video)
    for prompt in prompts:
        given: dict[str, Any] = {}
        if prompt.mask is not None:
            given["input_masks"] = prompt.mask
        if prompt.box is not None:
            given["input_boxes"] = [[prompt.box.tolist()]]
        if prompt.points is not None:
            given["input_points"] = [[prompt.points.tolist()]]
            given["input_labels"] = [[prompt.labels.tolist()]]
        tools.add_inputs_to_inference_session(state, 0, prompt.object_id, **given)
    state.obj_with_new_inputs = [prompt.object_id for prompt in prompts]
    made = []
    with Script(net.mask_decoder) as script:
        for t in range(frames):
            script.at(t)
            out = net(state, frame_idx=t)
            shown = tools.post_process_masks(
                [out.pred_masks], original_sizes=[[HEIGHT, WIDTH]], binarize=False
            )[0]
            made.append(dict(zip(out.object_ids, shown[:, 0], strict=True)))
    return made, state


def compare(kind: str, frames: int, prompts: list[Prompt]) -> tuple[float, Any, Any]:
    """The largest difference of logits, all pixels equal; our bytes; and their session."""
    mine, held = ours(kind, frames, prompts)
    other, state = theirs(kind, frames, prompts)
    worst, on = 0.0, 0
    for t in range(frames):
        assert mine[t].keys() == other[t].keys()
        for object_id, logits in mine[t].items():
            expected = other[t][object_id]
            worst = max(worst, float((logits - expected).abs().max()))
            changed = (logits > 0) != (expected > 0)
            if len(prompts) > 1:
                # Theirs (not EdgeTAM's) encodes the memories of all objects in one batch, whose
                # sums round otherwise: a logit this close to 0 may have either sign.
                changed &= expected.abs() > NEAR
            flipped = int(changed.sum())
            assert flipped == 0, f"frame {t}, object {object_id}: {flipped} pixels, {worst}"
            on += 0.02 < float((logits > 0).float().mean()) < 0.9
    assert on > frames * len(prompts) / 2  # masks are no empty or full frames
    assert worst <= LOGITS
    return worst, held, state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_and_what_follows(kind: str, name: str) -> None:
    compare(kind, 10, [PROMPTS[name]])


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_prepared_alike(kind: str) -> None:
    seg, made = our_segmenter(kind), image(3)[:HEIGHT]
    video = processor(kind).video_processor(videos=[made[None]], return_tensors="pt")
    pixels = seg._square(frame(3)).to(torch.float32).sub_(seg._mean).div_(seg._spread)
    assert torch.equal(pixels, video.pixel_values_videos[0, 0])
    assert pixels.shape[-1] == SIDES[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objects", [1, 3])
def test_sixty_frames(kind: str, objects: int) -> None:
    prompts = [Prompt(object_id=n + 1, box=BOXES[n]) for n in range(objects)]
    _, held, state = compare(kind, 60, prompts)
    assert len(set(held[22:])) == 1  # all slots are full: nothing is added any more
    kept = [len(each["non_cond_frame_outputs"]) for each in state.output_dict_per_obj.values()]
    assert kept == [59] * objects  # theirs keeps them all
