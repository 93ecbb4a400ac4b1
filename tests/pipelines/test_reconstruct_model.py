"""``vision-mem reconstruct --model``: a video and a checkpoint, here a miniature of CUT3R's."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mem4d_checkpoint_samples import peer_state, write_peer
from reconstruct_samples import film, ply, reconstruct

from vision_mem.formats.rgbd_folders import write_tum
from vision_mem.formats.trajectory import read_trajectory
from vision_mem.models.mem4d.load import from_checkpoint
from vision_mem.reconstruction import ReconstructionSession
from vision_mem.reconstruction.learned import LearnedSession
from vision_mem.reconstruction.learned.pictures import PictureSession
from vision_mem.reconstruction.records import MOVING
from vision_mem.sources.open import open_source
from vision_mem.visualization.contact_sheet import write_video

SAVES = "trajectory,depth-npz,events,map"
FRAMES = 14


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Of this seed most points lie before the camera.
    return write_peer(tmp_path_factory.mktemp("models") / "mini.pth", peer_state(seed=2))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "room.mp4"
    write_video(path, (true.frame.image for true in film()[:FRAMES]), 10.0)
    return path


@pytest.fixture(scope="module")
def whole(model: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert reconstruct(clip, out, "--model", str(model), "--save", SAVES) == 0
    return out


def _results(out: Path) -> dict[str, bytes]:
    kept = [*out.glob("*.txt"), *out.glob("*.jsonl"), *out.glob("*.ply"), *out.rglob("*.npz")]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(kept)}


def _depth(path: Path) -> np.ndarray:
    with np.load(path) as opened:
        return opened[opened.files[0]]


def test_depth_and_poses_are_those_of_the_network(model: Path, clip: Path, whole: Path) -> None:
    session = LearnedSession(from_checkpoint(model, device="cpu")[0])
    path = read_trajectory(whole / "room.tum.txt")
    assert len(path) == FRAMES
    with open_source(clip) as source, torch.no_grad():
        for k, frame in enumerate(source):
            found = session.step(frame)
            depth = _depth(whole / "depth-npz" / f"{k:06d}.npz")
            assert depth.shape == found.depth.shape == (48, 64)
            kept = (found.conf_self > 1.5) & (found.depth > 0)
            assert kept.any() and not depth[~kept].any()
            np.testing.assert_allclose(depth[kept], found.depth[kept], rtol=1e-5)
            np.testing.assert_allclose(path.poses[k], found.pose, atol=1e-6)
    assert k == FRAMES - 1
    record = json.loads((whole / "run.json").read_text())
    assert record["options"]["model"] == str(model) and record["status"] == "finished"
    names = set(record["memory"]["detail"])
    assert {"network persistent", "network pose"} <= names and len(names) > 4


def test_a_run_continues_as_if_it_had_not_stopped(
    model: Path, clip: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["--model", str(model), "--save", SAVES, "--snapshot-every", "4"]
    assert reconstruct(clip, out, *words, "--max-frames", "6") == 0
    assert reconstruct(clip, out, "--resume") == 0
    assert _results(out) == _results(whole)


def test_segments_are_joined_and_resumed(
    model: Path, clip: Path, whole: Path, tmp_path: Path
) -> None:
    words = ["--model", str(model), "--save", SAVES, "--segment", "9", "--snapshot-every", "4"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert reconstruct(clip, one, *words) == 0
    assert reconstruct(clip, two, *words, "--max-frames", "7") == 0  # two frames are shared by then
    assert reconstruct(clip, two, "--resume") == 0
    assert _results(one) == _results(two)
    events = [json.loads(line) for line in (one / "room.events.jsonl").read_text().splitlines()]
    seams = [event for event in events if event["kind"] == "segment"]
    # From the ninth frame on; the next one has seen four by then, and ends five later.
    assert [event["frame"] for event in seams] == [8, 13]
    assert "points agree" in seams[0]["name"]
    first, second = (read_trajectory(out / "room.tum.txt").poses for out in (whole, one))
    np.testing.assert_array_equal(first[:9], second[:9])
    assert np.abs(first[9:] - second[9:]).max() > 1e-4


def test_another_checkpoint_does_not_continue_a_run(
    model: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, out = tmp_path / "mini.pth", tmp_path / "out"
    mine.write_bytes(model.read_bytes())
    words = ["--model", str(mine), "--save", "trajectory"]
    assert reconstruct(clip, out, *words, "--max-frames", "3") == 0
    write_peer(mine, peer_state(seed=1))
    assert reconstruct(clip, out, "--resume") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "mini-" in said


def test_a_recording_gives_its_colour_and_its_poses(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "room"
    write_tum(folder, (true.frame for true in film()[:4]))
    words = ["--model", str(model), "--save", "trajectory"]
    assert reconstruct(folder, tmp_path / "given", *words) == 0
    assert reconstruct(folder, tmp_path / "found", *words, "--track-poses") == 0
    given = read_trajectory(tmp_path / "given" / "room.tum.txt")
    found = read_trajectory(tmp_path / "found" / "room.tum.txt")
    truth = np.stack([true.frame.pose for true in film()[:4]])
    np.testing.assert_allclose(given.poses, truth, atol=1e-5)
    np.testing.assert_allclose(found.poses[0], np.eye(4), atol=1e-6)
    assert np.abs(found.poses - truth).max() > 0.1


def test_a_network_of_our_own_makes_depth_and_says_what_moves(clip: Path, tmp_path: Path) -> None:
    words = ["--model", "random:nano-48", "--save", "trajectory,depth-npz", "--max-frames", "3"]
    assert reconstruct(clip, tmp_path / "out", *words) == 0
    depth = [_depth(path) for path in sorted((tmp_path / "out" / "depth-npz").glob("*.npz"))]
    assert len(depth) == 3 and depth[0].shape == (48, 48)
    assert all((each > 0).mean() > 0.9 for each in depth)


def test_masks_are_believed(model: Path, clip: Path, tmp_path: Path) -> None:
    """All pixels move: each one with depth is in the file, and without masks none is."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for k in range(4):
        cv2.imwrite(str(masks / f"{k:06d}.png"), np.full((72, 96), 255, np.uint8))
    words = ["--model", str(model), "--save", "dynamic", "--max-frames", "4", "--gate", "static"]
    moving = {}
    for name, more in (("with", ["--dynamic-masks", str(masks)]), ("without", [])):
        out = tmp_path / name
        assert reconstruct(clip, out, *words, *more) == 0
        moving[name] = sum(ply(path)[1] for path in (out / "dynamic").glob("*.ply"))
    assert moving["with"] > 1000 and not moving["without"]


