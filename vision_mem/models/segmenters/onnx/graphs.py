"""A folder of graphs, one a seam, and the manifest that says what they are: read, checked, run.

The manifest is read before anything heavy is imported, so that a folder that cannot be used is
refused at once. Graphs are opened from bytes whose checksum was compared, so nothing beside them
(no external data, no operators of others) is ever loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mem.errors import InputError, MissingExtra, ModelError, NotThere
from vision_mem.models.onnx_runtime import open_graph, reason_of
from vision_mem.text import read_json, short, shown

if TYPE_CHECKING:
    from torch import Tensor, nn

MANIFEST = "manifest.json"
FORMAT, VERSION = "vision-mem onnx", 1
_AGAIN = "export it anew: vision-mem export MODEL --format onnx --out DIR"


@dataclass(frozen=True)
class Seam:
    """What becomes one graph.

    Attributes:
        name: of the seam, and of its file.
        about: what it does, in words.
        module: what is traced; it takes the inputs in their order.
        inputs: tensors by name that it is traced and tried with.
        outputs: names.
        axes: input or output to the axes of it whose size changes, with a word for each.
    """

    name: str
    about: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    axes: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class SeamRecord:
    """One graph as the manifest has it.

    Attributes:
        file: name in the folder.
        sha256: of its bytes, hexadecimal.
        bytes: its size.
        about: what it does, in words.
        inputs, outputs: name to ``dtype`` and ``shape``; a word in a shape is a size that changes.
        difference: largest absolute difference of each output from torch's, on the inputs that
            the export was tried with.
    """

    file: str
    sha256: str
    bytes: int
    about: str
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    difference: dict[str, float]


@dataclass(frozen=True)
class ExportManifest:
    """What an exported folder holds.

    Attributes:
        kind: ``embedded`` or ``sam2``: which code works between the graphs.
        model: what was exported, as it was named.
        model_id: of the segmenter in torch.
        constants: what that code needs to know of the network.
        seams: graphs by name.
        versions: of what wrote it.
    """

    kind: str
    model: str
    model_id: str
    constants: dict[str, Any]
    seams: dict[str, SeamRecord]
    versions: dict[str, str]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def read_manifest(folder: Path) -> ExportManifest:
    """Read what a folder holds; graphs are not opened.

    Raises:
        NotThere: when there is no manifest, or no file that it names.
        InputError: when it is damaged, or of another version.
    """
    place = folder / MANIFEST
    if not place.is_file():
        raise NotThere(
            f"{folder} is a folder that holds no exported model (no {MANIFEST}) and no network of "
            "transformers (no config.json); expected one that "
            "vision-mem export wrote, or the path of a checkpoint file"
        )
    content = read_json(place)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{place} is of another program; expected one that vision-mem export wrote"
        )
    if content.get("version") != VERSION:
        found = shown(content.get("version"))
        raise InputError(f"{place} is of version {found}; expected version {VERSION}: {_AGAIN}")
    try:
        seams = {str(name): SeamRecord(**each) for name, each in content["seams"].items()}
        named = {key: content[key] for key in ("kind", "model", "model_id", "constants")}
        manifest = ExportManifest(**named, seams=seams, versions=content["versions"])
        _check(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{place} is damaged; {_AGAIN}") from error
    for each in manifest.seams.values():
        if not (folder / each.file).is_file():
            raise NotThere(f"{folder / each.file} is missing, which {MANIFEST} names; {_AGAIN}")
    return manifest


def _check(manifest: ExportManifest) -> None:
    """Refuse values of other kinds, and files that lie elsewhere, as damage."""
    texts = [manifest.kind, manifest.model, manifest.model_id]
    for each in manifest.seams.values():
        texts += [each.file, each.sha256]
        if not isinstance(each.file, str) or Path(each.file).name != each.file:
            raise TypeError(each.file)
    if not all(isinstance(text, str) for text in texts) or not isinstance(manifest.constants, dict):
        raise TypeError(texts)


class SeamGraphs:
    """The graphs of a folder, open.

    Args:
        folder: that was exported.
        manifest: of it.
        device: ``auto``, or a torch device.
        needed: seams that must be there.

    Raises:
        InputError: for graphs that are not those that were exported, or a runtime that is not
            installed.
        ModelError: for graphs that cannot be opened.
    """

    def __init__(
        self, folder: Path, manifest: ExportManifest, device: str, needed: tuple[str, ...]
    ) -> None:
        import torch

        self._folder = folder
        self._sessions: dict[str, Any] = {}
        for name in needed:
            if name not in manifest.seams:
                raise InputError(f"{folder / MANIFEST} has no seam {name}; {_AGAIN}")
            record = manifest.seams[name]
            place = folder / record.file
            content = place.read_bytes()
            if hashlib.sha256(content).hexdigest() != record.sha256:
                raise InputError(
                    f"{place} is not the file that was exported (its checksum differs); copy it "
                    f"again, or {_AGAIN}"
                )
            try:
                self._sessions[name] = open_graph(
                    place, device, "exported models", content=content,
                    threads=torch.get_num_threads(),
                )  # fmt: skip
            except MissingExtra as error:
                raise InputError(str(error)) from error
            _check_inputs(place, self._sessions[name], record)

    def run(self, name: str, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Run one graph.

        Args:
            name: of the seam.
            inputs: tensors by name, as the manifest describes them.

        Returns:
            Its outputs, in the manifest's order, on the CPU.

        Raises:
            ModelError: for shapes that it does not take.
        """
        import numpy as np
        import torch

        given = {
            key: np.ascontiguousarray(value.detach().cpu().numpy()) for key, value in inputs.items()
        }
        try:
            made = self._sessions[name].run(None, given)
        except Exception as error:  # the runtime has a kind of its own for each
            place = self._folder / f"{name}.onnx"
            raise ModelError(f"{place} cannot be run: {reason_of(error)}") from error
        return [torch.from_numpy(one) for one in made]


def _check_inputs(place: Path, session: Any, record: SeamRecord) -> None:
    """Refuse a graph whose inputs are not those that the manifest promises."""
    found = [one.name for one in session.get_inputs()]
    if set(found) != set(record.inputs):
        names = short(", ".join(found), 120)
        raise InputError(f"{place} has other inputs than {MANIFEST} says ({names}); {_AGAIN}")
