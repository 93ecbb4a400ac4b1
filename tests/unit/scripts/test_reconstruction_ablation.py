"""The comparison of memories: rows of equal tokens, suites that are what they say, its verdicts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from mem4d_samples import small_config, small_network

from vision_mem.errors import InputError
from vision_mem.models.mem4d.config import named_config
from vision_mem.models.mem4d.network import Mem4DNetwork


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scripts(root):
    """The modules of the comparison."""
    folders = [str(root / "scripts" / "train"), str(root / "scripts" / "bench")]
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        import reconstruction_ablation
        import reconstruction_suites
        import reconstruction_variants

        modules = (reconstruction_ablation, reconstruction_suites, reconstruction_variants)
        yield {module.__name__: module for module in modules}
    finally:
        sys.path[:] = before


class TestVariants:
    def test_rows_hold_the_same_number_of_tokens(self, scripts):
        module = scripts["reconstruction_variants"]
        config = named_config("nano-64")
        assert module.budget(config) == 384
        sizes = ("none", "K=1", "K=3", "K=5", "N/2", "2N")
        for name in module.VARIANTS:
            made = module.varied_config(config, name)
            held = made.transient.frames * module.patches(made)
            held += made.persistent.capacity if made.persistent.kind != "none" else 0
            assert name in sizes or held == 384, name

    def test_rows_differ(self, scripts):
        module = scripts["reconstruction_variants"]
        prints = {module.varied_config(named_config("nano-64"), n).fingerprint
                  for n in module.VARIANTS}  # fmt: skip
        assert len(prints) == len(module.VARIANTS) - 1  # nano-64 has K=3 anyway

    def test_rows_have_the_same_weights(self, scripts):
        module = scripts["reconstruction_variants"]
        counts = {}
        for name in module.VARIANTS:
            with torch.device("meta"):
                made = Mem4DNetwork(module.varied_config(small_config(), name))
            counts[name] = sum(p.numel() for p in made.parameters())
        others = {n: c for n, c in counts.items() if n not in ("slots", "no motion")}
        assert len(set(others.values())) == 1

    def test_all_rows_share_one_set_of_weights(self, scripts):
        module = scripts["reconstruction_variants"]
        torch.manual_seed(0)
        rows = module.AllRows(small_config())
        names = {n for row in rows.rows for n, _ in row.named_parameters()}
        assert len(list(rows.parameters())) == len(names) == len(rows.tensors())
        count = len(rows.rows)
        told = [rows.row(3, step).config.fingerprint for step in range(2 * count)]
        assert len(set(told[:count])) == len(set(told)) == len({c.config.fingerprint
                                                                for c in rows.rows})  # fmt: skip
        assert told[:count] != told[count:]
        with torch.no_grad():
            rows.dual.pose.token.fill_(7)
        assert all(float(row.pose.token.detach().min()) == 7 for row in rows.rows)

    def test_an_unknown_row(self, scripts):
        with pytest.raises(InputError, match="dual"):
            scripts["reconstruction_variants"].varied_config(small_config(), "both")


class TestSuites:
    def test_when_a_camera_returns(self, scripts):
        poses = np.tile(np.eye(4), (60, 1, 1))
        poses[2:55, 0, 3] = 2.0
        again = scripts["reconstruction_suites"].returns(poses, 48)
        assert np.flatnonzero(again).tolist() == [55, 56, 57, 58, 59]
        poses[2:55, 0, 3] = 0.5  # it was never far away
        assert not scripts["reconstruction_suites"].returns(poses, 48).any()
        poses[2:, 0, 3] = 2.0  # it never came back
        assert not scripts["reconstruction_suites"].returns(poses, 48).any()

    def test_scenes_are_what_the_suite_is_about(self, scripts, tmp_path):
        module = scripts["reconstruction_suites"]
        _, revisit, clutter = module.suites(24, short=True)
        for suite in (revisit, clutter):
            seeds = module.suitable_seeds(suite, 2, tmp_path)
            assert len(set(seeds)) == 2
            assert min(seeds) >= 2_000_000
            assert module.suitable_seeds(suite, 2, tmp_path) == seeds
        clips = module.suite_clips(clutter, seeds, tmp_path)
        assert clips.dynamic.float().mean() > 0.3
        again = module.suite_clips(clutter, seeds, tmp_path)  # from the file
        assert torch.equal(again.images, clips.images)
        assert module.suite_clips(clutter, [seeds[0], 5], tmp_path).seeds.tolist() == [seeds[0], 5]

    def test_too_few_scenes(self, scripts, tmp_path, monkeypatch):
        module = scripts["reconstruction_suites"]
        monkeypatch.setattr(module, "_suits", lambda suite, seed: False)
        with pytest.raises(InputError, match="0 of 1 scenes"):
            module.suitable_seeds(module.suites(24)[1], 1, tmp_path)

    def test_ghosts_are_points_off_all_surfaces(self, scripts, tmp_path):
        module = scripts["reconstruction_suites"]
        suite = module.suites(24, short=True)[0]
        clips = module.suite_clips(suite, [2_000_000], tmp_path)
        truth = clips.truth()
        moving, first = truth.dynamic[0], clips.pose[0, 0]
        true = module._ghosts(truth.points_world[0], moving, suite, 2_000_000, first)
        off = module._ghosts(truth.points_world[0] * 0.8, moving, suite, 2_000_000, first)
        assert true < 2
        assert off > 50

    def test_all_columns_are_measured(self, scripts, tmp_path):
        module = scripts["reconstruction_suites"]
        suite = replace(module.suites(32, short=True)[0], batch=2)
        found = module.measure(small_network(), suite, [2_000_000, 2_000_001], tmp_path)
        columns = set(scripts["reconstruction_ablation"].COLUMNS)
        assert columns <= set(found)
        assert all(np.isfinite(found[n]) for n in columns - {"revisit"})
        assert found["ate"] == pytest.approx(np.mean(found["each"]["ate"]))
        assert len(found["each"]["revisit"]) == 2


def result(**changed):
    columns = {"abs rel": 0.2, "abs rel static": 0.2, "abs rel moving": 0.2, "world static": 0.5,
               "world moving": 0.5, "ate": 0.1, "rpe r": 1.0, "mask iou": 0.5, "revisit": 0.5,
               "ghost": 10.0, "ms": 3.0}  # fmt: skip
    told = {suite: dict(columns) for suite in ("motion", "revisit", "clutter")}
    for name, (suite, value) in changed.items():
        told[suite][name.replace("_", " ")] = value
    for columns in told.values():
        columns["each"] = {name: [value] * 4 for name, value in columns.items()}
    return {**told, "tokens": 126, "kib": 94.0, "seconds": 1.0}


class TestVerdicts:
    def test_better_by_enough(self, scripts):
        rows = {
            "dual": {s: result(revisit=("revisit", 0.3 + 0.01 * s)) for s in range(3)},
            "fifo": {s: result(revisit=("revisit", 0.5 + 0.01 * s)) for s in range(3)},
            "none": {},
        }
        told = scripts["reconstruction_ablation"].judged(rows)
        assert "none: not measured" in told[0]
        assert "yes" in told[1]
        assert "beyond two standard errors" in told[1]
        assert "no (" in told[4]

    def test_clips_that_disagree_leave_it_open(self, scripts):
        rows = {
            "dual": {s: result(revisit=("revisit", 0.3)) for s in range(3)},
            "fifo": {s: result(revisit=("revisit", 0.5)) for s in range(3)},
        }
        for seed in range(3):
            rows["dual"][seed]["revisit"]["each"] = {"revisit": [0.1, 0.5, np.nan, 0.3]}
            rows["fifo"][seed]["revisit"]["each"] = {"revisit": [0.9, 0.1, np.nan, 0.5]}
        assert "within two errors" in scripts["reconstruction_ablation"].judged(rows)[1]
        for seed in range(3):  # as different from each other, but all to the same side
            rows["fifo"][seed]["revisit"]["each"] = {"revisit": [0.3, 0.7, np.nan, 0.5]}
        assert "beyond two" in scripts["reconstruction_ablation"].judged(rows)[1]

    def test_a_memory_against_none(self, scripts):
        rows = {
            "dual": {s: result(ate=("motion", 0.05), mask_iou=("clutter", 0.6)) for s in range(2)},
            "none": {s: result(ghost=("clutter", 8.0 + 2 * s)) for s in range(2)},
        }
        told = scripts["reconstruction_ablation"].judged(rows)[0]
        assert "in 2 of 30 beyond two standard errors" in told
        assert "worse: " not in told  # 8 and 10 against 10: an error of 1
        assert "clutter ghost" in told and "clutter mask iou" not in told
        rows["none"] = {s: result(ghost=("clutter", 8.0 + 0.1 * s)) for s in range(2)}
        assert "worse: clutter ghost" in scripts["reconstruction_ablation"].judged(rows)[0]

    def test_what_other_rows_do_better_and_worse(self, scripts):
        module = scripts["reconstruction_ablation"]
        rows = {
            "dual": {s: result() for s in range(2)},
            "no gate": {
                s: result(ate=("motion", 0.05), mask_iou=("clutter", 0.4)) for s in range(2)
            },
            "average": {s: result(ate=("motion", 0.09 + 0.02 * s)) for s in range(2)},
            "fifo": {0: result(ate=("motion", 0.3))},
        }
        told = module.beside_dual(rows)[2:]
        assert told == [
            "* no gate: better: motion ate; worse: clutter mask iou", "* average: nothing",
        ]  # fmt: skip
        assert module.beside_dual({"none": rows["fifo"]}) == []

    def test_one_seed_proves_nothing(self, scripts):
        rows = {"dual": {0: result(ghost=("clutter", 1.0))}, "slots": {0: result()}}
        rows["none"] = {s: result(ghost=("clutter", 2.0 + s)) for s in range(2)}
        told = scripts["reconstruction_ablation"].judged(rows)
        assert "one seed" in told[0] and "one seed" in told[4]

    def test_the_table_names_what_is_missing(self, scripts):
        text = scripts["reconstruction_ablation"].table(
            {"dual": {0: result(), 1: result(ate=("motion", 0.3))}, "fifo": {}}, ["motion"]
        )
        assert "0.200 ± 0.14" in text
        assert "| fifo | 0 | - |" in text


def test_a_comparison_goes_on_where_it_stopped(scripts, tmp_path, monkeypatch, capsys):
    module = scripts["reconstruction_ablation"]
    asked = []

    def row(args, name, seed, sets):
        if name == "fifo" and "fifo" not in asked:
            asked.append("fifo")
            raise KeyboardInterrupt
        asked.append(name)
        return result()

    monkeypatch.setattr(module, "run_row", row)
    monkeypatch.setattr(module, "suitable_seeds", lambda *_: [1])
    flags = ["--out", str(tmp_path), "--trial", "--rows", "dual,fifo", "--seeds", "0"]
    assert module.main(flags) == 130
    assert module.main(flags) == 2
    assert "add --resume" in capsys.readouterr().err
    assert module.main([*flags, "--resume"]) == 0
    assert asked == ["dual", "fifo", "fifo"]
    assert json.loads((tmp_path / "fifo-0.json").read_text())["tokens"] == 126
    assert "| fifo | 1 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "table.png").stat().st_size > 5_000
    assert module.main([*flags, "--resume", "--clips", "9", "--batch", "3"]) == 0  # trial decides
    assert module.main(["--out", str(tmp_path), "--resume", "--rows", "dual"]) == 2
    assert module.main(["--out", str(tmp_path / "x"), "--rows", "duel"]) == 2
