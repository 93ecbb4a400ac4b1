"""What two memories are worth: one model, other memories, equal tokens, equal training.

    python scripts/bench/reconstruction_ablation.py --out runs/ablation
    python scripts/bench/reconstruction_ablation.py --out runs/ablation --resume   # also to extend
    python scripts/bench/reconstruction_ablation.py --out runs/try --trial         # minutes
    python scripts/bench/reconstruction_ablation.py --out runs/short --init shared.safetensors

Each row is trained with each seed by ``scripts/train/train_reconstruction.py``: the same steps,
the same clips in the same order. ``--init`` has all rows start from the same weights, best those
that ``train_reconstruction.py --variant all`` trained under all rows in turn: few steps will do.
Processes with other ``--rows`` may share an OUT (``--resume``), one on each core.

Then all rows are measured on the same held-out clips: ``motion`` (fast bodies, 16 frames),
``revisit`` (a camera that comes back after 48 frames or more) and ``clutter`` (a third of the
pixels or more move). OUT gets one JSON file a row and seed, ``table.md`` and ``table.png``.

Below the table is what was expected of ``dual`` before anything was trained (specs/mem4d.md 4.3),
and whether it came true, and what each row does better or worse than ``dual``. It is printed
whatever it says; rows without results say so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import train_reconstruction
from reconstruction_suites import Suite, measure, suitable_seeds, suites
from reconstruction_variants import SHARED, VARIANTS, budget
from training_loop import load

from vision_mem.errors import InputError, VisionMemError
from vision_mem.models import use_threads
from vision_mem.models.device import choose_device
from vision_mem.models.mem4d.config import named_config
from vision_mem.models.mem4d.network import Mem4DNetwork

COLUMNS = ("abs rel", "abs rel static", "abs rel moving", "world static", "world moving", "ate",
           "rpe r", "mask iou", "revisit", "ghost")  # fmt: skip
MORE_IS_BETTER = ("mask iou",)
Results = dict[str, dict[int, dict[str, Any]]]


def run_row(args: argparse.Namespace, row: str, seed: int, sets: list[tuple[Suite, list[int]]]
            ) -> dict[str, Any]:  # fmt: skip
    """Train one row with one seed as far as it is not, and measure it."""
    folder = args.out / "runs" / f"{row.replace(' ', '-').replace('/', '')}-{seed}"
    a, b, c = args.steps
    clips_a, clips_b, clips_c = args.train_clips
    flags = {
        "out": folder, "cache": args.cache or args.out / "clips", "init": args.init or "",
        "config": args.config, "variant": row, "seed": seed, "batch": args.batch, "lr": args.lr,
        "steps-a": a, "steps-b": b, "steps-c": c, "warm-up": min(500, sum(args.steps) // 10 + 1),
        "clips-a": clips_a, "clips-b": clips_b, "clips-c": clips_c,
        "device": args.device, "check-clips": 0, "save-minutes": 5,
    }  # fmt: skip
    if args.threads:
        flags["threads"] = args.threads
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words.append("--past-gate")
    if (folder / "checkpoint.pt").is_file():
        words.append("--resume")
    if train_reconstruction.main(words):
        raise InputError(f"training {row!r} with seed {seed} failed; see above")
    content = load(folder)
    plan = train_reconstruction.plan_of(content)
    if content["step"] < plan.steps:
        raise KeyboardInterrupt
    config = plan.network_config()
    network = Mem4DNetwork(config).to(choose_device(args.device)).eval()
    network.load_state_dict(content["average"])
    clips = args.out / "suites"
    found: dict[str, Any] = {s.name: measure(network, s, seeds, clips) for s, seeds in sets}
    ring = config.transient.frames * (config.size // config.patch) ** 2
    held = 0 if config.persistent.kind == "none" else config.persistent.capacity
    found["tokens"] = ring + held
    parts = 1 if config.persistent.kind == "slots" else 2  # tokens have a key and a value
    found["kib"] = (2 * ring + parts * held) * config.decoder.width * 4 / 1024
    found["seconds"] = content["seconds"]
    return found


def table(results: Results, sets: Sequence[str]) -> str:
    """All rows, a block a suite, mean and standard deviation over seeds."""
    lines = []
    for suite in sets:
        lines += [f"### {suite}", "",
                  "| row | seeds | tokens | KiB | ms/frame | " + " | ".join(COLUMNS) + " |",
                  "|---" * (5 + len(COLUMNS)) + "|"]  # fmt: skip
        for row, seeds in results.items():
            cells = [row, str(len(seeds))]
            if not seeds:
                cells += ["-"] * (3 + len(COLUMNS))
            else:
                one = next(iter(seeds.values()))
                ms = np.mean([s[suite]["ms"] for s in seeds.values()])
                cells += [str(one["tokens"]), f"{one['kib']:.0f}", f"{ms:.1f}"]
                cells += [_cell([s[suite][name] for s in seeds.values()]) for name in COLUMNS]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    known = [v for v in values if np.isfinite(v)]
    if not known:
        return "-"
    spread = f" ± {np.std(known, ddof=1):.2g}" if len(known) > 1 else ""
    return f"{np.mean(known):.3f}{spread}"


def judged(results: Results) -> list[str]:
    """What was expected, and whether it came true."""
    out = [f"1. All columns: dual better than none: {_against_none(results)}"]
    for number, (suite, name, share) in enumerate(
        [("revisit", "revisit", 0.9), ("motion", "abs rel moving", 0.95),
         ("clutter", "abs rel moving", 0.95), ("clutter", "ghost", 0.7)], start=2,
    ):  # fmt: skip
        ours = _values(results, "dual", suite, name)
        theirs = {row: _values(results, row, suite, name) for row in SHARED}
        theirs = {row: values for row, values in theirs.items() if len(values)}
        want = f"{number}. {suite}, {name}: dual at most {share:g} of the best shared memory"
        if not len(ours) or not theirs:
            out.append(f"{want}: not measured")
            continue
        best = min(theirs, key=lambda row: float(np.mean(theirs[row])))
        gap = share * np.mean(theirs[best]) - np.mean(ours)
        error = _gap_error(results, "dual", best, suite, name, share)
        sure = "beyond two standard errors" if abs(gap) > 2 * error else "within two errors"
        if _few(results, "dual", best):
            sure = "one seed says nothing about errors"
        word = "yes" if gap > 0 else "no"
        out.append(
            f"{want}: {word} ({np.mean(ours):.3f} against {np.mean(theirs[best]):.3f} of {best}; "
            f"{sure})"
        )
    return out


def _against_none(results: Results) -> str:
    """In which columns a memory helps at all."""
    better, unsure, worse = compared(results, "dual", "none")
    if not better and not unsure and not worse:
        return "not measured"
    few = _few(results, "dual", "none")
    sure = "(one seed says nothing about errors)" if few else "beyond two standard errors"
    told = f"in {len(better)} of {len(better + unsure + worse)} {sure}"
    told += f"; within them: {', '.join(unsure)}" if unsure else ""
    return told + (f"; worse: {', '.join(worse)}" if worse else "")


def beside_dual(results: Results) -> list[str]:
    """What each other row does better or worse than ``dual``, where that is sure."""
    out = ["What differs from dual by more than two standard errors:", ""]
    for row in results:
        if row == "dual" or _few(results, row, "dual"):
            continue
        better, _, worse = compared(results, row, "dual")
        told = [f"{word}: {', '.join(columns)}"
                for word, columns in (("better", better), ("worse", worse)) if columns]  # fmt: skip
        out.append(f"* {row}: {'; '.join(told) or 'nothing'}")
    return out if len(out) > 2 else []


def compared(results: Results, row: str, other: str) -> tuple[list[str], list[str], list[str]]:
    """Columns in which a row is better than another, within two standard errors, and worse."""
    better, unsure, worse = [], [], []
    for suite in next(iter(results.get(row, {}).values()), {}):
        for name in COLUMNS:
            ours, theirs = (_values(results, r, suite, name) for r in (row, other))
            if not len(ours) or not len(theirs):
                continue
            gap = float(np.mean(theirs) - np.mean(ours))
            gap = -gap if name in MORE_IS_BETTER else gap
            found = better if gap > 0 else worse
            if abs(gap) <= 2 * _gap_error(results, row, other, suite, name):
                found = unsure
            found.append(f"{suite} {name}")
    return better, unsure, worse


def draw(results: Results, path: Path) -> None:
    """A point a seed, a line at the mean of ``dual``: what the verdicts are about."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [("motion", "world static", "static points, motion (m)"),
             ("revisit", "revisit", "places seen again (m)"),
             ("clutter", "abs rel moving", "depth of what moves, clutter"),
             ("clutter", "mask iou", "mask IoU, clutter (more is better)")]  # fmt: skip
    rows = [row for row, seeds in results.items() if seeds]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(15, 0.26 * len(rows) + 1.4), sharey=True)
    for axis, (suite, name, title) in zip(axes, shown, strict=True):
        for place, row in enumerate(rows):
            values = _values(results, row, suite, name)
            color = "tab:red" if row == "dual" else "tab:blue"
            axis.plot(values, [place] * len(values), "o", color=color, alpha=0.5, markersize=5)
            if len(values):
                axis.plot(np.mean(values), place, "|", color=color, markersize=13)
        ours = _values(results, "dual", suite, name)
        if len(ours):
            axis.axvline(np.mean(ours), color="tab:red", linewidth=0.7)
        axis.set(title=title)
        axis.grid(axis="y", linewidth=0.3)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _values(results: Results, row: str, suite: str, name: str) -> np.ndarray:
    found = [s[suite].get(name, np.nan) for s in results.get(row, {}).values()
             if isinstance(s.get(suite), dict)]  # fmt: skip
    return np.array([v for v in found if np.isfinite(v)])


