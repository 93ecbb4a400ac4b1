// Masks as COCO run lengths, and the outlines that are drawn of them.

const COLOURS = ["#ffb000", "#409cff", "#ff4a7a", "#48d684", "#b270ff", "#ff7a2e", "#00d4d4", "#f0e442", "#ec70dc", "#96c83c"];

/** The colour of an object, as in the package's videos; far apart for colour-blind eyes too. */
export function colourOf(id) {
  if (id >= 1 && id <= COLOURS.length) return COLOURS[id - 1];
  const hue = (id * 0.61803398875) % 1;
  return `hsl(${Math.round(hue * 360)} ${Math.floor(id / 3) % 2 ? 90 : 65}% 62%)`;
}

/** Run lengths out of COCO's compressed string: background first, column by column. */
export function runLengths(text) {
  const counts = [];
  let at = 0;
  while (at < text.length) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const bits = text.charCodeAt(at++) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
      more = Boolean(bits & 32);
      if (!more && bits & 16) value |= -1 << shift;
    }
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

/** A mask within its bounds: {x, y, w, h, on}, `on` row by row; null for an empty one. */
export function maskOf(text, width, height) {
  const counts = runLengths(text);
  let place = 0, left = width, right = -1, top = height, bottom = -1;
  const stretches = [];
  counts.forEach((count, n) => {
    if (n % 2 && count > 0) {
      stretches.push([place, place + count]);
      const first = Math.floor(place / height), last = Math.floor((place + count - 1) / height);
      left = Math.min(left, first);
      right = Math.max(right, last);
      if (last > first) { top = 0; bottom = height - 1; } else {
        top = Math.min(top, place % height);
        bottom = Math.max(bottom, (place + count - 1) % height);
      }
    }
    place += count;
  });
  if (right < 0) return null;
  const w = right - left + 1, h = bottom - top + 1, on = new Uint8Array(w * h);
  for (const [from, to] of stretches)
    for (let p = from; p < to; p++) on[((p % height) - top) * w + Math.floor(p / height) - left] = 1;
  return { x: left, y: top, w, h, on };
}

export function inside(mask, x, y) {
  const cx = Math.floor(x) - mask.x, cy = Math.floor(y) - mask.y;
  return cx >= 0 && cy >= 0 && cx < mask.w && cy < mask.h && mask.on[cy * mask.w + cx] === 1;
}

/** Closed outlines in pixels of the frame, stairs rounded off; holes are outlines too. */
export function outlineOf(mask) {
  const { w, h, on, x: ox, y: oy } = mask, wide = w + 1, next = new Map();
  const set = (px, py) => px >= 0 && py >= 0 && px < w && py < h && on[py * w + px];
  const edge = (from, to) => { const list = next.get(from); if (list) list.push(to); else next.set(from, [to]); };
  for (let py = 0; py < h; py++) for (let px = 0; px < w; px++) {
    if (!on[py * w + px]) continue;
    const at = py * wide + px;
    if (!set(px, py - 1)) edge(at, at + 1);
    if (!set(px + 1, py)) edge(at + 1, at + 1 + wide);
    if (!set(px, py + 1)) edge(at + 1 + wide, at + wide);
    if (!set(px - 1, py)) edge(at + wide, at);
  }
  const path = new Path2D();
  for (const start of next.keys()) {
    while (next.get(start)?.length) {
      const loop = [];
      let at = start;
      do { loop.push(at); at = next.get(at).pop(); } while (at !== start && next.get(at)?.length);
      const points = loop.map((p, n) => {
        const q = loop[(n + 1) % loop.length];
        return [ox + ((p % wide) + (q % wide)) / 2, oy + (Math.floor(p / wide) + Math.floor(q / wide)) / 2];
      });
      points.forEach(([x, y], n) => (n ? path.lineTo(x, y) : path.moveTo(x, y)));
      path.closePath();
    }
  }
  return path;
}
