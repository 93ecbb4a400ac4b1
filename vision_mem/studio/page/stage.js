// The picture with its masks, and everything that is pointed at on it.

import { colourOf, inside, maskOf, outlineOf } from "./masks.js";

const $ = (id) => document.getElementById(id);
const DRAG = 6; // pixels from which on a click is a box

export class Stage {
  /** Handlers: onPoint(x, y, kind), onBox(box, kind), onSelect(id), onRename(id). */
  constructor(handlers) {
    Object.assign(this, { handlers, zoom: 1, panX: 0, panY: 0, mode: "new", selected: null, objects: [], head: null });
    this.root = $("stage");
    this.picture = $("picture");
    this.overlay = $("overlay");
    this.tags = $("tags");
    this.last = new Map(); // where an object was seen last, for the name of a lost one
    new ResizeObserver(() => this.resize()).observe(this.root);
    for (const button of document.querySelectorAll("[data-mode]"))
      button.addEventListener("click", () => this.setMode(button.dataset.mode));
    this.listen();
    this.resize();
  }

  reset() {
    Object.assign(this, { zoom: 1, panX: 0, panY: 0, head: null, objects: [], bitmap: null, selected: null });
    this.last.clear();
    this.draw();
  }

  setMode(mode) {
    this.mode = mode;
    for (const button of document.querySelectorAll("[data-mode]"))
      button.setAttribute("aria-checked", String(button.dataset.mode === mode));
  }

  /** Paints a frame; the promise is kept when it is on the screen. */
  async show(head, blob) {
    const bitmap = await createImageBitmap(blob);
    await new Promise(requestAnimationFrame);
    this.bitmap?.close();
    Object.assign(this, { head, bitmap });
    this.objects = head.objects.map((one) => {
      const mask = one.rle ? maskOf(one.rle, head.width, head.height) : null;
      if (mask) this.last.set(one.id, one.box);
      return { ...one, mask, outline: mask && outlineOf(mask) };
    });
    this.draw();
  }

  resize() {
    const box = this.root.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    for (const canvas of [this.picture, this.overlay]) {
      canvas.width = Math.max(1, Math.round(box.width * ratio));
      canvas.height = Math.max(1, Math.round(box.height * ratio));
    }
    Object.assign(this, { width: box.width, height: box.height, ratio });
    this.draw();
  }

  /** How pixels of the frame lie on the stage. */
  view() {
    if (!this.head) return { scale: 1, x: 0, y: 0 };
    const { width, height } = this.head;
    const scale = Math.min(this.width / width, this.height / height) * this.zoom;
    return { scale, x: (this.width - width * scale) / 2 + this.panX, y: (this.height - height * scale) / 2 + this.panY };
  }

  toFrame(clientX, clientY) {
    const box = this.root.getBoundingClientRect(), { scale, x, y } = this.view();
    return [(clientX - box.left - x) / scale, (clientY - box.top - y) / scale];
  }

