"""A multi-object session goes on: from a snapshot, and after a step that failed."""

from __future__ import annotations

import pytest
from mots_samples import answer, config, run, same, two

from vision_mem.errors import InputError, ModelError
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsSession


def test_snapshot_and_resume_continue_identically(tmp_path):
    segmenter = FakeSegmenter()
    session = MotsSession(segmenter, config("memory.max_tracks=5", "birth.free_share=0.55"))
    run(session, range(9))
    session.rename(1, "anna")
    session.snapshot(tmp_path / "s.safetensors")
    resumed = MotsSession.resume(tmp_path / "s.safetensors", segmenter)
    assert resumed.config == session.config
    for t in range(9, 30):
        assert answer(session.step(*two(t))) == answer(resumed.step(*two(t)))
    assert same(session.state_dict(), resumed.state_dict())
    with pytest.raises(ModelError, match="cannot continue on 'other'"):
        MotsSession.resume(tmp_path / "s.safetensors", FakeSegmenter("other"))
    with pytest.raises(ModelError, match="not a whole state"):
        session.load_state_dict({"tracks": []})


def test_a_step_that_fails_loses_nothing(monkeypatch):
    segmenter = FakeSegmenter()
    session = MotsSession(segmenter)
    run(session, range(5))
    before = session.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(segmenter, "encode_memory", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.step(*two(5))
    assert same(session.state_dict(), before)
    with pytest.raises(InputError, match="comes twice"):
        session.step(*two(4))
    assert len(session.step(*two(5)).shown) == 2
