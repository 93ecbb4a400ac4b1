"""One gallery of several cameras: who is who, what is forgotten, what is kept in a file."""

from __future__ import annotations

import pytest
import torch

from vision_mem.errors import ModelError
from vision_mem.formats.snapshot import save_snapshot
from vision_mem.mots import SharedGallery, SharedGalleryConfig
from vision_mem.mots.gallery import Looks


def looks(number: int, size: int = 8) -> Looks:
    colours = torch.zeros(size)
    colours[number] = 1.0
    return Looks(colours, torch.zeros(0))


def test_a_track_of_another_camera_is_who_it_looks_like() -> None:
    gallery = SharedGallery()
    red, blue = (gallery.see("east", n, "person", looks(n), 0.0) for n in (1, 2))
    assert red != blue
    assert gallery.see("west", 7, "person", looks(2), 5.0) == blue
    assert gallery.see("west", 8, "car", looks(1), 5.0) not in (red, blue)  # of another class
    assert gallery.identity_of("west", 7) == blue
    assert gallery.identity_of("north", 7) is None


@pytest.mark.parametrize(("later", "same"), [(0.0, False), (3.0, True)])
def test_two_before_one_camera_at_a_time_are_two(later: float, same: bool) -> None:
    gallery = SharedGallery()
    first = gallery.see("east", 1, "person", looks(1), 0.0)
    assert (gallery.see("east", 2, "person", looks(1), later) == first) is same


def test_early_looks_may_be_put_right_and_later_ones_not() -> None:
    gallery = SharedGallery(SharedGalleryConfig(looks=2))
    first = gallery.see("east", 1, "person", looks(1), 0.0)
    new = gallery.see("west", 1, "person", looks(5), 1.0)
    assert new != first
    assert gallery.see("west", 1, "person", looks(1), 2.0) == first  # seen better now
    assert len(gallery) == 1
    assert gallery.see("west", 1, "person", looks(6), 3.0) == first


def test_memory_is_bounded_and_who_was_not_seen_longest_goes() -> None:
    gallery = SharedGallery(SharedGalleryConfig(budget_mb=0.05))
    for n in range(200):
        gallery.see("east", n, "person", looks(n, 256), float(n))
    assert gallery.usage().bytes <= 0.05 * 2**20
    assert 10 < len(gallery) < 200
    assert gallery.identity_of("east", 199) is not None
    assert gallery.identity_of("east", 0) is None


def test_a_file_holds_everything(tmp_path) -> None:
    gallery = SharedGallery()
    red = gallery.see("east", 1, "person", looks(1), 0.0)
    gallery.save(tmp_path / "who.safetensors")
    again = SharedGallery.load(tmp_path / "who.safetensors")
    assert again.see("west", 3, "person", looks(1), 9.0) == red
    assert again.see("west", 4, "person", looks(4), 9.0) == red + 1
    again.release("east")  # its ids begin anew
    assert again.identity_of("east", 1) is None
    save_snapshot(tmp_path / "other", {}, {"kind": "mots"})
    (tmp_path / "cut").write_bytes((tmp_path / "who.safetensors").read_bytes()[:99])
    for name in ("other", "cut", "missing"):
        with pytest.raises(ModelError) as caught:
            SharedGallery.load(tmp_path / name)
        assert "\n" not in str(caught.value)
