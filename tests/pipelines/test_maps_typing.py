"""``reconstruct`` and ``navigate``: what typing alone shows is told before torch or numba load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CASES = {
    "reconstruct nowhere": "nowhere is no folder",
    "reconstruct . --layout tmu": "expected one of tum",
    "reconstruct . --preset dens": "did you mean 'dense'",
    "reconstruct . --set structure.voxle=1": "voxel",
    "reconstruct . --intrinsics 1,2": "expected 4 numbers",
    "reconstruct . --save trajektory": "did you mean 'trajectory'",
    "reconstruct . --gate one": "are for --model",
    "reconstruct . --snapshot-every=-1": "a whole number, 0 or more",
    "reconstruct generated:x": "generated:SEED",
    "navigate build nowhere --map m.map": "nowhere is no folder",
    "navigate build no.jsonl --map m.map": "no file no.jsonl",
    "navigate build . --map m.map --layout tmu": "expected one of tum",
    "navigate build . --map m.map --preset rooms": "no preset named 'rooms'",
    "navigate build . --map m.map --set octree.lef=1": "octree.leaf",
    "navigate build . --map m.map --up +w": "up is '+w'",
    "navigate build . --map m.map --intrinsics 1": "expected 4 numbers",
    "navigate build . --map m.map --landmark sofa": "expected NAME=x,y,z",
    "navigate build . --map m.map --tour 5": "leave out --tour",
    "navigate build . --map m.map --resume": "there is no map m.map to go on with",
    "navigate build . --map m.map --resume --overwrite": "exclude each other",
    "navigate where sofa --map m.map": "no map file m.map",
    "navigate route --to sofa --map m.map": "no map file m.map",
    "navigate recall sofa --map m.map": "no map file m.map",
    "navigate forget --region 1,2 --map m.map": "expected 6 numbers",
    "navigate forget --landmark sofa --map m.map": "no map file m.map",
    "navigate export --map m.map": "nothing to write",
    "navigate export --ply m.ply --map m.map": "no map file m.map",
}

SCRIPT = """
import contextlib, io, json, sys
from vision_mem.cli import main
said = {}
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as told:
        code = main(words.split())
    heavy = [name for name in ("torch", "numba") if name in sys.modules]
    said[words] = [code, told.getvalue(), heavy]
print(json.dumps(said))
"""


def test_mistakes_are_told_before_torch_is_loaded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(list(CASES))],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    for words, (code, told, heavy) in json.loads(done.stdout).items():
        assert code in (1, 2) and CASES[words] in told and told.count("\n") == 1, (words, told)
        assert not heavy, f"{words} loaded {heavy}"
    assert not list(tmp_path.iterdir()), "nothing is made for a run that cannot be"
