"""Tiny networks of the transformers library with random weights, saved as users' folders are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 64
NAMES = {0: "car", 1: "person", 2: "dog"}
_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "car", "person", "##s", ".", "a")


def save(kind: str, folder: Path, seed: int = 0) -> Path:
    """Make a network of ``kind`` with its processor, and save both in ``folder / kind``."""
    import transformers as library

    torch.manual_seed(seed)
    makers = {
        "dfine": _dfine,
        "rtdetr": _rtdetr,
        "rtdetrv2": _rtdetr,
        "grounding-dino": _grounding_dino,
        "owlv2": _owlv2,
    }
    place = folder / kind
    place.mkdir(parents=True)
    network, processor = makers[kind](library, kind, folder)
    network.eval().save_pretrained(place)
    processor.save_pretrained(place)
    return place


def _queries() -> dict[str, Any]:
    return {
        "encoder_hidden_dim": 32,
        "d_model": 32,
        "num_queries": 20,
        "decoder_layers": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "decoder_in_channels": [32, 32, 32],
        "num_denoising": 0,
        "id2label": NAMES,
        "label2id": {word: number for number, word in NAMES.items()},
    }


def _dfine(library: Any, kind: str, folder: Path) -> tuple[Any, Any]:
    backbone = library.HGNetV2Config(
        embedding_size=8,
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 1, 1],
        stem_channels=[3, 4, 8],
        stage_in_channels=[8, 16, 24, 32],
        stage_mid_channels=[4, 8, 8, 8],
        stage_out_channels=[16, 24, 32, 48],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
    config = library.DFineConfig(
        backbone_config=backbone, encoder_in_channels=[24, 32, 48], **_queries()
    )
    return library.DFineForObjectDetection(config), _square_processor(library)


def _rtdetr(library: Any, kind: str, folder: Path) -> tuple[Any, Any]:
    backbone = library.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    name = "RTDetr" if kind == "rtdetr" else "RTDetrV2"
    config = getattr(library, f"{name}Config")(
        backbone_config=backbone, encoder_in_channels=[16, 24, 32], **_queries()
    )
    return getattr(library, f"{name}ForObjectDetection")(config), _square_processor(library)


def _square_processor(library: Any) -> Any:
    return library.RTDetrImageProcessor(size={"height": SIDE, "width": SIDE})


def _grounding_dino(library: Any, kind: str, folder: Path) -> tuple[Any, Any]:
    backbone = library.SwinConfig(
        image_size=SIDE,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = library.BertConfig(
        vocab_size=len(_WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    config = library.GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        num_queries=20,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        disable_custom_kernels=True,
    )
    (folder / "vocab.txt").write_text("\n".join(_WORDS) + "\n")
    processor = library.GroundingDinoProcessor(
        library.GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE}),
        library.BertTokenizerFast(vocab=str(folder / "vocab.txt")),
    )
    return library.GroundingDinoForObjectDetection(config), processor


def _owlv2(library: Any, kind: str, folder: Path) -> tuple[Any, Any]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    side = {"height": SIDE, "width": SIDE}
    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = library.Owlv2Config(
        text_config={
            "vocab_size": len(tokens),
            "hidden_size": 16,
            "bos_token_id": len(tokens) - 2,
            "eos_token_id": len(tokens) - 1,
            "pad_token_id": len(tokens) - 1,
            **small,
        },
        vision_config={"hidden_size": 16, "image_size": SIDE, "patch_size": 16, **small},
        projection_dim=16,
    )
    processor = library.Owlv2Processor(
        library.Owlv2ImageProcessor(size=side),
        library.CLIPTokenizerFast(
            vocab={token: number for number, token in enumerate(tokens)}, merges=[]
        ),
    )
    return library.Owlv2ForObjectDetection(config), processor
