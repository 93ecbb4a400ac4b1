"""A second writing of the first stage, over a whole clip at once: keep marks on all its tokens.

It follows the description of the released class (specs of SAVEMem, 1.5 to 1.7) and shares no code
with ``vision_mem.videoqa``: similarities of all grids come from shifted copies of the whole clip.
"""

from __future__ import annotations

import torch


class WholeClip:
    """Marks of what stays of a clip ``(T, R * C, D)``.

    Attributes:
        keep: bool ``(T, n)``.
        features: the clip with merged rows rewritten.
        tier: of each grid.
    """

    def __init__(self, clip, rows, cols, *, short, mid, budget, bank=None):
        self.rows, self.cols, self.bank = rows, cols, bank
        self.features = clip.clone()
        self.keep = torch.ones(clip.shape[:2], dtype=torch.bool)
        self.tier = ["short"] * len(clip)
        units = clip / clip.norm(dim=-1, keepdim=True).clamp(min=1e-8)
        self.units = units
        self.back = torch.stack([self._best(units[t], units[t - 1]) for t in range(1, len(clip))])
        self.forth = torch.stack([self._best(units[t], units[t + 1]) for t in range(len(clip) - 1)])
        self.worth = clip.norm(dim=-1) if bank is None else (units @ bank.T).amax(dim=-1)
        scenes = self._scenes()
        waiting, middle, old = [], [], []
        for t in range(len(clip)):
            waiting.append(t)
            if len(waiting) > short:
                leaving = waiting.pop(0)
                self._prune(leaving, scenes[leaving])
                middle.append(leaving)
                self.tier[leaving] = "mid"
            if len(middle) > mid:
                leaving = middle.pop(0)
                self._shrink(leaving)
                old.append(leaving)
                self.tier[leaving] = "long"
                over = int(self.keep[middle + old].sum()) - budget
                worth = self.features.norm(dim=-1) if bank is None else self.worth
                places = [(float(worth[g, i]), g, i) for g in old for i in self._kept(g)]
                for _, g, i in sorted(places)[: max(0, over)]:
                    self.keep[g, i] = False

    def _kept(self, t):
        return self.keep[t].nonzero().squeeze(1).tolist()

    def _best(self, one, other):
        """Best cosine with the 3 x 3 around, by shifting the other grid inside a rim of NaN."""
        rim = torch.full((self.rows + 2, self.cols + 2, one.shape[-1]), torch.nan)
        rim[1:-1, 1:-1] = other.reshape(self.rows, self.cols, -1)
        one = one.reshape(self.rows, self.cols, -1)
        shifted = [
            (one * rim[1 + r : 1 + r + self.rows, 1 + c : 1 + c + self.cols]).sum(-1)
            for r in (-1, 0, 1)
            for c in (-1, 0, 1)
        ]
        return torch.stack(shifted).nan_to_num(nan=-9.0).amax(dim=0).reshape(-1)

    def _scenes(self):
        flags, means = [False], []
        for t in range(1, len(self.keep)):
            mean = float((1 - self.back[t - 1]).mean())
            usual = sum(means) / len(means) if means else 0.0
            flags.append(usual > 1e-6 and mean > 1.5 * usual)
            means.append(mean)
        return flags

    def _prune(self, t, scene):
        ahead = 1 - self.forth[t]
        keep = ahead >= cut(ahead, median=True)
        if t:
            behind = 1 - self.back[t - 1]
            keep |= behind >= cut(behind, median=True)
        if not scene:
            lift = 0.0 if self.bank is None else 0.15 * self.worth[t]
            keep &= ~(self.forth[t] > 0.8 + lift)
        self.keep[t] = keep

    def _shrink(self, t):
        kept = self._kept(t)
        if self.bank is not None and len(kept) >= 20:
            self._select(t, kept)
        elif len(kept) > 1:
            self._merge(t, kept)

    def _select(self, t, kept):
        mean = float(self.worth[t, kept].mean())
        count = max(4, int(len(kept) * (0.15 + 0.25 * min(max(mean, 0.0), 1.0))))
        if count >= len(kept):
            return
        at = {i: divmod(i, self.cols) for i in kept}
        middle = [(min(x) + max(x)) / 2 for x in zip(*at.values(), strict=True)]
        ranked = sorted(kept, key=lambda i: (-float(self.worth[t, i]), i))
        chosen = []
        for quarter in ((0, 0), (0, 1), (1, 0), (1, 1)):
            inside = [
                i
                for i in ranked
                if (int(at[i][0] > middle[0]), int(at[i][1] > middle[1])) == quarter
            ]
            chosen += inside[: max(1, count // 4)]
        chosen += [i for i in ranked if i not in chosen][: max(0, count - len(chosen))]
        self.keep[t] = False
        self.keep[t, chosen] = True

    def _merge(self, t, kept):
        at = {i: divmod(i, self.cols) for i in kept}
        edges = [
            (i, j)
            for i in kept
            for j in kept
            if i < j and max(abs(at[i][0] - at[j][0]), abs(at[i][1] - at[j][1])) == 1
        ]
        lengths = [1 - float((self.units[t, i] * self.units[t, j]).sum()) for i, j in edges]
        lengths = torch.tensor(lengths).clamp(0, 2)
        threshold = cut(lengths, median=False)
        if threshold is None:
            return
        group = {i: i for i in kept}
        for (i, j), near in zip(edges, (lengths <= threshold).tolist(), strict=True):
            if near:
                old, new = max(group[i], group[j]), min(group[i], group[j])
                group = {k: new if g == old else g for k, g in group.items()}
        before = self.features[t].clone()
        for first in set(group.values()):
            members = sorted(k for k in kept if group[k] == first)
            if len(members) > 1:
                mean = before[members].mean(dim=0)
                apart = (before[members] - mean).square().sum(dim=-1).tolist()
                anchor = members[apart.index(min(apart))]
                self.features[t, anchor] = mean
                self.keep[t, [m for m in members if m != anchor]] = False


def cut(distances, *, median):
    """Otsu over 128 bins on [0, 2] by trying every split, or the median."""
    values = distances.clamp(0, 2)
    best, threshold = 0.0, None
    if len(values) > 1 and float(values.var()) > 1e-12:
        counts = torch.histc(values, 128, 0, 2).double()
        centres = (torch.arange(128).double() + 0.5) / 64
        for i in range(127):
            left, right = counts[: i + 1], counts[i + 1 :]
            if float(left.sum()) and float(right.sum()):
                low = (left * centres[: i + 1]).sum() / left.sum()
                high = (right * centres[i + 1 :]).sum() / right.sum()
                between = float(left.sum() * right.sum() * (low - high) ** 2)
                if between > best * (1 + 1e-12):
                    best, threshold = between, (i + 0.5) / 64
    if threshold is None and median:
        return float(values.median())
    return threshold
