"""The miniature: a small Qwen2.5-VL for generated streams, its shape, its words and its weights.

It is of the library's own class, and so answers through the same adapter and the same memory as
the large ones; ``scripts/train/train_miniature.py`` teaches it. Weights that come with the package
lie in the folder ``miniature`` beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vision_mem.errors import ModelError
from vision_mem.models.torchvision_shim import ensure_torchvision
from vision_mem.models.vlm.random import byte_tokenizer

NAME = "miniature"
OPTIONS_BY = "likelihood"
"""How it chooses among options: it answers in words, and knows no letters."""
FOLDER = Path(__file__).with_name(NAME)
"""Where shipped weights are."""

WORDS = """
A a about above action actions add additional after ago all always an and another Answer answer
answered are arrived as asked assistant astronaut at background be been before being best black
blue bottom bricks by came can card carried cat centre circle colour completed counts cross cup
did different digit do Does does doing done down Each each earlier else end enough far few first
from further goes going gone grass gravel green happen happened helmet here How how If if In in
instruction into Is is It it itself last launch least left letter like likely many me moment
motorcycle moving much name never new next No no not nothing now number object objects of on once
one option options or orange order other out over pad people performs place places purple question
questions red relation Rely rely repeat Reply reply right ring Say say second see seen shape show
showing shown shows so somebody square star staying step steps system task than that The the then
there these they thing things this those three time times to top triangle two Unable until up user
video view was watch were What what when Where where Which which white whoever will with word
words yellow Yes You you
"""
"""Words with a token of their own; all else is spelt in bytes."""

_HIDDEN, _HEADS = 128, 4
_POSITIONS = 32768
_SPREAD = 0.06  # of new weights: more than for large networks, whose sums have more parts
_STILL = 1e-5
_TIME = (1.0, 0.2, 0.04, 0.012, _STILL, _STILL, _STILL, _STILL)
_ROW = _COLUMN = (0.8, 0.25, _STILL, _STILL)
"""Radians that a position id turns each pair of numbers of a head.

A grid has few rows and columns, and minutes have many ids: with the usual series, which goes on
from one axis to the next, rows would hardly turn and columns not at all. Half of the pairs stand
still, as most do in large models: words find what they mean by these, wherever it stands.
"""


def miniature_tokenizer() -> Any:
    """Its tokenizer: 256 bytes, ``WORDS`` with and without a blank in front, and Qwen's markers.

    Any text comes back as it was. A fast tokenizer of the transformers library, made without a
    file.
    """
    ensure_torchvision()
    # "Ġ" is how a byte tokenizer writes a blank.
    words = [form for word in WORDS.split() for form in (word, f"Ġ{word}")]
    return byte_tokenizer([*words, *(f"Ġ{digit}" for digit in range(10))])


def miniature_config() -> Any:
    """``Qwen2_5_VLConfig`` of its shape: 28 pixels a token, two frames a grid, 2 ids a second."""
    ensure_torchvision()
    from transformers import Qwen2_5_VLConfig

    ids = miniature_tokenizer().get_vocab()
    text = {
        "vocab_size": len(ids), "hidden_size": _HIDDEN, "intermediate_size": 256,
        "num_hidden_layers": 4, "num_attention_heads": _HEADS, "num_key_value_heads": _HEADS // 2,
        "max_position_embeddings": _POSITIONS, "rope_parameters": _turns(),
        "initializer_range": _SPREAD, "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
    }  # fmt: skip
    vision = {
        "depth": 4, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4,
        "out_hidden_size": _HIDDEN, "tokens_per_second": 2, "initializer_range": _SPREAD,
        # Frames of generated streams are small: every layer looks at the whole frame.
        "fullatt_block_indexes": [0, 1, 2, 3],
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
    )
    config.options_by = OPTIONS_BY  # for our loader; it is kept in config.json
    return config


def _turns() -> dict[str, Any]:
    """How positions turn the numbers of a head, as the library takes free series: ``longrope``."""
    turns = (*_TIME, *_ROW, *_COLUMN)
    base = 1e4
    factors = [1 / (turn * base ** (k / len(turns))) for k, turn in enumerate(turns)]
    return {
        "rope_type": "longrope", "rope_theta": base, "short_factor": factors,
        "long_factor": factors, "factor": 1.0, "attention_factor": 1.0,
        "original_max_position_embeddings": _POSITIONS,
        "mrope_section": [len(_TIME), len(_ROW), len(_COLUMN)],
    }  # fmt: skip


def miniature_network(seed: int = 0) -> Any:
    """An untaught one on the CPU, fp32: ``Qwen2_5_VLForConditionalGeneration``."""
    config = miniature_config()
    from transformers import Qwen2_5_VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.float32)


def shipped_miniature() -> Path:
    """The folder with the weights of this package.

    Raises:
        ModelError: when this package has none, with the way to make them.
    """
    if not (FOLDER / "config.json").is_file():
        raise ModelError(
            "the miniature's weights do not come with this version; train them with: "
            "python scripts/train/train_miniature.py --out runs/miniature (see docs/miniature.md), "
            "then give --model runs/miniature/model"
        )
    return FOLDER
