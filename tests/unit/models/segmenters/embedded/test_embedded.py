"""The embedded segmenter on generated clips: follows, loses, finds, and stays sane."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from random_scenes import Difficulty, random_scene

from vision_mem.errors import InputError, ModelError
from vision_mem.models import load_segmenter
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.object_state import remembered
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.models.segmenters.protocol import MemoryRead
from vision_mem.synthetic.clips import Actor, ActorPose, ClipScene, SyntheticClip
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.tracking.policies.recent import PromptsOnly
from vision_mem.types import Frame, Prompt

CALM = Difficulty(small=0, fast=0, twin=0, pillar=0, fence=0, blur=0, sizes=((360, 240),))


@pytest.fixture(scope="module")
def segmenter():
    return EmbeddedSegmenter.load("cpu")


@cache
def rendered(seed=2, frames=20):
    return list(SyntheticClip(random_scene(seed, CALM, frames)))


def iou(one, two):
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else 1.0


def frame(index, image):
    return Frame(index, index / 30, np.ascontiguousarray(image))


def follow(session, images, prompts, first=0):
    """``prompts`` are of the first frame."""
    return [
        session.step(frame(first + n, image), prompts if n == 0 else [])
        for n, image in enumerate(images)
    ]


def answers(results):
    return [
        (o.object_id, o.present, o.score, o.object_logit, o.box.tolist(), o.mask.tobytes())
        for result in results
        for o in result.objects
    ]


@cache
def cup_passing(hidden=range(0)):
    """A cup that moves right; on ``hidden`` frames it is not there at all."""

    def path(t):
        return ActorPose(x=-500 if t in hidden else 80 + 4 * t, y=100, height=60)

    scene = ClipScene("cup", "gravel", Actor("cup", path), frames=30, width=320, height=200)
    return list(SyntheticClip(scene))


class TestFollowing:
    @pytest.mark.parametrize("seed", [1, 2, 4])
    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_follows_what_it_was_shown(self, segmenter, seed, kind):
        clip = rendered(seed)
        prompt = Prompt(**{kind: getattr(clip[0], kind)})
        results = follow(TrackingSession(segmenter), [r.image for r in clip], [prompt])
        scores = [iou(a.objects[0].mask, b.mask) for a, b in zip(results, clip, strict=True)]
        assert np.mean(scores) > 0.6, scores
        assert all(result.objects[0].present for result in results)

    def test_a_click_is_enough(self, segmenter):
        clip = cup_passing()[:8]
        x1, y1, x2, y2 = clip[0].box
        click = Prompt(points=[((x1 + x2) / 2, (y1 + y2) / 2)])
        results = follow(TrackingSession(segmenter), [r.image for r in clip], [click])
        assert iou(results[-1].objects[0].mask, clip[-1].mask) > 0.5

    @pytest.mark.parametrize("place", [(0.5, 0.35), (0.35, 0.6), (0.65, 0.5)])
    def test_a_click_anywhere_takes_the_whole(self, segmenter, place):
        clip = cup_passing()
        x1, y1, x2, y2 = clip[0].box
        point = x1 + place[0] * (x2 - x1), y1 + place[1] * (y2 - y1)
        session = TrackingSession(segmenter)
        (found,) = session.step(frame(0, clip[0].image), [Prompt(points=[point])]).objects
        assert iou(found.mask, clip[0].mask) > 0.6
        part = Prompt(points=[point], part=True)
        (smaller,) = TrackingSession(segmenter).step(frame(0, clip[0].image), [part]).objects
        assert smaller.mask[int(point[1]), int(point[0])]
        assert smaller.mask.sum() <= found.mask.sum()

    def test_more_clicks_are_obeyed(self, segmenter):
        clip = cup_passing()
        x1, y1, x2, y2 = (float(v) for v in clip[0].box)
        middle, outside = ((x1 + x2) / 2, (y1 + y2) / 2), (x2 + 3, y2 + 3)
        session = TrackingSession(segmenter)
        session.step(frame(0, clip[0].image), [Prompt(1, points=[middle])])
        for point, label in ((outside, 1), (outside, 0)):
            more = Prompt(1, points=[point], labels=[label])
            (found,) = session.step(frame(0, clip[0].image), [more]).objects
            assert found.mask[int(point[1]), int(point[0])] == bool(label)
            assert found.mask[int(middle[1]), int(middle[0])]

    @pytest.mark.parametrize("size", [(1, 1), (2, 300), (8, 8), (40, 30)])
    @pytest.mark.parametrize("flat", [True, False])
    def test_any_picture_can_be_pointed_at(self, segmenter, size, flat):
        grain = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
        image = np.full((*size, 3), 90, np.uint8) if flat else grain
        corner = size[1] - 1, size[0] - 1
        for prompt in (
            Prompt(points=[corner]), Prompt(points=[(0, 0), corner], labels=[1, 0]),
            Prompt(box=(0, 0, size[1], size[0])), Prompt(box=(0, 0, 1, 1), points=[(0, 0)]),
        ):  # fmt: skip
            if size == (1, 1) and prompt.points is not None and len(prompt.points) > 1:
                continue
            (found,) = TrackingSession(segmenter).step(frame(0, image), [prompt]).objects
            assert found.mask.shape == size and found.mask.any()

    def test_black_frames_show_nothing(self, segmenter):
        clip = cup_passing()[:4]
        images = [r.image for r in clip] + [np.zeros_like(clip[0].image)] * 3
        results = follow(TrackingSession(segmenter), images, [Prompt(mask=clip[0].mask)])
        assert [r.objects[0].state == "lost" for r in results] == [False] * 4 + [True] * 3

    @pytest.mark.parametrize("preset", ["samurai", "sam2", "dam4sam", "none"])
    def test_each_policy_runs_on_it(self, segmenter, preset):
        from vision_mem.config import load_config

        config = load_config(TrackingConfig, preset, folder="tracking")
        clip = cup_passing()[:10]
        session = TrackingSession(segmenter, config)
        results = follow(session, [r.image for r in clip], [Prompt(box=clip[0].box)])
        assert iou(results[-1].objects[0].mask, clip[-1].mask) > 0.6

    def test_says_absent_and_finds_it_again(self, segmenter):
        hidden = range(8, 15)
        clip = cup_passing(hidden)[:22]
        results = follow(
            TrackingSession(segmenter), [r.image for r in clip], [Prompt(mask=clip[0].mask)]
        )
        present = [result.objects[0].present for result in results]
        assert all(present[:8])
        assert sum(present[8:15]) <= 1, present
        assert all(present[17:]), present
        for result, truth in list(zip(results, clip, strict=True))[17:]:
            assert iou(result.objects[0].mask, truth.mask) > 0.6
        kinds = [event.kind for result in results for event in result.events]
        assert kinds == ["added", "lost", "found"]
        assert not results[11].objects[0].mask.any() and not results[11].objects[0].box.any()

    def test_a_mask_corrects_it(self, segmenter):
        """The wrong thing was shown first; from the correction on the right one is followed."""
        clip = cup_passing()[:16]
        wrong = np.zeros_like(clip[0].mask)
        wrong[120:180, 220:300] = True
        session = TrackingSession(segmenter)
        follow(session, [r.image for r in clip[:8]], [Prompt(mask=wrong, object_id=0)])
        after = follow(
            session, [r.image for r in clip[8:]], [Prompt(mask=clip[8].mask, object_id=0)], first=8
        )
        assert iou(after[0].objects[0].mask, clip[8].mask) > 0.95
        assert iou(after[-1].objects[0].mask, clip[-1].mask) > 0.6
        assert [e.kind for e in after[0].events][:1] == ["corrected"]


class TestSeparation:
    PROMPTS = ((0, (30, 30, 90, 90)), (1, (100, 60, 200, 160)), (2, (220, 100, 300, 190)))

    def prompts(self):
        return [Prompt(box=box, object_id=n) for n, box in self.PROMPTS]

    @pytest.mark.parametrize("together", ["on", "off"])
    def test_three_together_equal_three_alone(self, segmenter, together):
        images = [r.image for r in cup_passing()[:8]]
        config = TrackingConfig(batch_objects=together)
        all_of_them = follow(TrackingSession(segmenter, config), images, self.prompts())
        for n, prompt in enumerate(self.prompts()):
            single = follow(TrackingSession(segmenter, config), images, [prompt])
            one = [replace(result, objects=(result.objects[n],)) for result in all_of_them]
            assert answers(one) == answers(single)

    def test_removing_one_leaves_the_others_alone(self, segmenter):
        images = [r.image for r in cup_passing()[:8]]
        session, other = TrackingSession(segmenter), TrackingSession(segmenter)
        follow(session, images[:4], self.prompts())
        follow(other, images[:4], self.prompts()[1:])
        session.remove(0)
        rest = follow(session, images[4:], [], first=4)
        assert answers(rest) == answers(follow(other, images[4:], [], first=4))
        assert [e.kind for e in rest[0].events][:1] == ["removed"]

    def test_sessions_on_one_model_do_not_meet(self, segmenter):
        one, two = ([r.image for r in rendered(seed, 20)[:8]] for seed in (2, 4))
        prompts = [Prompt(box=rendered(2, 20)[0].box)]
        alone = follow(TrackingSession(segmenter), one, prompts)
        first, second = TrackingSession(segmenter), TrackingSession(segmenter)
        mixed = []
        for n in range(8):
            given = prompts if n == 0 else []
            mixed.append(first.step(frame(n, one[n]), given))
            second.step(frame(n, two[n]), given)
        assert answers(mixed) == answers(alone)


class TestOddFrames:
    @pytest.mark.parametrize(
        "size", [(16, 16), (1, 64), (64, 1), (1, 1), (3, 200), (2, 4000), (48, 640)], ids=str
    )
    def test_tiny_and_narrow_ones_do_not_crash(self, segmenter, size):
        """OpenCV's flow takes the whole process down on wide ones that are not filled up."""
        rng = np.random.default_rng(0)
        session = TrackingSession(segmenter)
        height, width = size
        box = Prompt(box=(0, 0, max(1, width // 2), max(1, height // 2)))
        images = rng.integers(0, 255, (5, height, width, 3), np.uint8)
        for result in follow(session, images, [box, Prompt(points=[(width - 1, height - 1)])]):
            check_finite(result)

    @pytest.mark.parametrize("grey", [0, 255])
    def test_flat_ones_give_finite_numbers(self, segmenter, grey):
        images = [np.full((96, 128, 3), grey, np.uint8)] * 4
        session = TrackingSession(segmenter)
        for result in follow(session, images, [Prompt(box=(20, 20, 60, 60))]):
            check_finite(result)

    def test_noise_gives_finite_numbers(self, segmenter):
        images = np.random.default_rng(0).integers(0, 255, (8, 96, 128, 3), np.uint8)
        session = TrackingSession(segmenter)
        for result in follow(session, images, [Prompt(box=(20, 20, 60, 60))]):
            check_finite(result)

    def test_objects_that_leave_the_picture(self, segmenter):
        def path(t):
            return ActorPose(x=250 + 14 * t, y=100, height=60)

        scene = ClipScene("cup", "gravel", Actor("cup", path), frames=16, width=320, height=200)
        clip = list(SyntheticClip(scene))
        results = follow(
            TrackingSession(segmenter), [r.image for r in clip], [Prompt(mask=clip[0].mask)]
        )
        for result in results:
            check_finite(result)
        assert not clip[-1].mask.any()
        assert not any(result.objects[0].present for result in results[-3:])

    def test_another_shape_is_one_clear_error(self, segmenter):
        session = TrackingSession(segmenter)
        clip = cup_passing()
        follow(session, [r.image for r in clip[:3]], [Prompt(box=clip[0].box)])
        before = answers(follow(session, [clip[2].image], [], first=2))
        with pytest.raises(InputError, match="has size 200 x 100, unlike those before"):
            session.step(frame(3, np.zeros((100, 200, 3), np.uint8)))
        assert answers(follow(session, [clip[2].image], [], first=2)) == before

    def test_the_same_shape_larger_goes_on(self, segmenter):
        """Videos larger than the grid are worked on at its size: such a change is none."""
        small = replace(EmbeddedConfig(), grid_side=160, flow_side=80)
        session = TrackingSession(EmbeddedSegmenter.load("cpu", config=small))
        clip = cup_passing()[:12]
        follow(session, [r.image for r in clip[:6]], [Prompt(mask=clip[0].mask)])
        twice = [np.repeat(np.repeat(r.image, 2, axis=0), 2, axis=1) for r in clip[6:]]
        results = follow(session, twice, [], first=6)
        for result, truth in zip(results, clip[6:], strict=True):
            assert iou(result.objects[0].mask[::2, ::2], truth.mask) > 0.6


def check_finite(result):
    for found in result.objects:
        assert np.isfinite(found.box).all() and np.isfinite([found.score, found.object_logit]).all()
        assert 0 <= found.score <= 1 and found.mask.shape == result.size
        json.dumps(dict(found.diary), allow_nan=False)


class TestMemory:
    def grown(self, segmenter, objects=3, frames=12):
        clip = cup_passing()[:frames]
        boxes = [(30, 30, 90, 90), (100, 60, 200, 160), (220, 100, 300, 190)]
        session = TrackingSession(segmenter)
        prompts = [Prompt(box=boxes[n]) for n in range(objects)]
        follow(session, [r.image for r in clip], prompts)
        return session

    def entries(self, session):
        for outcome in session._outcomes.values():
            memory = outcome.after.memory
            for held in (*memory.prompts, *memory.recents):
                yield held.entry

    def test_entries_hold_what_they_say_and_no_more(self, segmenter):
        """A view of a picture or of a batch would keep all of it alive."""
        config = segmenter.config
        for entry in self.entries(self.grown(segmenter)):
            sizes = {k: v.untyped_storage().nbytes() for k, v in entry.tensors.items()}
            wanted = {k: v.numel() * v.element_size() for k, v in entry.tensors.items()}
            assert sizes == wanted
            assert entry.tensors["mask"].shape == (config.tokens**2,)
            assert entry.tensors["prior"].dtype == entry.tensors["grey"].dtype == torch.uint8
            # Tokens are halves where the processor computes with them, else twice as large.
            wide = entry.tensors["tokens"].element_size() == 4
            assert sum(sizes.values()) < (800_000 if wide else 500_000)

    def test_grey_pictures_are_shared_and_counted_once(self, segmenter):
        session = self.grown(segmenter)
        greys: dict[int, set[int]] = {}
        for entry in self.entries(session):
            greys.setdefault(entry.index, set()).add(entry.tensors["grey"].data_ptr())
        assert all(len(places) == 1 for places in greys.values())
        one = self.grown(segmenter, objects=1).usage()
        three = session.usage()
        grey = next(self.entries(session)).tensors["grey"].nbytes
        # Objects may keep frames that others do not: of each grey, at least one copy is saved.
        assert three.bytes <= 3 * one.bytes - len(greys) * grey

    def test_absent_frames_have_no_say(self, segmenter):
        hidden = range(8, 15)
        clip = cup_passing(hidden)[:14]
        session = TrackingSession(segmenter)
        follow(session, [r.image for r in clip], [Prompt(mask=clip[0].mask)])
        (outcome,) = session._outcomes.values()
        recents = [held.entry for held in outcome.after.memory.recents]
        seen = [e for e in recents if float(e.tensors["seen"]) > 0]
        assert len(seen) < len(recents)
        prompts = [held.entry for held in outcome.after.memory.prompts]
        read = MemoryRead(prompts, [(e, n) for n, e in enumerate(recents)], [], 14)
        assert len(remembered(read, segmenter.config)) == len(prompts) + len(seen)

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_snapshots_continue_bit_for_bit(self, precision, tmp_path):
        segmenter = EmbeddedSegmenter.load("cpu", precision)
        until, end = (10, 16) if precision == "fp32" else (4, 6)  # slow where a CPU has no bf16
        session = self.grown(segmenter, frames=until)
        session.snapshot(tmp_path / "s.safetensors")
        kind = next(self.entries(session)).tensors["tokens"].dtype
        assert kind == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        images = [r.image for r in cup_passing()[until:end]]
        loaded = TrackingSession.resume(
            tmp_path / "s.safetensors", EmbeddedSegmenter.load("cpu", precision)
        )
        assert loaded.usage() == session.usage()
        wanted = follow(session, images, [], first=until)
        assert answers(follow(loaded, images, [], first=until)) == answers(wanted)

    def test_snapshots_refuse_another_configuration(self, segmenter, tmp_path):
        session = self.grown(segmenter, objects=1, frames=2)
        session.snapshot(tmp_path / "s.safetensors")
        other = EmbeddedSegmenter.load("cpu", config=EmbeddedConfig(temperature=0.05))
        with pytest.raises(ModelError, match="was made with model 'embedded#"):
            TrackingSession.resume(tmp_path / "s.safetensors", other)


class TestLoading:
    def test_model_id_tells_configurations_apart(self):
        kinds = [
            EmbeddedSegmenter.load("cpu", "fp32"),
            EmbeddedSegmenter.load("cpu", "bf16"),
            EmbeddedSegmenter.load("cpu", "fp32", EmbeddedConfig(alone=0.2)),
        ]
        ids = [kind.traits.model_id for kind in kinds]
        assert len(set(ids)) == 3 and all(name.startswith("embedded#") for name in ids)
        assert EmbeddedSegmenter.load("cpu", "fp32").traits.model_id == ids[0]

    def test_by_name(self):
        made = load_segmenter("embedded", device="cpu", precision="fp32")
        assert isinstance(made, EmbeddedSegmenter) and made.dtype == torch.float32
        assert made.config == EmbeddedConfig()

    @pytest.mark.parametrize("precision", ["fp16", "int8"])
    def test_unknown_precision(self, precision):
        with pytest.raises(InputError, match="expected auto, fp32 or bf16"):
            EmbeddedSegmenter.load("cpu", precision)

    @pytest.mark.parametrize(
        "wrong", [{"window": 100}, {"window": 0}, {"present": 1.0}, {"weights": (1.0, 2.0)}]
    )
    def test_impossible_constants(self, wrong):
        with pytest.raises(InputError, match=next(iter(wrong))):
            EmbeddedConfig(**wrong)


def test_policies_that_keep_nothing_recent_still_follow(segmenter):
    """Reading prompts only, the newest state is the prompt's: the window stays where it was."""
    clip = cup_passing()[:4]
    session = TrackingSession(segmenter, policy=PromptsOnly())
    results = follow(session, [r.image for r in clip], [Prompt(box=clip[0].box)])
    assert iou(results[-1].objects[0].mask, clip[-1].mask) > 0.5
