"""Evaluations on several processes and machines: the same files, whoever dies."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import evaluation_samples
import pytest
from evaluation_samples import (
    MakeMortal,
    MakeSlowOn,
    box_set,
    contents,
    jobs_of,
    log_of,
    make_session,
    mask_set,
    run,
    run_both,
)

from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.engine.folder import EvaluationFolder
from vision_mem.evaluation.engine.run import evaluate
from vision_mem.evaluation.options import Workplace


@pytest.mark.parametrize("workers", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_processes_give_the_same_files(tmp_path: Path, workers: int) -> None:
    benchmark = box_set(tmp_path / "set", 3)
    alone, _ = run(benchmark, tmp_path / "alone")
    folder, failed = run(benchmark, tmp_path / "many", Workplace(("cpu",), workers))
    assert not failed
    assert contents(folder.results) == contents(alone.results)
    places = {log_of(folder, sequence.name)["place"] for sequence in benchmark.sequences}
    assert f"process {os.getpid()} " not in "".join(places)


@pytest.mark.slow
def test_devices_are_dealt_in_turn(tmp_path: Path) -> None:
    place = Workplace(("meta:0", "meta:1"))
    folder, _ = run(box_set(tmp_path / "set", 6), tmp_path / "out", place, MakeSlowOn(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("meta:*")) == ["meta:0", "meta:1"]
    assert len(contents(folder.results)) == 6


@pytest.mark.slow
def test_a_killed_worker_s_sequence_is_tried_again(tmp_path: Path) -> None:
    benchmark = box_set(tmp_path / "set", 3)
    alone, _ = run(benchmark, tmp_path / "alone")
    mortal = MakeMortal(tmp_path, deaths=2)
    folder, failed = run(benchmark, tmp_path / "out", Workplace(("cpu",), 2), mortal)
    assert not failed
    assert len(list(tmp_path.glob("death-*"))) == 2
    assert contents(folder.results) == contents(alone.results)
    attempts = [log_of(folder, sequence.name)["attempts"] for sequence in benchmark.sequences]
    assert sum(attempts) == 5


@pytest.mark.slow
def test_a_sequence_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    benchmark = box_set(tmp_path / "set", 2)
    short = replace(benchmark.sequences[1], frames=benchmark.sequences[1].frames[:3])
    benchmark = replace(benchmark, sequences=(benchmark.sequences[0], short))
    mortal = MakeMortal(tmp_path, deaths=9)
    folder, (failed,) = run(benchmark, tmp_path / "out", Workplace(("cpu",), 2), mortal)
    assert failed.sequence == "cat-0"
    assert "each of the 3 workers" in failed.reason
    assert "SIGKILL" in failed.reason
    assert sorted(contents(folder.results)) == ["cat-1.txt"]


@pytest.mark.slow
def test_workers_that_never_get_ready_end_the_run(tmp_path: Path) -> None:
    mortal = MakeMortal(tmp_path, deaths=99, while_loading=True)
    with pytest.raises(VisionMemError, match="while they load the model"):
        run(box_set(tmp_path / "set", 9), tmp_path / "out", Workplace(("cpu",), 2), mortal)


def _no_model(device: str):
    raise InputError(f"no device {device!r}")


@pytest.mark.slow
def test_a_worker_s_error_is_the_run_s(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no device 'cpu'"):
        run(box_set(tmp_path / "set", 2), tmp_path / "out", Workplace(("cpu",), 2), _no_model)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stopped_run_keeps_what_is_done(tmp_path: Path, workers: int) -> None:
    benchmark = box_set(tmp_path / "set", 6)
    folder = EvaluationFolder(tmp_path / "out", {"benchmark": "lasot"})
    folder.begin()
    place = Workplace(("cpu",), workers)

    def enough() -> bool:
        return len(list(folder.results.iterdir())) >= 2

    progress = evaluate(jobs_of(benchmark), folder, make_session, place, enough)
    assert 2 <= progress.finished < 6
    assert not progress.failed
    kept = contents(folder.results)
    _, failed = run(benchmark, tmp_path / "out")
    assert not failed
    after = contents(folder.results)
    assert len(after) == 6
    assert {name: after[name] for name in kept} == kept


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_it_goes_on_to_the_same_files(
    tmp_path: Path, root: Path, workers: int
) -> None:
    program = [sys.executable, root / "tests" / "fixtures" / "evaluation_samples.py"]
    program += [tmp_path / "set", tmp_path / "out", str(workers)]
    results, logs = tmp_path / "out" / "results", tmp_path / "out" / "logs"
    run_both(tmp_path / "set", tmp_path / "undisturbed", 1, make_session)
    draw = random.Random(workers)
    kept: dict[str, bytes] = {}
    for _ in range(3 - workers):  # starting two workers takes its time
        running = subprocess.Popen(program)
        before, until = len(list(logs.glob("*.json"))), time.monotonic() + 60
        while len(list(logs.glob("*.json"))) == before and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        running.send_signal(signal.SIGKILL)
        running.wait()
        now = {k: v for k, v in contents(results).items() if ".partial" not in k}
        assert kept.items() <= now.items()  # nothing that was done is lost or done again
        kept = now
    assert kept
    workers_seen = {json.loads(path.read_text())["place"] for path in logs.glob("*.json")}
    pids = [int(place.split()[1]) for place in workers_seen]
    until = time.monotonic() + 5
    while any(map(_alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_alive, pids))
    assert subprocess.run(program, timeout=120, check=False).returncode == 0
    whole = contents(results)
    assert len(whole) == 6 + 3 * 12
    assert whole == contents(tmp_path / "undisturbed" / "results")


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_files_though_a_worker_is_killed(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra [ray]")
    ray.cloudpickle.register_pickle_by_value(evaluation_samples)  # Ray's workers cannot import it
    benchmark = box_set(tmp_path / "set", 5)
    masks = mask_set(tmp_path / "set", 2)
    benchmark = replace(benchmark, sequences=benchmark.sequences + masks.sequences)
    alone, _ = run(benchmark, tmp_path / "alone")
    mortal = MakeMortal(tmp_path, deaths=1)
    place = Workplace(("cpu",), workers=2, ray="local")
    folder, failed = run(benchmark, tmp_path / "out", place, mortal)
    assert not ray.is_initialized()
    assert not failed
    assert len(list(tmp_path.glob("death-*"))) == 1
    assert contents(folder.results) == contents(alone.results)
