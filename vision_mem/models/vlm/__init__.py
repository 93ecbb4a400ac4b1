"""Vision-language models that watch streams and answer, and what stands in for them."""

from __future__ import annotations

from pathlib import Path

from vision_mem.config import nearest
from vision_mem.errors import InputError
from vision_mem.models.hub import check_fetchable, has_transformers

KNOWN = {
    "qwen2-vl-2b": "Qwen/Qwen2-VL-2B-Instruct",
    "qwen2-vl-7b": "Qwen/Qwen2-VL-7B-Instruct",
    "qwen2.5-vl-3b": "Qwen/Qwen2.5-VL-3B-Instruct",
    "qwen2.5-vl-7b": "Qwen/Qwen2.5-VL-7B-Instruct",
    "qwen3-vl-2b": "Qwen/Qwen3-VL-2B-Instruct",
    "qwen3-vl-4b": "Qwen/Qwen3-VL-4B-Instruct",
    "qwen3-vl-8b": "Qwen/Qwen3-VL-8B-Instruct",
    "llava-onevision-0.5b": "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
    "llava-onevision-7b": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
}
"""Short names for repositories on Hugging Face."""
WITHOUT_FILES = " instead; --model fake and --model random:qwen2.5-vl-tiny need no files"
_OWN = ("words", "fake", "miniature")


def check_video_model(model: str) -> None:
    """Refuse what is no name of a video model; nothing is loaded for it.

    Args:
        model: see ``load.load_video_model``.

    Raises:
        InputError: naming the nearest one.
        ModelError: for one that is not on this machine, where there is no network.
    """
    folder = Path(model).expanduser()
    if model in _OWN or model.startswith("random:") or folder.is_dir():
        return
    path = folder.exists() or model.startswith(("/", ".", "~")) or model.count("/") != 1
    if path and model not in KNOWN:
        near = nearest(model, [*_OWN, *KNOWN])
        if not near and nearest(model, ["embedded"]):  # as the one of ``track`` is called
            near = "; did you mean 'words'?"
        there = (
            f"; expected words, fake, miniature, {', '.join(KNOWN)}, an id on Hugging Face "
            "(owner/name), a folder with config.json, tokenizer.json and safetensors, or "
            "random:qwen2.5-vl-tiny"
        )
        raise InputError(f"no video model {model!r}{near or there}")
    if has_transformers():  # else that is told first, by the one who needs it
        check_fetchable(KNOWN.get(model, model), WITHOUT_FILES, KNOWN.values())
