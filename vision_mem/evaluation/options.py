"""What an evaluation may be told, as plain dataclasses: the part that families share.

A family extends one of them in its ``family.py``. Callers in Python build them by hand; the
command line reads the annotations, and nothing here imports more than the standard library.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

from vision_mem.config import load_config, preset_names, read_preset
from vision_mem.errors import InputError, MissingExtra
from vision_mem.evaluation.selection import Shard, Some, choose_sequences, parse_shard
from vision_mem.text import shown

if TYPE_CHECKING:
    from vision_mem.evaluation.scores import Rules
    from vision_mem.models.segmenters.protocol import Segmenter

INPUT, MODEL, PLACE, ADVANCED = "Input", "Model", "Where it runs", "Advanced"
"""Headings of options."""


@dataclass(frozen=True)
class Option:
    """What the command line says of a field.

    Attributes:
        help: one line.
        heading: under which it stands.
        name: ``--word``; that of the field when left out.
        least: the smallest number that is taken.
    """

    help: str
    heading: str
    name: str | None = None
    least: int | None = None

    def word(self, field: str) -> str:
        """``--max-sequences`` for the field ``max_sequences``."""
        return self.name or f"--{field.replace('_', '-')}"


def preset_option(folder: str, usual: str = "") -> Option:
    """The option ``--preset``: names of the presets that ship in a folder of ``configs``."""
    known = f"{', '.join(preset_names(folder))}, or a .yaml"
    return Option(f"{known} [{usual}]." if usual else f"{known}.", MODEL)


Words = list[str] | None
"""Of an option that may be given several times."""

CHANGES = Annotated[Words, Option("key=value: change a setting of the preset.", MODEL, "--set")]
PRECISION = Annotated[str, Option("auto, fp32, bf16, fp16.", ADVANCED)]
STRICT = Annotated[bool, Option("Without the official scorers' quirks.", ADVANCED)]
PARTIAL = Annotated[bool, Option("Score what is there of incomplete results.", ADVANCED)]
"""Options that several families have."""


@dataclass(frozen=True)
class Workplace:
    """Where sequences run.

    Attributes:
        devices: torch devices, given to the workers in turn.
        workers: processes, or actors of the cluster; None for one a device, or as the cluster
            has room.
        ray: address of a Ray cluster, ``auto`` or ``local``; None for this machine alone.
    """

    devices: tuple[str, ...] = ("auto",)
    workers: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        if not self.devices or not all(self.devices):
            raise InputError("--devices names no device; expected cuda:0,cuda:1 or so")
        if self.ray is not None and len(self.devices) > 1:
            raise InputError("--ray gives each worker a device of its machine; leave out --devices")
        if self.workers is not None and self.workers < len(self.devices):
            raise InputError(
                f"{self.workers} workers cannot use {len(self.devices)} devices; give --workers "
                f"{len(self.devices)} or more, or fewer --devices"
            )


_CLUSTER = re.compile(r"(?:ray://)?(?P<host>\[[\da-fA-F:]+\]|[\w.-]+):(?P<port>\d{1,5})")
_CLUSTER_S = 3.0


def check_cluster(address: str | None) -> None:
    """Refuse a Ray cluster that does not answer: Ray itself tries again for minutes.

    Args:
        address: as ``run_on_ray`` takes it; None for no cluster.

    Raises:
        MissingExtra: when Ray is not installed.
        InputError: when nobody answers there within three seconds.
    """
    if address is None:
        return
    if find_spec("ray") is None:
        raise MissingExtra("--ray needs Ray, which is not installed; pip install 'vision-mem[ray]'")
    place = address
    if address == "auto":  # as Ray finds it
        place = os.environ.get("RAY_ADDRESS", "")
        noted = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
        if not place and noted.is_file():
            place = noted.read_text(encoding="utf-8", errors="replace").strip()
    if place in ("", "auto", "local"):
        return
    found, said = _CLUSTER.fullmatch(place), "no host:port"
    if found is not None and int(found["port"]) < 65536:
        try:
            host = found["host"].strip("[]")
            socket.create_connection((host, int(found["port"])), _CLUSTER_S).close()
            return
        except TimeoutError:
            said = f"no answer within {_CLUSTER_S:g} s"
        except OSError as error:
            said = (error.strerror or str(error)).lower()
    raise InputError(
        f"no Ray cluster at {shown(place)} ({said}); expected an address as 10.0.0.1:6379, "
        "auto or local; a cluster is begun with: ray start --head"
    )


_WEIGHTS = (".pt", ".pth", ".safetensors", ".ckpt")


def check_model(model: str) -> None:
    """Refuse the path of a model that is not there, before anything is loaded or made.

    Raises:
        InputError: for what looks like a path, and is none.
    """
    path = Path(model).expanduser()
    named = model.startswith(("/", "./", "../", "~")) or path.suffix in _WEIGHTS
    if named and not path.exists():
        raise InputError(f"--model {model}: no such file or folder; check the path")


def place_of(root: Path | None, dataset: str, usual: Path | None = None) -> Path:
    """The folder of a set; ``usual``: where it lies when it was not given.

    Raises:
        InputError: when it was not given, or is not there.
    """
    if root is None and usual is not None and usual.exists():
        return usual
    if root is None:
        hint = f"; vision-mem eval {dataset} writes one to {usual}" if usual else ""
        raise InputError(f"missing option --root: the folder of {dataset}{hint}")
    if not root.expanduser().exists():
        raise InputError(f"--root {root} is not there; expected the folder of {dataset}")
    return root


@dataclass(frozen=True)
class SetOptions:
    """Which set is meant, and how much of it."""

    root: Annotated[Path | None, Option("Folder of the set.", INPUT)] = None
    max_sequences: Annotated[
        int | None, Option("Only the first so many sequences.", INPUT, least=1)
    ] = None


@dataclass(frozen=True)
class RunOptions(SetOptions):
    """Of families whose sequences run one by one, anywhere."""

    sequences: Annotated[
        str | None, Option("Only these: names or patterns, as car-1,dog-*.", INPUT)
    ] = None
    shard: Annotated[
        str | None, Option("i/n: the i-th of n shares; all may use the same --out.", PLACE)
    ] = None
    devices: Annotated[
        str, Option("auto, cpu, cuda:0, or several for as many workers: cuda:0,cuda:1.", PLACE)
    ] = "auto"
    workers: Annotated[
        int | None, Option("Processes, each with its own model [1 a device].", PLACE, least=1)
    ] = None
    threads: Annotated[
        int, Option("Of each worker on a CPU; another number may round sums so.", PLACE, least=1)
    ] = 1
    ray: Annotated[
        str | None, Option("Run on a Ray cluster: its address, auto, or local.", PLACE)
    ] = None

    @property
    def share(self) -> Shard | None:
        """The share of the sequences that is asked for.

        Raises:
            InputError: for words that are none.
        """
        return None if self.shard is None else parse_shard(self.shard)

    def choose(self, sequences: Iterable[Some]) -> list[Some]:
        """Those of a set that are to run; see ``choose_sequences``."""
        return choose_sequences(
            sequences, names=self.sequences, limit=self.max_sequences, shard=self.share
        )

    @property
    def workplace(self) -> Workplace:
        """Where to run.

        Raises:
            InputError: for what cannot be.
        """
        devices = tuple(name.strip() for name in self.devices.split(","))
        return Workplace(devices, self.workers, self.ray)

    def check(
        self, preset: str, folder: str, model: str, judge: Callable[[str], None] | None = None
    ) -> None:
        """Say what typing alone shows to be wrong, before anything heavy is imported.

        Args:
            preset: of the run.
            folder: of presets.
            model: of the run.
            judge: refuses names that are no model of the family, or on no machine.

        Raises:
            InputError: for a share, a place, a model, or a preset of the ``folder`` that cannot be.
            MissingExtra: when it is to run on a cluster, and Ray is not installed.
            ModelError: for a model that is not on this machine and cannot be fetched.
        """
        _ = self.share, self.workplace
        check_cluster(self.ray)
        check_model(model)
        if judge is not None and self.ray is None:  # nodes may have what this machine has not
            judge(model)
        if preset.removeprefix(f"{folder}/") not in preset_names(folder):
            read_preset(preset, folder)


@dataclass(frozen=True)
class SegmenterOptions(RunOptions):
    """Of families that follow objects with a segmenter."""

    model: Annotated[
        str, Option("embedded, facebook/sam2.1-hiera-tiny, ..., a checkpoint.", MODEL)
    ] = "embedded"
    changes: CHANGES = None
    model_config: Annotated[
        str | None, Option("Configuration of a checkpoint file, when not guessed.", ADVANCED)
    ] = None
    precision: PRECISION = "auto"
    attention: Annotated[str, Option("SAM 2 in fp32: exact, or folded: fewer sums.", ADVANCED)] = (
        "exact"
    )
    compile: Annotated[bool, Option("Compile the image encoder.", ADVANCED)] = False
    resize: Annotated[str, Option("Frames to SAM 2's size: pil_bicubic, cv2.", ADVANCED)] = (
        "pil_bicubic"
    )
    strict: Annotated[bool, Option("A damaged image ends its sequence.", ADVANCED)] = False

    def load_on(self, device: str) -> Segmenter:
        """The model, loaded.

        Raises:
            VisionMemError: when there is none, or it is damaged.
        """
        from vision_mem.models import load_segmenter, use_threads

        use_threads(self.threads)
        return load_segmenter(
            self.model, config=self.model_config, device=device, precision=self.precision,
            compile=self.compile, resize=self.resize, attention=self.attention,
        )  # fmt: skip

    @property
    def model_identity(self) -> dict[str, Any]:
        """What results depend on, of the options here."""
        return {
            "model_name": Path(self.model).name, "precision": self.precision,
            "attention": self.attention, "resize": self.resize, "strict": self.strict,
        }  # fmt: skip


@dataclass(frozen=True)
class ScoreOptions:
    """How result files are scored; families add what their scorers know."""

    root: Annotated[
        Path | None, Option("The set's folder; its truth suffices, images are not read.", INPUT)
    ] = None
    sequences: Annotated[
        str | None, Option("Only these: names or patterns, as car-1,bird-*.", INPUT)
    ] = None

    @property
    def rules(self) -> Rules:
        """Those of ``Rules`` that the family knows, the others as they usually are."""
        from vision_mem.evaluation.scores import Rules

        known = {each.name for each in fields(self)}
        return Rules(**{f.name: getattr(self, f.name) for f in fields(Rules) if f.name in known})


def usual_folder(name: str, holds: Callable[[Path], bool], overwrite: bool) -> Path:
    """``runs/eval/NAME``; or ``runs/NAME``, as it was called once, where ``holds`` knows it."""
    usual, before = Path("runs/eval") / name, Path("runs") / name
    return before if not usual.exists() and not overwrite and holds(before) else usual


def words_of(kind: type[SetOptions] | type[ScoreOptions]) -> list[str]:
    """The options of a class as they are typed."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        note.word(name)
        for name, hint in hints.items()
        for note in getattr(hint, "__metadata__", ())
        if isinstance(note, Option)
    ]


def pairs_of(words: Words) -> list[str]:
    """``a=1`` and ``b=2`` of ``["a=1,b=2"]``."""
    return [pair.strip() for word in words or () for pair in word.split(",") if pair.strip()]


Series = TypeVar("Series")


def made_set(
    root: Path,
    kind: type[Series],
    words: Words,
    prepare: Callable[[Path, Series | None], dict[str, Any]],
    say: Callable[[str], None],
    what: Callable[[Series], str],
) -> dict[str, Any]:
    """A generated set on disk, written where there is none; ``say`` is told what.

    Without ``words`` it is made of what is there, or of the defaults of ``kind``.

    Raises:
        InputError: for sizes that cannot be, or another set in the folder.
    """
    series = load_config(kind, None, pairs_of(words), folder="generated")
    if not root.is_dir():
        say(f"writing {what(series)} to {root}")
    return prepare(root, series if words else None)
