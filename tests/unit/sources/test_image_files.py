"""Image files with many pictures, and folders as people keep them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vision_mem.errors import SourceError
from vision_mem.sources.open import open_source


def pictures(count: int = 5) -> list[Image.Image]:
    return [Image.fromarray(np.full((24, 32, 3), 40 * n, np.uint8)) for n in range(count)]


@pytest.mark.parametrize(
    ("name", "options", "step_s"),
    [
        ("stack.tif", {}, 1 / 30),
        ("moves.gif", {"duration": 100}, 0.1),
        ("moves.webp", {"duration": 40, "lossless": True}, 0.04),
        ("moves.png", {"duration": 250}, 0.25),
    ],
)
def test_all_pictures_of_a_file_are_frames(tmp_path, name, options, step_s):
    first, *rest = pictures()
    first.save(tmp_path / name, save_all=True, append_images=rest, **options)
    with open_source(tmp_path / name) as source:
        frames = list(source)
        assert source.info.frame_count == 5
    assert [int(frame.image[5, 5, 0]) for frame in frames] == [0, 40, 80, 120, 160]
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(5) * step_s, atol=1e-6)
    with open_source(tmp_path / name, start=1, stride=2) as source:
        assert [frame.index for frame in source] == [1, 3]


def test_sixty_of_sixty(root):
    with open_source(root / "tests" / "fixtures" / "video" / "anim.webp") as source:
        assert len(list(source)) == 60


def test_a_stack_in_a_folder_is_told(tmp_path, caplog):
    first, *rest = pictures()
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest)
    first.save(tmp_path / "b.tif")
    with open_source(tmp_path) as source:
        assert len(list(source)) == 2
    assert "a.tif holds 5 pictures" in caplog.text


@pytest.mark.parametrize("suffix", ["ppm", "pgm", "gif", "bmp"])
def test_more_kinds_of_images(tmp_path, suffix):
    for number, image in enumerate(pictures()):
        image.convert("L" if suffix == "pgm" else "RGB").save(tmp_path / f"{number}.{suffix}")
    with open_source(tmp_path) as source:
        assert len(list(source)) == 5


def test_decimals_in_names_are_numbers(tmp_path):
    names = ["0.25", "0.5", "1.125", "1.5", "10.0", "img2", "img10"]
    for name in names:
        pictures(1)[0].save(tmp_path / f"{name}.png")
    from vision_mem.sources.images import _wanted_files

    assert [path.stem for path in _wanted_files(tmp_path)] == names


def test_pictures_and_masks_in_one_folder_are_told(tmp_path, caplog):
    for number, image in enumerate(pictures(2)):
        image.save(tmp_path / f"{number}.jpg")
        image.save(tmp_path / f"{number}.png")
    with open_source(tmp_path):
        pass
    assert "seems to hold masks beside pictures (0.png)" in caplog.text


def test_what_to_give_instead_is_said(tmp_path):
    (tmp_path / "a" / "one").mkdir(parents=True)
    pictures(1)[0].save(tmp_path / "a" / "one" / "0.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "clip.mp4").write_bytes(b"x")
    for given, said in [
        (tmp_path / "a", r"folders of images \(one\); give one of them, as .*a/one"),
        (tmp_path / "b", r"videos \(clip.mp4\); give one of them, as .*clip.mp4"),
        (
            f"{tmp_path}/frames/%05d.png",
            r"is a pattern; give the folder of the images, as .*frames",
        ),
        (f"{tmp_path}/*.png", "is a pattern; give the folder"),
        ("-", "no video source; give a file"),
    ]:
        with pytest.raises(SourceError, match=said):
            open_source(given)


def test_a_folder_of_videos_and_a_picture_is_no_clip(tmp_path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.png")
    with pytest.raises(SourceError, match=r"holds videos \(a.mp4, b.mp4\); give one"):
        open_source(tmp_path)