def test_intrinsics_are_those_given_or_those_of_the_first_frame(model: Path, clip: Path) -> None:
    session = LearnedSession(from_checkpoint(model, device="cpu")[0])
    with open_source(clip, max_frames=3) as source:
        frames = list(source)
    cameras = {}
    for name, numbers in (("given", (90.0, 92.0, 47.5, 35.5)), ("found", None)):
        session.reset()
        looking = PictureSession(session, ReconstructionSession(), None, False, numbers)
        cameras[name] = [looking.step(frame).frame.camera for frame in frames]
    # 96 x 72 made 64 x 48: two thirds of everything.
    assert cameras["given"][0].numbers == pytest.approx([60, 92 * 2 / 3, 32, 24])
    assert len(set(cameras["given"])) == len(set(cameras["found"])) == 1


class Watchful(ReconstructionSession):
    """Finds that whatever is on the left moves."""

    def step(self, frame, masks=None):
        left = np.zeros(frame.size, bool)
        left[:, : frame.size[1] // 2] = True
        return super().step(frame, left)


def test_what_the_map_finds_moving_is_kept_out_of_the_slots(model: Path, clip: Path) -> None:
    """The second session's labels reach the gate, and each frame counts once."""
    network = from_checkpoint(model, gate="static", device="cpu")[0]
    with open_source(clip, max_frames=4) as source:
        frames = list(source)
    learned, plain, masked = (LearnedSession(network) for _ in range(3))
    looking = PictureSession(learned, Watchful(), None, False, None)
    for frame in frames:
        scene = looking.step(frame)
        moving = scene.found.labels == MOVING
        assert moving[:, :32].sum() > 3 * moving[:, 32:].sum()
        whole = cv2.resize(moving.astype(np.uint8), (96, 72), interpolation=cv2.INTER_NEAREST)
        masked.step(frame, whole > 0)
        plain.step(frame)
    ends = [one.state_dict()["stream"] for one in (learned, masked, plain)]
    assert [int(end["frame"]) for end in ends] == [4, 4, 4]
    slots = [end["store"]["slots"] for end in ends]
    assert torch.equal(slots[0], slots[1])
    assert (slots[0] - slots[2]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--gate", "one"], 2, "--gate and --segment are for --model"),
        (["--segment", "9"], 2, "--gate and --segment are for --model"),
        (["--model", "MODEL", "--segment", "8"], 2, "expected overlap"),
        (["--model", "MODEL", "--gate", "wide"], 2, "gate is 'wide'"),
        (["--model", "random:nano-48", "--gate", "one"], 2, "no slots"),
        (["--model", "random:nano-47"], 2, "nano-47"),
        (["--model", "nowhere.pth"], 2, "nowhere.pth is missing"),
        (["--model", "CLIP"], 2, "not a torch file"),
        (["--model", "MODEL", "--poses", "x.txt"], 2, "--poses"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    model: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    words: list[str], code: int, told: str,
) -> None:  # fmt: skip
    places = {"MODEL": str(model), "CLIP": str(clip)}
    given = [places.get(word, word) for word in words]
    assert reconstruct(clip, tmp_path / "out", *given) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and told in said
