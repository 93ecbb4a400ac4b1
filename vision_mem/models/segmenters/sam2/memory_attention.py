"""How objects look into their memories and how memories are written, by SAM 2's own layers.

The package runs the whole attention for each object. Its first layer begins with self-attention
over the frame, which knows nothing of any object yet: that, and the queries that come of it, are
made once a frame here. Rotations work in place and codes that never change are kept. The same
operations on the same shapes: results are equal to the bit, unless ``folded`` is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from vision_mem.errors import ModelError
from vision_mem.models.segmenters.protocol import MemoryRead
from vision_mem.models.segmenters.sam2.image_encoder import EncodedImage, to_image

QUERIES, TOKENS = 512, 1024
"""Scores at once: 2 MiB of float32, which stays in a core's cache."""


class Folded:
    """Value and output projections of one attention, multiplied into one.

    Args:
        attention: a ``RoPEAttention`` with a single head.
    """

    def __init__(self, attention: Any) -> None:
        wide, out = attention.v_proj, attention.out_proj
        weight = out.weight.double() @ wide.weight.double()
        bias = out.weight.double() @ wide.bias.double() + out.bias.double()
        self.weight, self.bias = weight.float(), bias.float()

    def __call__(
        self, queries: torch.Tensor, keys: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Look into the memory.

        Args:
            queries: ``(1 or B, 1, n, c)``, rotated.
            keys: ``(B, 1, m, c)``, rotated.
            tokens: ``(B, m, Cm)`` memory tokens.

        Returns:
            ``(B, n, C)``, output projection included.
        """
        scaled = queries[:, 0] * queries.shape[-1] ** -0.5
        rows = [
            torch.cat([_mean(part, k, m) for part in q.split(QUERIES)])
            for q, k, m in zip(scaled.expand(len(keys), -1, -1), keys[:, 0], tokens, strict=True)
        ]
        return F.linear(torch.stack(rows), self.weight, self.bias)


def _mean(queries: torch.Tensor, keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """``softmax(queries keys') tokens`` piece by piece, after Milakov & Gimelshein (2018)."""
    total = weight = top = None
    for some, seen in zip(keys.split(TOKENS), tokens.split(TOKENS), strict=True):
        scores = queries @ some.t()
        highest = scores.amax(dim=-1, keepdim=True)
        if top is not None:
            highest = torch.maximum(highest, top)
        shares = scores.sub_(highest).exp_()
        part, share = shares @ seen, shares.sum(dim=-1, keepdim=True)
        if total is None or weight is None or top is None:
            total, weight = part, share
        else:
            shrink = (top - highest).exp_()
            total, weight = total.mul_(shrink).add_(part), weight.mul_(shrink).add_(share)
        top = highest
    assert total is not None and weight is not None  # a memory holds a token at least
    return total / weight


def mask_to_remember(network: Any, grid_logits: torch.Tensor, from_prompt: bool) -> torch.Tensor:
    """Masks as SAM 2's memory encoder takes them; ``network`` is read for its settings only."""
    if network.binarize_mask_from_pts_for_mem_enc and from_prompt:
        masks = (grid_logits > 0).float()
    else:
        masks = torch.sigmoid(grid_logits)
    if network.sigmoid_scale_for_mem_enc != 1.0:
        masks = masks * network.sigmoid_scale_for_mem_enc
    if network.sigmoid_bias_for_mem_enc != 0.0:
        masks = masks + network.sigmoid_bias_for_mem_enc
    return masks


def pointer_steps(network: Any, positions: Sequence[int], num_frames: int | None) -> torch.Tensor:
    """How far pointers lie back, as a share of the reach: ``(n,)`` float32."""
    reach = network.max_obj_ptrs_in_encoder
    reach = reach if num_frames is None else min(num_frames, reach)
    # float32 from the start: not every device can make float64 or int64 quotients.
    return torch.tensor(positions, dtype=torch.float32) / max(reach - 1, 1)


class MemorySide:
    """Reads memories.

    Args:
        network: a ``SAM2Base`` in evaluation mode.
        device: where to run.
        code_type: type of the memories' spatial codes.
        folded: look into memories with fewer sums (``sam2_folded``).
    """

    def __init__(
        self, network: Any, device: torch.device, code_type: torch.dtype, *, folded: bool = False
    ) -> None:
        self._network = network
        self._device = device
        self._code_type = code_type
        self._spatial: dict[tuple[int, int], list[torch.Tensor]] = {}
        # One entry: objects that were added together ask for the same codes on each frame.
        self._latest_pointer_codes: tuple[Any, torch.Tensor] | None = None
        layers = getattr(network.memory_attention, "layers", ())
        both = [part for layer in layers for part in (layer.self_attn, layer.cross_attn_image)]
        kinds = {type(attention).__name__ for attention in both}
        # Anything else than the published layout goes through the package's own forward.
        self.known = kinds == {"RoPEAttention"} and network.memory_attention.batch_first
        self._folded: list[Folded | None] = [None] * len(layers)
        if folded and self.known and all(o.cross_attn_image.num_heads == 1 for o in layers):
            with torch.no_grad():
                self._folded = [Folded(layer.cross_attn_image) for layer in layers]

    def first_prompt(self, encoded: EncodedImage) -> torch.Tensor:
        """Features of an object without memory: ``(1, C, h, w)``."""
        net = self._network
        top, size = encoded.maps[-1], encoded.sizes[-1]
        if net.num_maskmem == 0:
            return to_image(top, size)
        if net.directly_add_no_mem_embed:
            return to_image(top + net.no_mem_embed, size)
        dummy = net.no_mem_embed.expand(1, 1, net.mem_dim)
        code = net.no_mem_pos_enc.expand(1, 1, net.mem_dim)
        return self._package_attention(encoded, dummy, code, pointer_tokens=0)

    def recall(self, encoded: EncodedImage, reads: Sequence[MemoryRead]) -> torch.Tensor:
        """Features of B objects that looked into their memories: ``(B, C, h, w)``.

        Args:
            encoded: the frame.
            reads: memories of equal shapes.

        Source:
            SAM 2, ``sam2_base.py: _prepare_memory_conditioned_features``.
        """
        net = self._network
        if net.num_maskmem == 0:
            top = encoded.maps[-1]
            return to_image(top.expand(-1, len(reads), -1), encoded.sizes[-1])
        parts = [self._tokens(read) for read in reads]
        tokens, codes, pointer_tokens = parts[0]
        if len(parts) > 1:
            tokens = torch.cat([part[0] for part in parts], dim=1)
            codes = torch.cat([part[1] for part in parts], dim=1)
        places = encoded.maps[-1].shape[0]
        if self.known and (len(tokens) - pointer_tokens) % places == 0:
            return self.attend(encoded, tokens, codes, pointer_tokens)
        return self._package_attention(encoded, tokens, codes, pointer_tokens=pointer_tokens)

    def write(
        self,
        encoded: EncodedImage,
        grid_logits: torch.Tensor,
        object_logit: torch.Tensor,
        *,
        from_prompt: bool,
    ) -> torch.Tensor:
        """Memory maps of B objects: ``(B, Cm, h, w)``.

        Args:
            encoded: the frame.
            grid_logits: ``(B, 1, S, S)``.
            object_logit: ``(B, 1)``; at or below 0 the map is marked "no object".
            from_prompt: whether a person pointed at these masks.

        Source:
            SAM 2, ``sam2_base.py: _encode_new_memory``, ``memory_encoder.py: MemoryEncoder``. Its
            constraint that objects of one batch push each other away is left out: objects are
            independent here.
        """
        encoder = self._network.memory_encoder
        masks = mask_to_remember(self._network, grid_logits, from_prompt)
        top = to_image(encoded.maps[-1], encoded.sizes[-1])
        seen = encoded.once("memory", lambda: encoder.pix_feat_proj(top))
        return self.written(seen, masks, object_logit)

    def written(
        self, seen: torch.Tensor, masks: torch.Tensor, object_logit: torch.Tensor
    ) -> torch.Tensor:
        """Memory maps of B objects from the frame as its encoder has it, and prepared masks."""
        net, encoder = self._network, self._network.memory_encoder
        maps: torch.Tensor = encoder.out_proj(encoder.fuser(seen + encoder.mask_downsampler(masks)))
        if net.no_obj_embed_spatial is not None:
            absent = 1 - (object_logit > 0).float()
            maps = maps + absent[..., None, None] * net.no_obj_embed_spatial[..., None, None]
        return maps

    def _package_attention(
        self,
        encoded: EncodedImage,
        memory: torch.Tensor,
        codes: torch.Tensor,
        *,
        pointer_tokens: int,
    ) -> torch.Tensor:
        objects = memory.shape[1]
        attended = self._network.memory_attention(
            curr=[encoded.maps[-1].expand(-1, objects, -1)],
            curr_pos=[encoded.position.expand(-1, objects, -1)],
            memory=memory,
            memory_pos=codes,
            num_obj_ptr_tokens=pointer_tokens,
        )
        return to_image(attended, encoded.sizes[-1])

    def attend(
        self, encoded: EncodedImage, memory: torch.Tensor, codes: torch.Tensor, pointer_tokens: int
    ) -> torch.Tensor:
        """Memory attention, its object-free beginning shared between objects.

        Source:
            SAM 2, ``memory_attention.py: MemoryAttention, MemoryAttentionLayer``.
        """
        attention = self._network.memory_attention
        position = encoded.position.transpose(0, 1)
        values = memory.transpose(0, 1)
        coded = values + codes.transpose(0, 1)
        x, queries = encoded.once("attention", lambda: self.begin(encoded))
        for number, layer in enumerate(attention.layers):
            if number > 0:
                x = _look_around(layer, x, position)
                queries = _queries(layer, x, position)
            keys = coded if layer.pos_enc_at_cross_attn_keys else values
            made = _placed_keys(layer.cross_attn_image, keys, len(encoded.position), pointer_tokens)
            folded = self._folded[number]
            if folded is not None:
                x = x + folded(queries, made, values)
            else:
                x = x + _look_back(layer.cross_attn_image, queries, made, values)
            hidden = layer.linear1(layer.norm3(x))
            # In place: at full size the hidden map is the largest thing written here.
            hidden = hidden.relu_() if layer.activation_str == "relu" else layer.activation(hidden)
            x = x + layer.linear2(hidden)
        return to_image(attention.norm(x).transpose(0, 1), encoded.sizes[-1])

    def begin(self, encoded: EncodedImage) -> tuple[torch.Tensor, torch.Tensor]:
        """The part of the first layer that no memory has touched, and its queries."""
        attention = self._network.memory_attention
        x, position = encoded.maps[-1], encoded.position
        if attention.pos_enc_at_input:
            x = x + 0.1 * position
        x, position = x.transpose(0, 1), position.transpose(0, 1)
        x = _look_around(attention.layers[0], x, position)
        return x, _queries(attention.layers[0], x, position)

    def _tokens(self, read: MemoryRead) -> tuple[torch.Tensor, torch.Tensor, int]:
        """One object's memory as ``(tokens, 1, Cm)``, its codes, and how many are pointers'."""
        net = self._network
        if not read.prompts:
            raise ModelError("an object's memory holds no prompted frame; prompt it first")
        maps = [(entry.tensors["map"], 0) for entry in read.prompts]
        maps += [(entry.tensors["map"], t_pos) for entry, t_pos in read.recents]
        prompts = len(read.prompts)
        tokens, codes = [], []
        for number, (memory, t_pos) in enumerate(maps):
            memory = memory.to(self._device)
            tokens.append(memory.flatten(2).permute(2, 0, 1))
            spatial = self.spatial_codes(memory.shape[-2:])
            untimed = number < prompts and not read.timed_prompts
            codes.append(spatial[-1] if untimed else spatial[net.num_maskmem - t_pos - 1])
        if not (net.use_obj_ptrs_in_encoder and read.pointers):
            return torch.cat(tokens), torch.cat(codes), 0

        vectors = torch.stack([v.to(self._device) for v, _ in read.pointers]).unsqueeze(1)
        parts = net.hidden_dim // net.mem_dim
        if parts > 1:  # (n, 1, C) -> (n * parts, 1, Cm)
            vectors = vectors.reshape(-1, 1, parts, net.mem_dim).permute(0, 2, 1, 3).flatten(0, 1)
        asked = (tuple(p for _, p in read.pointers), read.num_frames_hint)
        latest = self._latest_pointer_codes
        if latest is None or latest[0] != asked:
            made = self._pointer_codes(list(asked[0]), asked[1])
            made = made.repeat_interleave(parts, dim=0) if parts > 1 else made
            latest = self._latest_pointer_codes = (asked, made)
        return torch.cat([*tokens, vectors]), torch.cat([*codes, latest[1]]), len(vectors)

    def spatial_codes(self, size: torch.Size) -> list[torch.Tensor]:
        """Codes of a memory map, one for each temporal place, and one without: ``(hw, 1, Cm)``."""
        height, width = int(size[0]), int(size[1])
        if (height, width) not in self._spatial:
            net = self._network
            blank = torch.zeros(1, net.mem_dim, height, width, device=self._device)
            flat = net.memory_encoder.position_encoding(blank)
            flat = flat.to(self._code_type).flatten(2).permute(2, 0, 1)
            timed = [flat + code for code in net.maskmem_tpos_enc]
            self._spatial[height, width] = [*timed, flat]
        return self._spatial[height, width]

    def _pointer_codes(self, positions: list[int], num_frames: int | None) -> torch.Tensor:
        """Temporal codes of pointers: ``(n, 1, Cm)``."""
        net = self._network
        if not net.add_tpos_enc_to_obj_ptrs:
            return torch.zeros(len(positions), 1, net.mem_dim, device=self._device)
        steps = pointer_steps(net, positions, num_frames).to(self._device)
        return self.step_codes(steps).unsqueeze(1).expand(-1, 1, net.mem_dim)

    def step_codes(self, steps: torch.Tensor) -> torch.Tensor:
        """Temporal codes of pointers that lie ``(..., n)`` shares of the reach back."""
        net = self._network
        width = net.hidden_dim if net.proj_tpos_enc_in_obj_ptrs else net.mem_dim
        half = width // 2
        place = torch.arange(half, dtype=torch.float32, device=self._device)
        angles = steps.unsqueeze(-1) / 10000 ** (2 * (place // 2) / half)
        code = torch.cat([angles.sin(), angles.cos()], dim=-1)
        made: torch.Tensor = net.obj_ptr_tpos_proj(code)
        return made


def _look_around(layer: Any, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Self-attention of one layer over the frame: ``(B, HW, C)``."""
    attention = layer.self_attn
    normed = layer.norm1(x)
    asked = normed + position if layer.pos_enc_at_attn else normed
    queries = _rotate(_heads_of(attention, attention.q_proj(asked)), attention)
    keys = _rotate(_heads_of(attention, attention.k_proj(asked)), attention)
    values = _heads_of(attention, attention.v_proj(normed))
    return x + _mix(attention, queries, keys, values)


def _queries(layer: Any, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Rotated queries of one layer's look into the memory: ``(B, heads, HW, c)``."""
    attention = layer.cross_attn_image
    asked = layer.norm2(x)
    if layer.pos_enc_at_cross_attn_queries:
        asked = asked + position
    return _rotate(_heads_of(attention, attention.q_proj(asked)), attention)


def _placed_keys(
    attention: Any, keys: torch.Tensor, places: int, pointer_tokens: int
) -> torch.Tensor:
    """Keys of a memory, rotated by their places; pointers have none and stay as they are."""
    made = _heads_of(attention, attention.k_proj(keys))
    placed = made.shape[-2] - pointer_tokens
    frames = made[:, :, :placed].unflatten(2, (-1, places))
    turned = _rotate(frames, attention)
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # graphs know no writing in place
        return torch.cat([turned.flatten(2, 3), made[:, :, placed:]], dim=2)
    if turned.data_ptr() != frames.data_ptr():
        made[:, :, :placed] = turned.flatten(2, 3)
    return made


def _look_back(
    attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Cross-attention of one layer to the memory: ``(B, HW, C)``."""
    seen = _heads_of(attention, attention.v_proj(values))
    return _mix(attention, queries.expand(keys.shape[0], -1, -1, -1), keys, seen)


def _mix(
    attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    out = F.scaled_dot_product_attention(queries, keys, values)
    return attention.out_proj(attention._recombine_heads(out))


def _heads_of(attention: Any, x: torch.Tensor) -> torch.Tensor:
    return attention._separate_heads(x, attention.num_heads)


def _rotate(x: torch.Tensor, attention: Any) -> torch.Tensor:
    """Rotary positions of ``(..., HW, c)``; in place where the type allows it.

    Source:
        SAM 2, ``position_encoding.py: apply_rotary_enc``.
    """
    places = x.shape[-2]
    if attention.freqs_cis.shape[0] != places:
        # As the package does for image sizes other than the one it was built for.
        side = math.sqrt(places)
        attention.freqs_cis = attention.compute_cis(end_x=side, end_y=side)
    if attention.freqs_cis.device != x.device:
        attention.freqs_cis = attention.freqs_cis.to(x.device)
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # graphs have no complex numbers
        real, imaginary = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
        turn = attention.freqs_cis.numpy()
        cos, sin = torch.from_numpy(turn.real.copy()), torch.from_numpy(turn.imag.copy())
        turned = [real * cos - imaginary * sin, real * sin + imaginary * cos]
        return torch.stack(turned, dim=-1).flatten(-2)
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    if x.dtype == torch.float32:
        pairs.mul_(attention.freqs_cis)
        return x
    return torch.view_as_real(pairs * attention.freqs_cis).flatten(-2).type_as(x)
