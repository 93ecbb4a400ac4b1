"""``vision-mem score`` from the command line, on sets made here."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from vision_mem.cli import main


@pytest.fixture
def lasot(tmp_path):
    """Two sequences of LaSOT's layout, and two trackers' results."""
    truth = np.array([[50, 60, 40, 30]] * 10)
    for name in ("cat-1", "dog-7"):
        folder = tmp_path / "LaSOT" / name.split("-")[0] / name
        (folder / "img").mkdir(parents=True)
        np.savetxt(folder / "groundtruth.txt", truth, fmt="%d", delimiter=",")
        (folder / "out_of_view.txt").write_text("0,0,0,0,0,0,0,0,0,0")
        (folder / "full_occlusion.txt").write_text("0,0,0,0,0,0,0,0,1,1")
    (tmp_path / "LaSOT" / "testing_set.txt").write_text("cat-1\ndog-7\n")
    for tracker, off in (("near", 2), ("far", 15)):
        folder = tmp_path / tracker
        folder.mkdir()
        for name in ("cat-1", "dog-7"):
            np.savetxt(folder / f"{name}.txt", truth + [off, 0, 0, 0], fmt="%d", delimiter="\t")
    return tmp_path


def run(capsys, *words):
    code = main(["score", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_side_by_side(lasot, capsys):
    out = lasot / "report"
    words = ("lasot", "--root", lasot / "LaSOT", "--results", lasot / "far")
    code, said, _ = run(capsys, *words, "--results", lasot / "near", "--out", out)
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == "LaSOT: 2 sequences"
    assert [line.split()[0] for line in lines[4:6]] == ["near", "far"]
    assert any("flagged as absent" in line for line in lines)
    assert (out / "success.png").stat().st_size > 10_000
    assert json.loads((out / "scores.json").read_text())["trackers"][0]["name"] == "near"


def test_json_and_names(lasot, capsys):
    words = ("lasot", lasot / "near", lasot / "far", "--root", lasot / "LaSOT")
    code, said, _ = run(
        capsys, *words, "--json", "--absent", "pytracking", "--strict",
        "--name", "Ours", "--name", "Theirs", "--sequences", "dog-*",
    )  # fmt: skip
    assert code == 0
    found = json.loads(said)
    assert [tracker["name"] for tracker in found["trackers"]] == ["Ours", "Theirs"]
    assert list(found["trackers"][0]["sequences"]) == ["dog-7"]
    assert found["rules"] == {
        "strict": True, "absent": "pytracking", "partial": False, "repair": False,
    }  # fmt: skip
    assert found["trackers"][0]["summary"]["P"] == pytest.approx(0.8)  # 8 of 10 are in view


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--results"),
        (["--results", "{near}", "--name", "a", "--name", "b"], "2 --name for 1 --results"),
        (["--results", "{none}"], "no such folder"),
        (["--results", "{LaSOT}"], "holds no result"),
        (["--results", "{near}", "--absent", "drop"], "miss, pytracking, skip"),
        (["--results", "{near}", "--sequences", "dgo-7"], "dgo-7"),
    ],
)
def test_wrong_use(lasot, capsys, words, message):
    filled = [
        w.format(near=lasot / "near", none=lasot / "none", LaSOT=lasot / "LaSOT") for w in words
    ]
    code, said, error = run(capsys, "lasot", "--root", lasot / "LaSOT", *filled)
    assert code == 2
    assert message in error
    assert not said
    assert len(error.splitlines()) == 1


def test_unknown_sets(lasot, capsys):
    code, _, error = run(capsys, "lasott", lasot / "near", "--root", lasot)
    assert code == 2
    assert "did you mean 'lasot'?" in error


def test_got10k_in_a_process_of_its_own(vision_mem, tmp_path):
    import scorer_inputs

    scorer_inputs.write_got10k(tmp_path / "data", tmp_path / "ours")
    done = vision_mem(
        "score", "got10k-val", "--root", tmp_path / "data", "--results", tmp_path / "ours",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tracker,) = json.loads(done.stdout)["trackers"]
    assert list(tracker["summary"]) == ["AO", "SR50", "SR75"]
    assert done.stderr == ""


def test_scoring_needs_no_torch(vision_mem):
    import subprocess

    code = (
        "import sys; from vision_mem.evaluation import registry, report; "
        "from vision_mem.evaluation.sot import datasets, results, scores; "
        "print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A generated set of many objects, its truth as results, and a copy with a hole."""
    from vision_mem.synthetic.crowd_sets import write_crowd
    from vision_mem.synthetic.crowds import CrowdSettings

    root = tmp_path_factory.mktemp("crowd")
    write_crowd(root, [CrowdSettings(frames=12, width=160, height=96, objects=3, ignored=False)])
    truth = root / "training" / "instances_txt" / "0000.txt"
    for name, lines in (("all", slice(None)), ("half", slice(None, None, 2))):
        (root / name).mkdir()
        kept = truth.read_text().splitlines()[lines]
        (root / name / "0000.txt").write_text("\n".join(kept) + "\n")
    return root


def test_many_objects(crowd, capsys):
    words = ("--root", crowd, "--results", crowd / "all", "--results", crowd / "half", "--json")
    code, out, err = run(capsys, "kitti-mots", *words)
    assert code == 0, err
    all_, half = json.loads(out)["trackers"]
    assert (all_["name"], half["name"]) == ("all", "half")
    assert all_["summary"]["HOTA"] == pytest.approx(1) and all_["summary"]["IDS"] == 0
    assert half["summary"]["HOTA"] < 0.9 and half["summary"]["FN"] > 0
    code, out, err = run(capsys, "kitti-mots", *words[:-1], "--out", crowd / "out")
    assert code == 0 and "HOTA" in out and (crowd / "out" / "summary.csv").is_file(), err
    assert "hota.png" in out and (crowd / "out" / "hota.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("kitti-mots", "--strict"), "no such option --strict for kitti-mots"),
        (("kitti-mot5",), "did you mean"),
    ],
)
def test_many_objects_one_line_errors(crowd, capsys, words, said):
    code, _, err = run(capsys, *words, "--root", crowd, "--results", crowd / "all")
    assert code == 2 and said in err and len(err.splitlines()) == 1
