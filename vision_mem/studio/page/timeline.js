// A lane an object: where it was seen, unsure, lost; a click goes there.

import { colourOf } from "./masks.js";

export const clock = (seconds) => {
  const whole = Math.max(0, seconds), minutes = Math.floor(whole / 60);
  return `${minutes}:${(whole % 60).toFixed(1).padStart(4, "0")}`;
};

/** Words of events for people. */
export const TOLD = {
  added: "pointed at", corrected: "corrected", unsure: "became unsure", lost: "was lost", found: "was found",
  left: "left the picture", entered: "came into the picture",
};
const SIGNS = { lost: "--bad", left: "--bad", unsure: "--warn", found: "--good", entered: "--good" };
const NEAR = 6; // pixels within which a click or a hand means an event

export class Timeline {
  constructor(root, onSeek) {
    Object.assign(this, { root, onSeek, state: null });
    this.needle = document.createElement("div");
    this.needle.className = "needle";
    let dragging = false;
    const go = (event) => {
      const frame = (event.type === "pointerdown" && this.near(event)?.frame) || this.frameAt(event.clientX);
      if (frame !== null && frame !== this.asked) { this.asked = frame; this.onSeek(frame); }
    };
    root.addEventListener("pointerdown", (event) => { dragging = true; this.asked = null; root.setPointerCapture(event.pointerId); go(event); });
    root.addEventListener("pointermove", (event) => {
      if (dragging) go(event);
      root.title = dragging ? "" : this.near(event)?.text ?? "";
    });
    root.addEventListener("pointerup", () => { dragging = false; });
    new ResizeObserver(() => this.draw()).observe(root);
  }

  area() {
    const lane = this.root.querySelector("canvas");
    return lane && lane.getBoundingClientRect();
  }

  frameAt(clientX) {
    const area = this.area(), reach = this.state?.reach;
    if (!area || !reach) return null;
    const part = Math.max(0, Math.min(1, (clientX - area.left) / area.width));
    return Math.round(reach[0] + part * (reach[1] - reach[0]));
  }

  /** The event of the lane under the hand that is nearest to it. */
  near(event) {
    const area = this.area(), reach = this.state?.reach, lane = event.target.closest?.(".lane");
    if (!area || !reach || !lane) return null;
    const at = [...this.root.children].indexOf(lane), one = this.state.objects[at - 1];
    const all = at === 0
      ? this.state.answers.flatMap(([question, frames]) => frames.map((frame) => ({ frame, text: `answers “${question}”` })))
      : (one?.events ?? []).map(([frame, kinds]) => ({ frame, text: `${one.name} ${kinds.split(" ").map((kind) => TOLD[kind] ?? kind).join(", ")}` }));
    const far = ({ frame }) => Math.abs(this.across(frame, area.width) - (event.clientX - area.left));
    const best = all.sort((a, b) => far(a) - far(b))[0];
    return best && far(best) <= NEAR ? { ...best, text: `${best.text}, frame ${best.frame}` } : null;
  }

  across(frame, width) {
    const [low, high] = this.state.reach;
    return (width * (frame - low)) / Math.max(1, high - low);
  }

  update(state, selected) {
    Object.assign(this, { state, selected });
    this.draw();
  }

  moveTo(frame) {
    const area = this.area(), reach = this.state?.reach;
    if (!area || !reach || frame === null) { this.needle.hidden = true; return; }
    const part = Math.max(0, Math.min(1, (frame - reach[0]) / Math.max(1, reach[1] - reach[0])));
    this.needle.hidden = false;
    this.needle.style.left = `${area.left - this.root.getBoundingClientRect().left + part * area.width}px`;
  }

  draw() {
    const { state } = this;
    if (!state) return;
    const rows = [this.row("", "ruler"), ...state.objects.map((one) => this.row(one.name, one.id === this.selected ? "selected" : ""))];
    this.root.replaceChildren(...rows, this.needle);
    const style = getComputedStyle(document.documentElement);
    this.ruler(rows[0].lastChild, style);
    state.objects.forEach((one, n) => this.lane(rows[n + 1].lastChild, one, style));
    this.moveTo(state.shown);
  }