def _error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _few(results: Results, *rows: str) -> bool:
    return min(len(results.get(row, {})) for row in rows) < 2


def _gap_error(
    results: Results, row: str, other: str, suite: str, name: str, share: float = 1.0
) -> float:
    """Standard error of ``share * other - row``: over seeds, and over the clips both saw."""
    ours, theirs = (_values(results, r, suite, name) for r in (row, other))
    clips = [
        np.mean([seed[suite]["each"][name] for seed in results[r].values()], axis=0)
        for r in (row, other)
    ]
    gaps = share * clips[1] - clips[0]
    clip_error = _error(gaps[np.isfinite(gaps)])
    return float(np.linalg.norm([_error(ours), share * _error(theirs), clip_error]))


def main(words: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="keep what OUT has, make the rest")
    parser.add_argument("--trial", action="store_true", help="few steps, few short clips")
    parser.add_argument("--config", default="nano-48")
    parser.add_argument("--rows", default=",".join(VARIANTS), help="with commas [all]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, nargs=3, default=[4000, 12000, 4000], metavar="N")
    parser.add_argument("--train-clips", type=int, nargs=3, default=[8192, 4096, 2048],
                        metavar="N")  # fmt: skip
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=train_reconstruction.Plan.lr)
    parser.add_argument("--init", type=Path, metavar="FILE", help="all rows start from it")
    parser.add_argument("--cache", type=Path, help="clips to train on go here [OUT/clips]")
    parser.add_argument("--clips", type=int, default=256, help="of each suite")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(words)
    if args.trial:
        args.steps, args.train_clips, args.batch, args.clips = [2, 2, 1], [32, 32, 32], 2, 2
    try:
        return _compare(args)
    except VisionMemError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"stopped; go on with --out {args.out} --resume", file=sys.stderr)
        return 130


