"""What the comparison of memories compares: one model, other memories, the same tokens in all.

Source: specs/mem4d.md section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from vision_mem.errors import InputError
from vision_mem.models.mem4d.config import Mem4DConfig
from vision_mem.models.mem4d.network import Mem4DNetwork

Change = Callable[[Mem4DConfig], Mem4DConfig]


def patches(config: Mem4DConfig) -> int:
    """Of a frame."""
    return (config.size // config.patch) ** 2


def budget(config: Mem4DConfig) -> int:
    """Tokens that both memories hold together."""
    return config.transient.frames * patches(config) + config.persistent.capacity


def _memories(**changed: dict[str, object]) -> Change:
    """Other settings of parts, by part."""

    def change(config: Mem4DConfig) -> Mem4DConfig:
        parts = {name: replace(getattr(config, name), **some) for name, some in changed.items()}
        return replace(config, **parts)

    return change


def _nothing(config: Mem4DConfig) -> Mem4DConfig:
    return _memories(transient={"frames": 0}, persistent={"kind": "none"})(config)


def _recent(config: Mem4DConfig, *, motion: bool) -> Mem4DConfig:
    frames = budget(config) // patches(config)
    return _memories(
        transient={"frames": frames, "motion": motion},
        persistent={"kind": "none"},
        decoder={"mode": "single"},
    )(config)


def _lasting(config: Mem4DConfig, **some: object) -> Mem4DConfig:
    told = {"capacity": budget(config), **some}
    return _memories(transient={"frames": 0}, persistent=told, decoder={"mode": "single"})(config)


def _pruned(config: Mem4DConfig) -> Mem4DConfig:
    return _lasting(config, gate="none", pool=False, merge="none", anchor=False)


def _slots(config: Mem4DConfig) -> Mem4DConfig:
    return _lasting(config, kind="slots", gate="none", slot_gate="one")


VARIANTS: dict[str, Change] = {
    "none": _nothing,
    "fifo": lambda c: _recent(c, motion=False),
    "pruned": _pruned,
    "slots": _slots,
    "transient only": lambda c: _recent(c, motion=True),
    "persistent only": _lasting,
    "dual": lambda c: c,
    "no motion": _memories(motion={"kind": "none"}),
    "no gate": _memories(persistent={"gate": "none"}),
    "true gate": _memories(persistent={"gate": "truth"}),
    "parallel": _memories(decoder={"mode": "parallel"}),
    "concat": _memories(decoder={"mode": "concat"}),
    "transient first": _memories(decoder={"order": "transient_first"}),
    "average": _memories(persistent={"merge": "average"}),
    "no anchor": _memories(persistent={"anchor": False}),
    "K=1": _memories(transient={"frames": 1}),
    "K=3": _memories(transient={"frames": 3}),
    "K=5": _memories(transient={"frames": 5}),
    "N/2": lambda c: _memories(persistent={"capacity": c.persistent.capacity // 2})(c),
    "2N": lambda c: _memories(persistent={"capacity": 2 * c.persistent.capacity})(c),
}
"""Rows of the comparison. ``fifo``, ``pruned`` and ``slots`` share one memory for all there is."""

ALL = "all"
"""Name for training one set of weights under each row in turn, see ``AllRows``."""

SHARED = ("fifo", "pruned", "slots")


def varied_config(config: Mem4DConfig, name: str) -> Mem4DConfig:
    """A model with the memories of a row.

    Raises:
        InputError: for a row that is not in ``VARIANTS``.
    """
    if name not in VARIANTS:
        raise InputError(f"no variant {name!r}; expected one of {', '.join(VARIANTS)}")
    return VARIANTS[name](config)


class AllRows(nn.Module):
    """One set of weights under all rows, so that none of them is favoured by where it starts.

    Parameters of the same name are the same tensor in each row; what only some rows have (the
    slots, the motion encoder) is trained when one of these has its turn.

    Args:
        config: of the row ``dual``.
    """

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        self.rows = nn.ModuleList(Mem4DNetwork(change(config)) for change in VARIANTS.values())
        shared: dict[str, nn.Parameter] = {}
        for row in self.rows:
            for name, value in list(row.named_parameters()):
                place, _, last = name.rpartition(".")
                setattr(row.get_submodule(place), last, shared.setdefault(name, value))

    def row(self, seed: int, step: int) -> Mem4DNetwork:
        """The row of a step: all of them in each round, in a new order."""
        turn, place = divmod(step, len(self.rows))
        order = np.random.default_rng((seed, turn, 11)).permutation(len(self.rows))
        found = self.rows[int(order[place])]
        assert isinstance(found, Mem4DNetwork)
        return found

    @property
    def dual(self) -> Mem4DNetwork:
        """The row that a checkpoint is exported and checked as."""
        found = self.rows[list(VARIANTS).index("dual")]
        assert isinstance(found, Mem4DNetwork)
        return found

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.dual.device

    def tensors(self) -> dict[str, Tensor]:
        """All weights by the names that they have in their rows."""
        return {name: value for row in self.rows for name, value in row.state_dict().items()}
