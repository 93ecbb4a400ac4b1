"""Copies of sets of many objects as people have them, and result files where tools put them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vision_mem.cli import main
from vision_mem.errors import InputError
from vision_mem.evaluation.mots.datasets import MOT_BENCHMARKS, open_mot_benchmark
from vision_mem.evaluation.mots.records import read_truth
from vision_mem.evaluation.mots.results import MotResults
from vision_mem.evaluation.mots.scores import score_tracks
from vision_mem.formats.rle import encode_mask

HEIGHT, WIDTH = 12, 20
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[2:8, 3:9] = True
LABEL = "Car 0 0 -10 3 2 9 8 -1 -1 -1 -1000 -1000 -1000 -10"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_images(folder, count, first=0, suffix="png"):
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{number:06d}.{suffix}")


def mots_text(count, first=0, kind=1):
    return "".join(
        f"{t} {kind}001 {kind} {HEIGHT} {WIDTH} {encode_mask(MASK)}\n"
        for t in range(first, first + count)
    )


def write_pngs(folder, count, first=0, kind=1):
    folder.mkdir(parents=True)
    values = np.where(MASK, kind * 1000 + 1, 0).astype(np.uint16)
    for number in range(first, first + count):
        Image.fromarray(values).save(folder / f"{number:06d}.png")


def kitti_text(count):
    return "".join(f"{t} 1 {LABEL}\n" for t in range(count))


def mot_text(count, tail="1,1,1"):
    return "".join(f"{t},1,3,2,6,6,{tail}\n" for t in range(1, count + 1))


def write_challenge(folder, count, truth, *, info=True):
    write_images(folder / "img1", count, first=1, suffix="jpg")
    if truth is not None:
        write(folder / "gt" / "gt.txt", truth)
    if info:
        lines = f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate=25\nseqLength={count}\n"
        write(folder / "seqinfo.ini", f"{lines}imWidth={WIDTH}\nimHeight={HEIGHT}\nimExt=.jpg\n")


def perfect(key, root, results, **options):
    benchmark = open_mot_benchmark(key, root, **options)
    with MotResults(results, benchmark) as found:
        score = score_tracks(benchmark, found)
    assert score.pooled()["HOTA"] == score.pooled()["IDF1"] == 1
    return benchmark


@pytest.mark.parametrize("inside", ["", "training"])
@pytest.mark.parametrize("truth", ["instances_txt", "instances", "label_02"])
def test_kitti_mots(tmp_path, inside, truth):
    place = tmp_path / "set" / inside
    for name in ("0002", "0006"):
        write_images(place / "image_02" / name, 4)
        if truth == "instances":
            write_pngs(place / truth / name, 4)
        else:
            write(place / truth / f"{name}.txt", mots_text(4))
    write(tmp_path / "set" / "evaluate_mots.seqmap.val",
          "0002 empty 000000 000003\n0006 empty 000000 000003\n")  # fmt: skip
    found = perfect("kitti-mots", tmp_path / "set", place / truth)
    assert found.title == "KITTI MOTS val" and found.notes == ()
    assert [(s.name, s.length, len(s.frames), s.size) for s in found.sequences] == [
        ("0002", 4, 4, (HEIGHT, WIDTH)), ("0006", 4, 4, (HEIGHT, WIDTH)),
    ]  # fmt: skip
    assert found.sequences[0].frames[3].name == "000003.png"


def test_kittis_own_sequences_need_no_list(tmp_path):
    for name in ("0000", "0002", "0018"):
        write(tmp_path / "instances_txt" / f"{name}.txt", mots_text(4))
    found = open_mot_benchmark("kitti-mots", tmp_path, need_frames=False)
    assert {s.name: s.length for s in found.sequences} == {"0002": 233, "0018": 339}
    assert found.notes == (
        "7 of 9 sequences of val are not here: 0006, 0007, 0008, 0010, 0013 and 2 more",
    )
    train = open_mot_benchmark("kitti-mots", tmp_path, split="train", need_frames=False)
    assert [s.name for s in train.sequences] == ["0000"]
    with pytest.raises(InputError, match="no split 'vall' of kitti-mots: expected val, train"):
        open_mot_benchmark("kitti-mots", tmp_path, split="vall", need_frames=False)
    with pytest.raises(InputError, match=r"image_02/0002 holds no images; unpack KITTI's left"):
        open_mot_benchmark("kitti-mots", tmp_path)


def test_other_sequences_are_all_taken(tmp_path):
    write(tmp_path / "instances_txt" / "yard.txt", mots_text(4))
    found = open_mot_benchmark("kitti-mots", tmp_path, need_frames=False)
    assert [(s.name, s.length) for s in found.sequences] == [("yard", 4)]
    assert any("took all 1" in note for note in found.notes)
    assert any("nothing says how many frames" in note for note in found.notes)


def test_kitti_boxes(tmp_path):
    for name in ("0000", "0001"):
        write_images(tmp_path / "training" / "image_02" / name, 3)
        write(tmp_path / "training" / "label_02" / f"{name}.txt", kitti_text(3))
    seqmap = "0000 empty 000000 000003\n0001 empty 000000 000003\n"
    write(tmp_path / "evaluate_tracking.seqmap.training", seqmap)
    found = perfect("kitti-mot", tmp_path, tmp_path / "training" / "label_02")
    assert [s.length for s in found.sequences] == [3, 3]
    write(tmp_path / "evaluate_tracking.seqmap.training", "0000 empty\n")
    with pytest.raises(InputError, match=r"seqmap\.training, line 1: expected name, word, first"):
        open_mot_benchmark("kitti-mot", tmp_path)


def test_test_sequences_have_no_truth(tmp_path):
    write_images(tmp_path / "testing" / "image_02" / "0000", 3)
    found = open_mot_benchmark("kitti-mots", tmp_path, split="testing")
    (sequence,) = found.sequences
    assert (sequence.length, sequence.truth) == (3, None)
    with pytest.raises(InputError, match="the truth of 0000 is not here; test sequences are"):
        read_truth(sequence, found.rules)


@pytest.mark.parametrize("split", [None, "train"])
def test_mots_challenge(tmp_path, split):
    for name in ("MOTS20-02", "MOTS20-11"):
        write_challenge(tmp_path / "set" / "train" / name, 3, mots_text(3, 1, kind=2))
        write(tmp_path / "r" / "data" / f"{name}.txt", mots_text(3, 1, kind=2))
    write_challenge(tmp_path / "set" / "test" / "MOTS20-01", 2, None)
    found = perfect("mots-challenge", tmp_path / "set", tmp_path / "r", split=split)
    assert [(s.name, s.length, s.fps) for s in found.sequences] == [
        ("MOTS20-02", 3, 25.0), ("MOTS20-11", 3, 25.0),
    ]  # fmt: skip
    assert found.sequences[0].frames[0].name == "000001.jpg"
    (secret,) = open_mot_benchmark("mots-challenge", tmp_path / "set", split="test").sequences
    assert secret.truth is None
    single = open_mot_benchmark("mots-challenge", tmp_path / "set" / "train" / "MOTS20-02")
    assert [s.name for s in single.sequences] == ["MOTS20-02"]
    with pytest.raises(InputError, match="has no folder tset"):
        open_mot_benchmark("mots-challenge", tmp_path / "set", split="tset")


def test_copies_of_mot17_are_taken_once(tmp_path):
    for detector in ("DPM", "FRCNN", "SDP"):
        write_challenge(tmp_path / "set" / "train" / f"MOT17-02-{detector}", 3, mot_text(3))
    write(tmp_path / "r" / "MOT17-02.txt", mot_text(3, "0.9,-1,-1,-1"))
    found = perfect("mot17", tmp_path / "set", tmp_path / "r")
    assert [s.name for s in found.sequences] == ["MOT17-02-FRCNN"]
    assert "2 copies for other detectors are left out" in found.notes[0]
    every = perfect("mot17", tmp_path / "set", tmp_path / "r", split="all")
    assert len(every.sequences) == 3


@pytest.mark.parametrize(
    ("there", "split", "results", "scored"),
    [
        (["DPM", "FRCNN", "SDP"], "DPM", ["DPM"], ["MOT17-02-DPM"]),
        (["FRCNN"], "sdp", ["SDP"], ["MOT17-02-SDP"]),  # the truth is that of all copies
        (["FRCNN"], "all", ["DPM", "FRCNN", "SDP"],
         ["MOT17-02-FRCNN", "MOT17-02-DPM", "MOT17-02-SDP"]),
        (["DPM", "FRCNN"], "all", ["DPM", "FRCNN"], ["MOT17-02-FRCNN", "MOT17-02-DPM"]),
        (["FRCNN"], None, ["DPM"], "--split DPM"),
        (["FRCNN"], None, ["DPM", "SDP"], "--split DPM or --split SDP"),
        (["DPM", "FRCNN"], None, ["DPM", "FRCNN"], ["MOT17-02-FRCNN"]),
        (["FRCNN"], "val", ["FRCNN"], "has no folder val"),
    ],
)  # fmt: skip
def test_results_for_the_detectors_of_mot17(there, split, results, scored, tmp_path, capsys):
    for detector in there:
        write_challenge(tmp_path / "set/train" / f"MOT17-02-{detector}", 3, mot_text(3))
    for detector in results:
        write(tmp_path / "r" / f"MOT17-02-{detector}.txt", mot_text(3, "0.9,-1,-1,-1"))
    words = ["--root", str(tmp_path / "set"), "--results", str(tmp_path / "r"), "--json"]
    code = main(["score", "mot17", *words, *(["--split", split] if split else [])])
    said = capsys.readouterr()
    if isinstance(scored, str):
        assert code == 2 and scored in said.err and said.err.count("\n") == 1
        return
    found = json.loads(said.out)
    assert list(found["trackers"][0]["sequences"]) == scored
    assert found["trackers"][0]["summary"]["HOTA"] == 1
    more = [note for note in found["notes"] if "scored with --split" in note]
    assert len(more) == (split is None)


@pytest.mark.parametrize("info", [True, False])
def test_a_copy_with_fewer_images_is_scored_where_it_has_some(info, tmp_path, capsys):
    write_challenge(tmp_path / "set/a", 6, mot_text(6), info=info)
    for number in (4, 5, 6):
        (tmp_path / f"set/a/img1/{number:06d}.jpg").unlink()
    truth = mot_text(6, "0.9,-1,-1,-1").splitlines()
    words = ["score", "mot17", "--root", str(tmp_path / "set"), "--json", "--results"]
    for lines, wanted in ((truth[:3], 3), (truth, 6), (truth[:4], 6)):
        write(tmp_path / "r/a.txt", "\n".join(lines))
        assert main([*words, str(tmp_path / "r")]) == 0
        found = json.loads(capsys.readouterr().out)
        assert any("scored on the 3 of 6 frames" in n for n in found["notes"]) == (wanted == 3)
        assert found["trackers"][0]["summary"]["FN"] == wanted - len(lines)


def test_boxes_that_are_corners_are_doubted(tmp_path):
    lines = [f"{frame},1,50,40,60,55,0.9,-1,-1,-1" for frame in (1, 2)]
    truth = "1,1,50,40,10,15,1,1,1\n2,1,50,40,10,15,1,1,1"
    write_challenge(tmp_path / "set/a", 2, truth)
    write(tmp_path / "r/a.txt", "\n".join(lines))
    benchmark = open_mot_benchmark("mot17", tmp_path / "set")
    benchmark = replace(benchmark, sequences=(replace(benchmark.sequences[0], size=(80, 100)),))
    with MotResults(tmp_path / "r", benchmark) as results:
        assert any("x1,y1,x2,y2?" in note for note in score_tracks(benchmark, results).notes)


def test_mot15_without_anything_but_truth(tmp_path):
    write(tmp_path / "TUD" / "gt.txt", mot_text(5, "1,-1,-1,-1"))
    write(tmp_path / "test.txt", mot_text(5, "1,-1,-1,-1"))
    found = perfect("mot15", tmp_path / "TUD", tmp_path / "test.txt", need_frames=False)
    assert found.sequences[0].length == 5
    with pytest.raises(InputError, match="holds no images"):
        open_mot_benchmark("mot15", tmp_path / "TUD")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name=x", "is no seqinfo.ini: "),
        ("[Other]\nname=x\n", "expected [Sequence]"),
        ("[Sequence]\nimDir=../..\n", "imDir is '../..'; expected the name of a folder"),
        ("[Sequence]\nseqLength=many\n", "seqLength is 'many'; expected a whole number"),
        ("[Sequence]\nseqLength=99999999999\n", "seqLength is '99999999999'"),
        ("[Sequence]\nname=%(x)s\nname=y\n", "is no seqinfo.ini"),
    ],
)
def test_damaged_seqinfo(tmp_path, text, message):
    write_challenge(tmp_path / "MOT17-02", 2, mot_text(2), info=False)
    write(tmp_path / "MOT17-02" / "seqinfo.ini", text)
    with pytest.raises(InputError) as refused:
        open_mot_benchmark("mot17", tmp_path)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_seqinfo_that_disagrees_is_noted(tmp_path):
    write_challenge(tmp_path / "a", 2, mot_text(2))
    write(tmp_path / "a" / "seqinfo.ini", "[Sequence]\nseqLength=9\nname=other\n")
    found = open_mot_benchmark("mot17", tmp_path)
    assert found.notes == ("a: 2 images of 9 frames are here",)
    assert found.sequences[0].aliases == ("other",)


@pytest.mark.parametrize("key", MOT_BENCHMARKS)
def test_folders_that_are_none(key, tmp_path):
    with pytest.raises(InputError, match=r"no such folder; check --root"):
        open_mot_benchmark(key, tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no sequences; expected"):
        open_mot_benchmark(key, tmp_path)


def test_unknown_keys_get_a_hint(tmp_path):
    with pytest.raises(InputError, match=r"no benchmark 'kitti_mots'.*; did you mean 'kitti-mots"):
        open_mot_benchmark("kitti_mots", tmp_path)


def test_results_in_archives_and_as_images(tmp_path):
    write(tmp_path / "gt" / "instances_txt" / "yard.txt", mots_text(3))
    benchmark = open_mot_benchmark("kitti-mots", tmp_path / "gt", need_frames=False)
    (sequence,) = benchmark.sequences
    with zipfile.ZipFile(tmp_path / "found.zip", "w") as archive:
        archive.writestr("top/data/yard.txt", mots_text(3))
    write_pngs(tmp_path / "images" / "yard", 3)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for name, text in (("ours", mots_text(3)), ("theirs", "")):
            archive.writestr(f"trackers/{name}/data/yard.txt", text)
    ours = tmp_path / "many.zip" / "trackers" / "ours"
    for place in (tmp_path / "found.zip", tmp_path / "images", ours):
        with MotResults(place, benchmark) as results:
            assert results.name == place.stem
            assert results.holds(sequence)
            assert score_tracks(benchmark, results).pooled()["HOTA"] == 1
    (tmp_path / "images" / "yard" / "000007.png").write_bytes(b"no image")
    frame = r"000007\.png: frame 7 is not in the sequence"
    with (
        MotResults(tmp_path / "images", benchmark) as results,
        pytest.raises(InputError, match=frame),
    ):
        results.read(sequence)


def test_results_that_are_nowhere(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "gt" / "instances_txt" / f"{name}.txt", mots_text(2))
    benchmark = open_mot_benchmark("kitti-mots", tmp_path / "gt", need_frames=False)
    write(tmp_path / "one.txt", mots_text(2))
    with pytest.raises(InputError, match=r"one\.txt is one file, KITTI MOTS val has 2 sequences"):
        MotResults(tmp_path / "one.txt", benchmark)
    with pytest.raises(InputError, match="no such folder or ZIP archive"):
        MotResults(tmp_path / "none", benchmark)
    with MotResults(tmp_path, benchmark) as results:
        assert not results.holds(benchmark.sequences[0])
        with pytest.raises(InputError, match=r"has no results of a; expected a\.txt or a/000000"):
            results.read(benchmark.sequences[0])
