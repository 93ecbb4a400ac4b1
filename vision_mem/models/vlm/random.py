"""Video models with random weights, of the real classes: for tests, benchmarks and trying out.

What they say means nothing. Small ones are the same everywhere; their tokenizer cuts text into
bytes, so that it needs no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from vision_mem.errors import InputError
from vision_mem.models.checkpoint import RANDOM_SEED, fill_random
from vision_mem.models.torchvision_shim import ensure_torchvision

MARKERS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Tokens of Qwen's that are no text."""
_VOCABULARY = 256 + len(MARKERS)


def byte_tokenizer(words: Iterable[str] = ()) -> Any:
    """A tokenizer of 256 bytes, some words and Qwen's markers; a fast one of the library.

    Args:
        words: with a token of their own, a leading blank written ``Ġ``.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    entries = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *words])
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    # Without merges a word is one token when it is in the vocabulary, else bytes.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=bool(words)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in MARKERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )


def random_network(name: str, device: torch.device, dtype: torch.dtype, seed: int | None) -> Any:
    """A network of a real class with random weights; without a seed they are always the same.

    Raises:
        InputError: for a name that ``RANDOM`` does not have.
    """
    if name not in RANDOM:
        raise InputError(f"no random model {name!r}; expected one of {', '.join(sorted(RANDOM))}")
    ensure_torchvision()
    import transformers

    kind, settings, exact = RANDOM[name]
    seed = RANDOM_SEED if seed is None else seed
    config = getattr(transformers, f"{kind}Config")(**settings())
    build = getattr(transformers, f"{kind}ForConditionalGeneration")._from_config
    with torch.random.fork_rng(), torch.device("cpu" if exact else device):
        torch.manual_seed(seed)
        network = build(config, dtype=torch.float32 if exact else dtype)
    if exact:
        fill_random(network, seed % 2**32)
    return network.to(device, dtype)


def _text(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": _VOCABULARY, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 32768, "bos_token_id": 256, "eos_token_id": 258,
        "pad_token_id": 256, **more,
    }  # fmt: skip


def _qwen(
    vision: dict[str, Any], sections: tuple[int, int, int], interleaved: bool = False, **text: Any
) -> dict[str, Any]:
    """Settings of a Qwen network; ``sections`` of a head turn by time, row and column."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e6}
    rope |= {"mrope_section": [*sections], **({"mrope_interleaved": True} if interleaved else {})}
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return {
        "text_config": _text(rope_parameters=rope, **text), "vision_config": vision,
        **{name: 259 + number for number, name in enumerate(names)},
    }  # fmt: skip


_SMALL = {"depth": 4, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}


def _qwen25_tiny() -> dict[str, Any]:
    more = {"out_hidden_size": 64, "fullatt_block_indexes": [1, 3], "tokens_per_second": 2}
    return _qwen({**_SMALL, **more}, (2, 3, 3))


def _qwen2_tiny() -> dict[str, Any]:
    vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 64}
    return _qwen(vision, (2, 3, 3))


def _qwen3_tiny() -> dict[str, Any]:
    deep = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    vision = {**_SMALL, "depth": 3, "out_hidden_size": 64, **deep}
    made = _qwen(vision, (4, 2, 2), True, head_dim=16, num_hidden_layers=3)
    for name in ("bos_token_id", "eos_token_id"):  # these configurations have none
        del made["text_config"][name]
    return made


def _llava_tiny() -> dict[str, Any]:
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 98, "patch_size": 14,
        "vision_use_head": False,
    }  # fmt: skip
    text = {"model_type": "qwen2", **_text()}
    ids = {"image_token_index": 261, "video_token_index": 262}
    return {"text_config": text, "vision_config": vision, **ids}


def _qwen25_3b() -> dict[str, Any]:
    """The published shape of Qwen2.5-VL-3B."""
    vision = {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
        "out_hidden_size": 2048, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
    }  # fmt: skip
    made = _qwen(
        vision, (16, 24, 24), vocab_size=151936, hidden_size=2048, intermediate_size=11008,
        num_hidden_layers=36, num_attention_heads=16, max_position_embeddings=128000,
    )  # fmt: skip
    return {**made, "tie_word_embeddings": True}


RANDOM: dict[str, tuple[str, Callable[[], dict[str, Any]], bool]] = {
    "qwen2-vl-tiny": ("Qwen2VL", _qwen2_tiny, True),
    "qwen2.5-vl-tiny": ("Qwen2_5_VL", _qwen25_tiny, True),
    "qwen2.5-vl-3b": ("Qwen2_5_VL", _qwen25_3b, False),
    "qwen3-vl-tiny": ("Qwen3VL", _qwen3_tiny, True),
    "llava-onevision-tiny": ("LlavaOnevision", _llava_tiny, True),
}
"""Names: class of the transformers library, its settings, and whether weights are the same
everywhere (drawn by numpy) or quick to make (drawn by torch on the device)."""
