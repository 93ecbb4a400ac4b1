"""The nearest directions among many: exact, or approximate where that is proven good enough.

Approximate search needs faiss or usearch (``pip install 'vision-mem[nav]'``). It is built from
the store whenever it is needed, never saved, and used only when it finds at least 95 % of the
true ten nearest of 200 sampled queries (specification 4.3).
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.navigation.mean_directions import UnitSums

ENGINES = ("auto", "exact", "faiss", "usearch")
LEAST_RECALL = 0.95
_SAMPLES, _TOP, _TAIL = 200, 10, 0.2


class Neighbours:
    """Search over the means of a store, see ``RecallConfig``.

    Attributes:
        recall: of the approximate index as measured when it was built; None before that.
        used: what answered the latest search: ``exact``, ``faiss`` or ``usearch``.
    """

    def __init__(self, store: UnitSums, exact_up_to: int = 50_000, engine: str = "auto") -> None:
        self.store = store
        self.exact_up_to = exact_up_to
        self.engine = engine
        self.recall: float | None = None
        self.used = "exact"
        self._index: Any = None
        self._name = ""
        self._built = 0
        self._tried = 0

    def search(self, query: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """Rows whose mean direction is likest to a query, float32 ``(d,)`` of length 1.

        Returns:
            ``(row, cosine)``, ``k`` at most, best first, equals by row; empty rows are never found.

        Raises:
            InputError: for a query of another width than the store.
        """
        store = self.store
        if store.used == 1:
            return []
        if query.shape != (store.sums.shape[1],):
            raise InputError(
                f"the question has {len(query)} numbers, this map's embeddings have "
                f"{store.sums.shape[1]}: use the encoder the map was made with"
            )
        rows = np.arange(1, store.used)
        self.used = "exact"
        if len(rows) > self.exact_up_to and self.engine != "exact":
            self._refresh()
            if self._index is not None:
                found = _ask(self._name, self._index, query[None], 4 * k + 16)[0] + 1
                # The index is a little behind: what came since is looked through one by one.
                rows = np.union1d(found, np.arange(self._built, store.used))
                self.used = self._name
        return self._exact(query, rows, k)

    def _exact(
        self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int
    ) -> list[tuple[int, float]]:
        # A slice is not copied; an index of all rows would be.
        whole = len(rows) == self.store.used - 1
        sums = self.store.sums[1 : self.store.used] if whole else self.store.sums[rows]
        lengths = np.sqrt(np.einsum("ij,ij->i", sums, sums))
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = np.where(lengths > 0, sums @ query / lengths, -np.inf)
        if len(rows) > 4 * k:
            kept = np.flatnonzero(cosine >= np.partition(cosine, -k)[-k])
            rows, cosine = rows[kept], cosine[kept]
        order = np.lexsort((rows, -cosine))[:k]
        pairs = zip(rows[order].tolist(), cosine[order].tolist(), strict=True)
        return [(row, value) for row, value in pairs if np.isfinite(value)]

    def _refresh(self) -> None:
        used = self.store.used
        if used - self._tried <= _TAIL * self._tried:
            return
        self._tried = used
        self._index, self._name = None, ""
        sums = self.store.sums[1:used]
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        means = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        names = ("faiss", "usearch") if self.engine == "auto" else (self.engine,)
        for name in names:
            try:
                index = _build(name, means)
            except ImportError:
                continue
            sample = np.random.default_rng(0).choice(len(means), _SAMPLES, replace=False)
            true = np.argsort(-(means[sample] @ means.T), axis=1)[:, :_TOP]
            found = _ask(name, index, means[sample], _TOP)
            hits = [
                len(set(a) & set(b)) for a, b in zip(found.tolist(), true.tolist(), strict=True)
            ]
            self.recall = sum(hits) / (_TOP * _SAMPLES)
            if self.recall >= LEAST_RECALL:
                self._index, self._name, self._built = index, name, used
                return


def _build(name: str, means: NDArray[np.float32]) -> Any:
    if name == "faiss":
        faiss = importlib.import_module("faiss")
        index = faiss.IndexHNSWFlat(means.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 80
        index.hnsw.efSearch = 128
        index.add(means)
        return index
    usearch = importlib.import_module("usearch.index")
    index = usearch.Index(ndim=means.shape[1], metric="ip", connectivity=32, expansion_search=256)
    index.add(np.arange(len(means)), means)
    return index


def _ask(name: str, index: Any, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    if name == "faiss":
        found = np.asarray(index.search(np.ascontiguousarray(queries), k)[1], np.int64)
        return found if len(queries) > 1 else found[:, found[0] >= 0]
    keys = np.asarray(index.search(queries, k).keys).astype(np.int64)
    return keys.reshape(len(queries), -1)
