"""Fixtures for tests of the miniature: its scripts, an untaught one, streams to watch."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from vision_mem.models.vlm import miniature


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scripts(root):
    """The modules of the training script."""
    sys.path.insert(0, str(root / "scripts"))
    try:
        import miniature_checks
        import miniature_course
        import miniature_learning
        import miniature_pictures
        import miniature_questions
        import miniature_seeing
        import miniature_watching
        import train_miniature

        modules = (
            miniature_checks, miniature_course, miniature_learning, miniature_pictures,
            miniature_questions, miniature_seeing, miniature_watching, train_miniature,
        )  # fmt: skip
        yield {module.__name__: module for module in modules}
    finally:
        sys.path.remove(str(root / "scripts"))


@pytest.fixture(scope="module")
def learning(scripts):
    return scripts["miniature_learning"]


@pytest.fixture(scope="module")
def watching(scripts):
    return scripts["miniature_watching"]


@pytest.fixture(scope="module")
def network():
    return miniature.miniature_network(1)


@pytest.fixture(scope="module")
def pupil(learning, network):
    return learning.Pupil(network)


@pytest.fixture(scope="module")
def pool(watching, pupil, tmp_path_factory):
    return watching.Pool(tmp_path_factory.mktemp("tokens"), pupil, 11)


@pytest.fixture(scope="module")
def watches(scripts):
    """A short stretch, and a stream whose memory drops a good part."""
    made = scripts["miniature_questions"]
    stream = made.stream_of(11)
    short = made.make_now(0, stream, np.random.default_rng(3), 4)
    times = [t for t in range(14, 24) if stream.is_quiet(t)]
    rng = np.random.default_rng(1)
    moments = tuple(
        (t, made.choices_at(stream, t, rng, made.CHOICES, passes=1, most=5))
        for t in (times[0], times[-1])
    )
    long = made.Watch(0, 0, "default", 144, moments)
    return {"short": short, "remembered": long}
