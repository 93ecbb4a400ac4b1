"""What is made once a frame or once a model equals what SAM 2 makes for each object."""

from __future__ import annotations

import pytest
import torch
from parity_inputs import BOX, Perturbation, config, frame, segmenter

from vision_mem.errors import InputError
from vision_mem.models import load_segmenter
from vision_mem.tracking import TrackingSession
from vision_mem.types import Prompt

NAME = "random:sam2.1_hiera_t@128"
BOXES = [BOX, (60.0, 60.0, 100.0, 100.0), (5.0, 80.0, 50.0, 120.0)]


def test_image_features_are_those_of_the_package():
    own = segmenter()
    with torch.inference_mode():
        image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(3))
        for _ in range(2):  # the second time constants come from the first
            made = own.images(image)
            _, maps, positions, sizes = own.network._prepare_backbone_features(
                own.network.forward_image(image)
            )
            assert made.sizes == sizes
            assert torch.equal(made.position, positions[-1])
            assert all(map(torch.equal, made.maps, maps))


def test_memory_attention_is_that_of_the_package():
    own = segmenter()
    session = TrackingSession(own, config("sam2"))
    prompts = [Prompt(box=box) for box in BOXES]
    for t in range(9):
        session.step(frame(t), prompts if t == 0 else ())
    encoded = own.encode_image(frame(9)).payload
    reads = [outcome.after.memory.read(9) for outcome in session._outcomes.values()]
    with torch.inference_mode():
        for read in reads:
            tokens, codes, pointers = own.memories._tokens(read)
            theirs = own.memories._package_attention(
                encoded, tokens, codes, pointer_tokens=pointers
            )
            assert torch.equal(own.memories.recall(encoded, [read]), theirs)


def test_memory_maps_are_those_of_the_package():
    own = segmenter()
    features = own.encode_image(frame(0))
    made = own.decode_prompt(features, Prompt(box=BOX))
    grid = own.to_grid(made.logits, features)
    encoded = features.payload
    for from_prompt in (True, False):
        for score in (made.object_logit, -made.object_logit):
            ours = own.encode_memory(features, grid, score, from_prompt=from_prompt)[0]["map"]
            with torch.inference_mode():
                theirs, _ = own.network._encode_new_memory(
                    encoded.maps[-1:], encoded.sizes, grid, score.view(-1, 1), from_prompt
                )
            assert torch.equal(ours, theirs.to(torch.bfloat16))


def test_folded_attention_stays_within_the_tolerance_of_parity():
    folded = load_segmenter(NAME, device="cpu", attention="folded")
    runs = []
    for one in (segmenter(), folded):
        session = TrackingSession(one, config("sam2"))
        logits = []
        with Perturbation(one.network) as change:
            for t in range(24):
                change.at(t)
                prompts = [Prompt(object_id=n, box=box) for n, box in enumerate(BOXES)]
                session.step(frame(t), prompts if t == 0 else ())
                logits.append([o.logits.clone() for o in session._outcomes.values()])
        runs.append(logits)
    for exact, quick in zip(*runs, strict=True):
        for one, other in zip(exact, quick, strict=True):
            assert float((one - other).abs().max()) <= 1e-3
            assert torch.equal(one > 0, other > 0)
    together = TrackingSession(folded, config("sam2", batch_objects="on"))
    for t in range(3):
        together.step(frame(t), [Prompt(box=box) for box in BOXES] if t == 0 else ())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"attention": "quick"}, "exact, folded"),
        ({"attention": "folded", "precision": "bf16"}, "fp32"),
    ],
)
def test_wrong_attention_is_one_clear_line(options, word):
    with pytest.raises(InputError, match=word):
        load_segmenter(NAME, device="cpu", **options)