  draw() {
    const { scale, x, y } = this.view(), ratio = this.ratio ?? 1;
    const picture = this.picture.getContext("2d"), over = this.overlay.getContext("2d");
    for (const context of [picture, over]) {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.picture.width, this.picture.height);
      context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
    }
    if (!this.bitmap) { this.tags.replaceChildren(); return; }
    picture.imageSmoothingEnabled = scale < 4;
    picture.drawImage(this.bitmap, 0, 0, this.head.width, this.head.height);
    for (const one of this.objects) if (one.outline) paint(over, one, scale, one.id === this.selected);
    this.drawTags(scale, x, y);
  }

  drawTags(scale, x, y) {
    const tags = this.objects.map((one) => {
      const box = one.mask ? one.box : this.last.get(one.id);
      if (!box) return null;
      const tag = document.createElement("div");
      tag.className = `tag ${one.state}${one.id === this.selected ? " selected" : ""}`;
      tag.textContent = one.mask ? `${one.name}  ${one.score.toFixed(2)}` : `${one.name} · lost`;
      tag.style.background = colourOf(one.id);
      const left = box[0] * scale + x, right = box[2] * scale + x, far = right > this.width - 12;
      const top = Math.max(2, Math.min(box[1] * scale + y - 24, this.height - 24));
      const place = far ? `calc(${Math.round(Math.min(right, this.width - 2))}px - 100%)` : `${Math.round(Math.max(2, left))}px`;
      if (!far) tag.style.maxWidth = `min(200px, ${Math.round(this.width - Math.max(2, left))}px)`;
      tag.style.transform = `translate(${place}, ${Math.round(top)}px)`;
      return tag;
    });
    this.tags.replaceChildren(...tags.filter(Boolean));
  }

  hit(x, y) {
    const found = this.objects.filter((one) => one.mask && inside(one.mask, x, y));
    return found.sort((a, b) => a.mask.w * a.mask.h - b.mask.w * b.mask.h)[0]?.id ?? null;
  }

  ripple(clientX, clientY, not) {
    const box = this.root.getBoundingClientRect(), dot = document.createElement("div");
    dot.className = `ripple${not ? " not" : ""}`;
    dot.style.left = `${clientX - box.left}px`;
    dot.style.top = `${clientY - box.top}px`;
    dot.addEventListener("animationend", () => dot.remove());
    this.root.append(dot);
  }

  listen() {
    let begin = null, pinch = null;
    const pointers = new Map(), root = this.root, rubber = $("rubber");
    const outside = (target) => target.closest(".modes, .camera");
    root.addEventListener("pointerdown", (event) => {
      if (outside(event.target) || !this.head || event.button > 1) return;
      root.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      if (pointers.size === 2) { pinch = this.pinchOf(pointers); begin = null; rubber.hidden = true; return; }
      begin = { x: event.clientX, y: event.clientY, pan: this.panning || event.button === 1, moved: false };
    });
    root.addEventListener("pointermove", (event) => {
      if (pointers.has(event.pointerId)) pointers.set(event.pointerId, event);
      if (pinch && pointers.size === 2) { this.pinchTo(pinch, this.pinchOf(pointers)); return; }
      if (!begin) {
        if (this.head && !outside(event.target)) root.classList.toggle("over", this.hit(...this.toFrame(event.clientX, event.clientY)) !== null);
        return;
      }
      const dx = event.clientX - begin.x, dy = event.clientY - begin.y;
      begin.moved ||= Math.hypot(dx, dy) > DRAG;
      if (begin.pan) {
        this.panX += event.movementX;
        this.panY += event.movementY;
        this.panned = true;
        this.draw();
      } else if (begin.moved) {
        const box = root.getBoundingClientRect();
        rubber.hidden = false;
        Object.assign(rubber.style, {
          left: `${Math.min(event.clientX, begin.x) - box.left}px`, top: `${Math.min(event.clientY, begin.y) - box.top}px`,
          width: `${Math.abs(dx)}px`, height: `${Math.abs(dy)}px`,
        });
      }
    });
    const end = (event) => {
      const pinched = pinch !== null;
      pointers.delete(event.pointerId);
      if (pointers.size === 0) pinch = null;
      rubber.hidden = true;
      const from = begin;
      begin = null;
      if (!from || pinched || from.pan || event.type === "pointercancel" || !this.head) return;
      const kind = event.altKey ? "not" : event.shiftKey ? "add" : this.mode;
      const [x, y] = this.toFrame(event.clientX, event.clientY);
      if (from.moved) {
        const [fx, fy] = this.toFrame(from.x, from.y), { width, height } = this.head;
        const clip = (value, most) => Math.max(0, Math.min(value, most));
        const left = clip(Math.min(x, fx), width), top = clip(Math.min(y, fy), height);
        const w = clip(Math.max(x, fx), width) - left, h = clip(Math.max(y, fy), height) - top;
        if (w >= 2 && h >= 2) this.handlers.onBox([left, top, w, h], kind);
      } else if (x >= 0 && y >= 0 && x < this.head.width && y < this.head.height) {
        const over = this.hit(x, y);
        if (kind === "new" && over !== null) this.handlers.onSelect(over);
        else { this.ripple(event.clientX, event.clientY, kind === "not"); this.handlers.onPoint(x, y, kind, over); }
      }
    };
    root.addEventListener("pointerup", end);
    root.addEventListener("pointercancel", end);
    root.addEventListener("dblclick", (event) => {
      const over = this.head && this.hit(...this.toFrame(event.clientX, event.clientY));
      if (over !== null && over !== undefined) this.handlers.onRename(over);
    });
    root.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(Math.exp(-event.deltaY * 0.0015), event.clientX, event.clientY);
    }, { passive: false });
    root.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  pinchOf(pointers) {
    const [a, b] = [...pointers.values()];
    return { x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2, far: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) };
  }

  pinchTo(before, now) {
    this.panX += now.x - before.x;
    this.panY += now.y - before.y;
    this.zoomAt(now.far / Math.max(before.far, 1), now.x, now.y);
    Object.assign(before, now);
  }

  zoomAt(factor, clientX, clientY) {
    if (!this.head) return;
    const box = this.root.getBoundingClientRect(), before = this.toFrame(clientX, clientY);
    this.zoom = Math.max(1, Math.min(this.zoom * factor, 24));
    if (this.zoom === 1) { this.panX = this.panY = 0; } else {
      const { scale, x, y } = this.view();
      this.panX += clientX - box.left - (before[0] * scale + x);
      this.panY += clientY - box.top - (before[1] * scale + y);
    }
    this.draw();
  }
}

/** A mask with its outline: solid where it is sure, dashed where it is not. */
export function paint(context, one, scale, selected) {
  const colour = colourOf(one.id);
  context.fillStyle = colour;
  context.globalAlpha = selected ? 0.46 : 0.34;
  context.fill(one.outline, "evenodd");
  context.globalAlpha = 1;
  context.lineJoin = "round";
  context.setLineDash(one.state === "unsure" ? [7 / scale, 5 / scale] : []);
  context.lineWidth = (selected ? 3 : 2) / scale;
  context.strokeStyle = colour;
  context.stroke(one.outline);
  context.setLineDash([]);
}
