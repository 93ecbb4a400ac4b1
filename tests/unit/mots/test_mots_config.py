"""Presets and settings of the multi-object session."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mots_samples import config

from vision_mem.config import preset_names, read_preset
from vision_mem.errors import InputError
from vision_mem.mots import MotsConfig
from vision_mem.mots.config import usual_preset


def test_presets_load_and_say_nothing_that_is_default():
    assert preset_names("mots") == ["default", "motion", "official", "probabilistic", "upright"]
    assert config() == MotsConfig()
    for name in preset_names("mots"):
        said = read_preset(name, "mots")

        def changed(given, plain, where):
            for key, value in given.items():
                own = getattr(plain, key)
                if isinstance(value, dict):
                    changed(value, own, f"{where}.{key}")
                else:
                    assert value != own, f"{where}.{key} is the default"

        changed(said, MotsConfig(), name)


def test_unknown_settings_are_errors():
    with pytest.raises(InputError, match="did you mean 'lifecycle"):
        config("lifecycle.lost_evry=2")
    with pytest.raises(InputError, match="own, official"):
        replace(MotsConfig(), rules="theirs")


@pytest.mark.parametrize(
    ("words", "preset"),
    [
        (["motion"], "motion"),
        (["motion:knn"], "motion"),
        (["motion:upright"], "upright"),
        ([" motion:upright "], "upright"),
        (["motion:upright", "motion"], "motion"),
        (["motion", "red car"], "default"),
        (["dfine"], "default"),
        (["public"], "default"),
    ],
)
def test_the_rules_that_go_with_detectors(words, preset):
    assert usual_preset(words) == preset