def _compare(args: argparse.Namespace) -> int:
    rows = [row.strip() for row in args.rows.split(",") if row.strip()]
    config = named_config(args.config)
    for row in rows:
        if row not in VARIANTS:
            raise InputError(f"no row {row!r}; expected some of {', '.join(VARIANTS)}")
    if args.threads:
        use_threads(args.threads)
    asked = {"config": args.config, "steps": args.steps, "train_clips": args.train_clips,
             "batch": args.batch, "lr": args.lr, "init": str(args.init or ""),
             "clips": args.clips, "trial": args.trial}  # fmt: skip
    note = args.out / "asked.json"
    if note.is_file() and not args.resume:
        raise InputError(f"{args.out} has results; add --resume, or give another --out")
    if note.is_file() and json.loads(note.read_text()) != asked:
        raise InputError(f"{args.out} was made with {note.read_text().strip()}; ask for the same")
    args.out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(asked) + "\n")
    kinds = suites(config.size, short=args.trial)
    sets = [(s, suitable_seeds(s, args.clips, args.out / "seeds")) for s in kinds]
    results: Results = {row: {} for row in rows}
    for seed in args.seeds:
        for row in rows:
            path = args.out / f"{row.replace(' ', '-').replace('/', '')}-{seed}.json"
            if path.is_file():
                results[row][seed] = json.loads(path.read_text())
                continue
            found = run_row(args, row, seed, sets)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(found, indent=1) + "\n")
            partial.replace(path)
            results[row][seed] = found
            print(f"{row}, seed {seed}: {found['seconds']:.0f} s of training", flush=True)
    told = [table(results, [s.name for s in kinds]), *judged(results), "", *beside_dual(results)]
    a, b, c = args.steps
    start = f"from {args.init.name}" if args.init else "from nothing"
    head = (f"{args.config}, {budget(config)} tokens, trained {start}: {a} + {b} + {c} steps of "
            f"{args.batch} clips; {args.clips} clips a suite, seeds {args.seeds}")  # fmt: skip
    text = "\n".join([head, "", *told]) + "\n"
    (args.out / "table.md").write_text(text)
    draw(results, args.out / "table.png")
    print(text)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