  row(name, kind) {
    const row = document.createElement("div");
    row.className = `lane ${kind}`;
    const label = document.createElement("b");
    label.textContent = name;
    row.append(label, document.createElement("canvas"));
    return row;
  }

  sized(canvas) {
    const box = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    return [context, box.width, box.height];
  }

  ruler(canvas, style) {
    const [context, width] = this.sized(canvas), { reach, fps, live, head } = this.state;
    if (!reach) return;
    const seconds = Math.max((reach[1] - reach[0]) / (fps || 30), 0.1);
    const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find((s) => (s / seconds) * width > 62) ?? 7200;
    context.fillStyle = style.getPropertyValue("--dim");
    context.font = "11px system-ui, sans-serif";
    for (let t = 0; t <= seconds; t += step) {
      const x = live ? width - (t / seconds) * width : (t / seconds) * width;
      context.fillRect(Math.min(x, width - 1), 12, 1, 5);
      const text = live ? (t ? `−${label(t)}` : "now") : label(t);
      const long = context.measureText(text).width;
      context.fillText(text, Math.max(0, Math.min(x - long / 2, width - long)), 10);
    }
    context.fillStyle = style.getPropertyValue("--accent");
    for (const [, frames] of this.state.answers) for (const frame of frames) {
      const x = Math.max(4, Math.min(this.across(frame, width), width - 4));
      context.beginPath();
      for (const [dx, dy] of [[0, -4], [4, 0], [0, 4], [-4, 0]]) context.lineTo(x + dx, 13 + dy);
      context.fill();
    }
    context.fillStyle = style.getPropertyValue("--dim");
    if (!live && head !== null) {
      context.globalAlpha = 0.25;
      context.fillRect(0, 15, (width * (head - reach[0])) / Math.max(1, reach[1] - reach[0]), 3);
      context.globalAlpha = 1;
    }
  }

  lane(canvas, one, style) {
    const [context, width, height] = this.sized(canvas), bins = one.lane, { reach } = this.state;
    const colour = colourOf(one.id), part = width / Math.max(1, bins.length);
    for (let n = 0, end; n < bins.length; n = end) {
      for (end = n + 1; end < bins.length && bins[end] === bins[n];) end++;
      if (bins[n] < 0) continue;
      context.globalAlpha = bins[n] === 1 ? 0.45 : 1;
      context.fillStyle = bins[n] === 2 ? style.getPropertyValue("--dim") : colour;
      if (bins[n] === 2) context.fillRect(n * part, height / 2 - 1, (end - n) * part, 2);
      else context.fillRect(n * part, 2, (end - n) * part, height - 4);
    }
    context.globalAlpha = 1;
    if (!reach) return;
    for (const [frame, kinds] of one.events) {
      const sign = kinds.split(" ").map((kind) => SIGNS[kind]).find(Boolean);
      if (!sign || frame < reach[0]) continue;
      const x = Math.max(1, Math.min(this.across(frame, width), width - 1));
      context.fillStyle = style.getPropertyValue("--panel");
      context.fillRect(x - 2, 0, 4, height);
      context.fillStyle = style.getPropertyValue(sign);
      context.fillRect(x - 1, 0, 2, height);
    }
    context.fillStyle = style.getPropertyValue("--text");
    for (const frame of one.prompts) {
      if (frame < reach[0]) continue;
      const x = this.across(frame, width);
      context.beginPath();
      context.arc(Math.max(4, Math.min(x, width - 4)), height / 2, 3.2, 0, 7);
      context.fill();
    }
  }
}

const label = (t) => (t < 60 ? `${+t.toFixed(1)} s` : `${Math.floor(t / 60)}:${String(Math.round(t % 60)).padStart(2, "0")}`);
