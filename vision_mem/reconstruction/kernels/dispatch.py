"""Which implementation does the loops: numba's machine code, or numpy alone.

Both give the same voxels; ``tests`` compare them. Without numba (``pip install
'vision-mem[recon]'``) everything works, only slower.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vision_mem.errors import InputError, MissingExtra
from vision_mem.reconstruction.kernels import compiled, plain

CHOICES = ("auto", "numba", "numpy")


@dataclass(frozen=True)
class VoxelKernels:
    """One of the two sets; the functions are described in ``compiled``.

    Attributes:
        name: ``numba`` or ``numpy``.
    """

    name: str
    surface: Callable[..., Any]
    votes: Callable[..., Any]
    add: Callable[..., Any]
    fuse: Callable[..., Any]
    carve: Callable[..., Any]
    visible: Callable[..., Any]
    normal_equations: Callable[..., Any]


_NAMES = ("surface", "votes", "add", "fuse", "carve", "visible", "normal_equations")
NUMPY = VoxelKernels("numpy", **{name: getattr(plain, name) for name in _NAMES})


def choose(name: str = "auto") -> VoxelKernels:
    """Give a set of kernels.

    Args:
        name: ``numba``, ``numpy``, or ``auto`` for numba where it is installed.

    Raises:
        MissingExtra: when numba is asked for and not installed.
        InputError: for another name.
    """
    if name not in CHOICES:
        raise InputError(f"kernels is {name!r}; expected one of {', '.join(CHOICES)}")
    if name == "numpy":
        return NUMPY
    try:
        return _compiled()
    except ImportError as error:
        if name == "auto":
            return NUMPY
        raise MissingExtra(
            "the numba kernels need numba: pip install 'vision-mem[recon]', or set kernels to numpy"
        ) from error


@functools.lru_cache(maxsize=1)
def _compiled() -> VoxelKernels:
    numba = importlib.import_module("numba")

    def translated(loop: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, nogil=True, error_model="numpy")(loop)
        except RuntimeError:  # no folder in which compiled code could be kept
            return numba.njit(nogil=True, error_model="numpy")(loop)

    # The loops find it by its name, so it must be machine code before they are compiled.
    compiled._hashed = translated(compiled._hashed)
    return VoxelKernels("numba", **{name: translated(getattr(compiled, name)) for name in _NAMES})
