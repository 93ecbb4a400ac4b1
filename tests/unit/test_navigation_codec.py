"""The reversible codec: exact in fixed point, within bounds in floats, honest about the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision_mem.errors import InputError, ModelError
from vision_mem.navigation.codec import GRID, CodecConfig, ReversibleCodec, Tokens

SMALL = CodecConfig(width=8, layers=3, ratio=2.0)


def pairs(n, width, seed=0, scale=1.0):
    random = np.random.default_rng(seed)
    return scale * random.standard_normal((n, width)), scale * random.standard_normal((n, width))


def in_batches(codec, context, seen, size):
    made = [
        codec.encode(context[i : i + size], seen[i : i + size]) for i in range(0, len(seen), size)
    ]
    return Tokens(
        np.concatenate([m.values for m in made]), np.concatenate([m.checks for m in made])
    )


def exact(n, tmp_path, config, ones):
    """Bits are those of the whole batch, at batch 1 and 256, before and after a file."""
    codec = ReversibleCodec(config)
    context, seen = pairs(n, config.width)
    many = in_batches(codec, context, seen, 256)
    one = in_batches(codec, context[:ones], seen[:ones], 1)
    assert (one.values == many.values[:ones]).all() and (one.checks == many.checks[:ones]).all()
    assert (many.values == codec.encode(context, seen).values).all()
    path = tmp_path / "tokens"
    path.write_bytes(many.to_bytes())
    loaded = Tokens.from_bytes(path.read_bytes())
    again = ReversibleCodec(config)  # as in another process: nothing is carried over
    back_context, back = again.decode(loaded)
    assert (back == np.rint(seen * GRID)).all()
    assert (back_context == np.rint(context * GRID)).all()
    for i in range(ones):
        row = Tokens(loaded.values[i : i + 1], loaded.checks[i : i + 1])
        first, second = again.decode(row)
        assert (first == back_context[i]).all() and (second == back[i]).all()


def test_fixed_point_is_exact_in_every_batch(tmp_path):
    exact(20_000, tmp_path, SMALL, 300)


@pytest.mark.slow
def test_fixed_point_is_exact_for_a_hundred_thousand_tokens(tmp_path):
    exact(100_000, tmp_path, SMALL, 100_000)


def test_fixed_point_is_exact_at_full_width(tmp_path):
    exact(300, tmp_path, CodecConfig(width=384, layers=2), 5)


def test_threads_change_nothing():
    codec = ReversibleCodec(CodecConfig(width=64, layers=2))
    context, seen = pairs(512, 64)
    before = torch.get_num_threads()
    made = []
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            made.append(codec.encode(context, seen).values)
    finally:
        torch.set_num_threads(before)
    assert (made[0] == made[1]).all()


@pytest.mark.parametrize(
    ("precision", "bound"), [("float64", 1e-10), ("float32", 1e-4), ("bfloat16", 5e-2)]
)
@pytest.mark.parametrize("layers", [2, 6])
def test_floats_come_back_within_their_bounds(precision, bound, layers):
    config = CodecConfig(width=96, layers=layers, precision=precision, lossless=False)
    codec = ReversibleCodec(config)
    context, seen = pairs(256, 96)
    back = codec.decode(codec.encode(context, seen))
    for found, given in zip(back, (context, seen), strict=True):
        relative = np.linalg.norm(found - given) / np.linalg.norm(given)
        assert relative <= bound
    # The bound means something: each precision does lose what the next finer one keeps.
    assert relative >= {"float64": 0.0, "float32": 1e-10, "bfloat16": 1e-4}[precision]


def test_bfloat16_is_refused_for_lossless():
    with pytest.raises(InputError, match="loses digits"):
        CodecConfig(precision="bfloat16")


def test_every_linear_layer_is_capped():
    codec = ReversibleCodec(CodecConfig(width=32, layers=2))
    norms = [np.linalg.norm(w / GRID, 2) for net in codec._nets for w in net]
    assert max(norms) <= 1.0 and min(norms) > 0.9


def test_the_token_depends_on_both_halves():
    codec = ReversibleCodec(SMALL)
    context, seen = pairs(4, 8)
    token = codec.encode(context, seen).values
    nudge = 0.1 * np.random.default_rng(9).standard_normal(8)
    for other in (codec.encode(context + nudge, seen), codec.encode(context, seen + nudge)):
        assert ((other.values - token)[:, :8] != 0).all() and (
            (other.values - token)[:, 8:] != 0
        ).any()


def test_a_damaged_token_is_noticed_and_the_journal_asked():
    codec = ReversibleCodec(SMALL)
    context, seen = pairs(5, 8)
    token = codec.encode(context, seen)
    token.values[3, 2] += 1
    with pytest.raises(ModelError, match="token 3 is damaged"):
        codec.decode(token)
    _, back = codec.decode(token, fallback=lambda number: seen[number])
    assert (back == codec.quantise(seen)).all()


def test_a_kept_remainder_walks_a_whole_history_back():
    codec = ReversibleCodec(SMALL)
    history = np.random.default_rng(3).standard_normal((50, 1, 8))
    context, remainders, checks = np.zeros((1, 8), np.int64), [], []
    for seen in history:
        token = codec.encode(context, seen)
        context, remainder = codec.chain(token)
        remainders.append(remainder)
        checks.append(token.checks)
    for seen, remainder, check in zip(history[::-1], remainders[::-1], checks[::-1], strict=True):
        values = codec.unchain(context, remainder)
        context, back = codec.decode(Tokens(values, check))
        assert (back == codec.quantise(seen)).all()
    assert (context == 0).all()


def test_chaining_keeps_lengths():
    codec = ReversibleCodec(SMALL)
    token = codec.encode(*pairs(100, 8))
    context, remainder = codec.chain(token)
    before = np.linalg.norm(token.values.astype(float), axis=1)
    after = np.linalg.norm(np.concatenate([context, remainder], axis=1).astype(float), axis=1)
    assert np.abs(after / before - 1).max() < 1e-4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((1, 8), np.nan), "not finite"),
        (np.full((1, 8), 40000.0), "2\\^31 quanta"),
        (np.zeros((1, 7)), r"expected \(n, 8\)"),
    ],
)
def test_values_that_cannot_be_held_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        ReversibleCodec(SMALL).encode(values, values)


def test_damaged_storage_is_said():
    raw = ReversibleCodec(SMALL).encode(*pairs(3, 8)).to_bytes()
    for broken in (raw[:-1], b"", b"x" + raw[1:]):
        with pytest.raises(ModelError, match="damaged"):
            Tokens.from_bytes(broken)
