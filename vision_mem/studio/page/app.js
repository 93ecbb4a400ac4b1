// The studio's page: which stream is shown, what is done to it, what is said of it.

import { call, getJson, Live, postJson, Webcam } from "./api.js";
import { colourOf } from "./masks.js";
import { paint, Stage } from "./stage.js";
import { clock, TOLD, Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
const NS = "http://www.w3.org/2000/svg";
const icon = (name) => {
  const svg = document.createElementNS(NS, "svg"), use = document.createElementNS(NS, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
};

// All icons once, in the page: asked for one by one they would flicker whenever a list is drawn.
const sprite = new DOMParser().parseFromString(await (await fetch("icons.svg")).text(), "image/svg+xml");
for (const symbol of sprite.querySelectorAll("symbol")) symbol.id = `icon-${symbol.id}`; // buttons have such names, too
document.body.append(document.importNode(sprite.documentElement, true));
document.body.lastElementChild.setAttribute("hidden", "");

const page = { about: {}, streams: [], current: null, state: null, live: null, webcams: new Map(), firstTime: null, painted: [], delay: null, link: false, noted: 0, told: "", listed: "" };
const FORMATS = {
  rle: ["Masks", "COCO run lengths, JSON lines"], png: ["Mask pictures", "indexed PNG, as DAVIS"], video: ["Video", "MP4 with masks drawn"],
  lasot: ["Boxes", "LaSOT text, a file an object"], mot: ["Boxes, MOT", "MOTChallenge lines"], diary: ["Diary", "scores, decisions, events"],
  otb: ["Boxes, OTB", "the same in OTB's place"], got10k: ["Boxes, GOT-10k", "with times, as its server wants"],
};
const KEYS = [
  ["Space", "play, pause; held while dragging: move the picture"], ["← →", "a frame back or on"], ["Z", "undo; Shift Z: redo"],
  ["N  A  X", "a click means: new, this too, not this"], ["Shift click", "this too, for the selected object"], ["Alt click", "not this"],
  ["1 … 9", "select an object"], ["F2, double click", "name it"], ["Delete", "stop following it from here on; Shift Delete: everywhere"],
  ["L", "back to now"], ["Wheel, pinch", "zoom; 0: the whole picture"], ["Esc", "select nothing"], ["?", "this list"],
];

// -- telling -----------------------------------------------------------------------------------

function say(text, bad = false) {
  const toast = make("div", `toast${bad ? " bad" : ""}`, text);
  $("toasts").append(toast);
  // Shown anew it lies above dialogs, too.
  $("toasts").hidePopover();
  $("toasts").showPopover();
  while ($("toasts").children.length > 3) $("toasts").firstChild.remove();
  setTimeout(() => toast.remove(), bad ? 6000 : 2600);
}

const guarded = (work) => async (...args) => {
  try { return await work(...args); } catch (error) { say(sentence(error.message), true); return undefined; }
};
const sentence = (text) => (/^\S*[:/.]/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1));

const address = (path = "") => `/api/streams/${encodeURIComponent(page.current)}${path}`;
const send = (command, more = {}) => postJson(address("/commands"), { command, ...more });
const act = guarded(send);

// -- streams -----------------------------------------------------------------------------------

async function refreshStreams() {
  page.streams = await getJson("/api/streams");
  const wanted = decodeURIComponent(location.hash.slice(1));
  const known = page.streams.map((each) => each.id);
  const next = known.includes(page.current) ? page.current : known.includes(wanted) ? wanted : known.at(-1) ?? null;
  if (next !== page.current) showStream(next);
  $("work").hidden = next === null;
  $("empty").hidden = next !== null;
  if (next === null) $("status").replaceChildren(chip("Model", page.about.model ?? ""), chip("Version", page.about.version ?? ""));
  drawTabs();
}

function drawTabs() {
  $("tabs").replaceChildren(...page.streams.map((each) => {
    const state = each.id === page.current && page.state ? page.state : each;
    const tab = make("button", `tab ${state.problem ? "broken" : state.live && !state.ended ? "runs" : ""}`);
    tab.setAttribute("aria-current", String(each.id === page.current));
    tab.title = each.source;
    const close = make("span", "close");
    close.setAttribute("role", "button");
    close.title = "Close this stream; its files stay";
    close.append(icon("cross"));
    close.addEventListener("click", guarded(async (event) => {
      event.stopPropagation();
      page.webcams.get(each.id)?.close();
      page.webcams.delete(each.id);
      await call(`/api/streams/${encodeURIComponent(each.id)}`, { method: "DELETE" });
      await refreshStreams();
    }));
    tab.append(make("i"), make("span", "", each.name), close);
    tab.addEventListener("click", () => { showStream(each.id); drawTabs(); });
    return tab;
  }));
}

function showStream(id) {
  page.live?.close();
  Object.assign(page, { current: id, state: null, live: null, firstTime: null, painted: [], delay: null, told: "", listed: "" });
  stage.reset();
  select(null);
  $("preview").hidden = true;
  $("answers").replaceChildren(make("p", "nothing", "Ask about anything that was seen, now or long ago."));
  if (id === null) { history.replaceState(null, "", location.pathname); return; }
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  page.live = new Live(encodeURIComponent(id), { onState, onFrame, onLink });
}

const openSource = guarded(async (source) => {
  document.querySelectorAll("[data-open]").forEach((tile) => { tile.disabled = true; });
  try {
    if (source === "demo") say("Filming the demo clip …");
    let webcam = null;
    if (source === "browser") {
      webcam = new Webcam(null, (why) => say(why, true));
      if (!navigator.mediaDevices) await webcam.start();
    }
    const opened = await postJson("/api/streams", { source });
    page.current = opened.id;
    $("open-dialog").close();
    page.streams = await getJson("/api/streams");
    page.current = null;
    location.hash = encodeURIComponent(opened.id);
    await refreshStreams();
    if (webcam) await lend(webcam, opened.id);
  } finally {
    document.querySelectorAll("[data-open]").forEach((tile) => { tile.disabled = false; });
  }
});

async function lend(webcam, id) {
  webcam.id = encodeURIComponent(id);
  page.webcams.set(id, webcam);
  await webcam.start();
  $("camera").hidden = true;
}

const upload = guarded(async (file) => {
  say(`Sending ${file.name} …`);
  const answer = await call(`/api/files?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
  await openSource((await answer.json()).source);
});

const listFiles = guarded(async (place) => {
  const found = await getJson(`/api/files?path=${encodeURIComponent(place)}`);
  $("place").textContent = `${page.about.root ?? ""}/${place}`;
  const up = place ? [{ name: "..", path: place.split("/").slice(0, -1).join("/"), kind: "folder" }] : [];
  const rows = [...up, ...found].map((each) => {
    const row = make("li"), button = make("button");
    button.append(icon(each.kind === "folder" ? "folder" : "file"), make("span", "", each.name + (each.kind === "images" ? "  (pictures)" : "")));
    button.addEventListener("click", () => (each.kind === "folder" ? listFiles(each.path) : openSource(each.path)));
    row.append(button);
    return row;
  });
  $("files").replaceChildren(...(rows.length ? rows : [make("li", "nothing", "No videos here.")]));
});

// -- the live messages -------------------------------------------------------------------------

function onLink(connected, code) {
  page.link = connected;
  $("banner").hidden = connected;
  if (connected) { refreshStreams().catch(() => {}); return; }
  if (code === 4410 || code === 4404) { $("banner").hidden = true; setTimeout(() => refreshStreams().catch(() => {}), 300); return; }
  $("banner").textContent = code === 4401 ? "Open the address that was printed at the start, with its token" : "Connection lost. Trying again …";
}

async function onFrame(head, blob) {
  if ("preview" in head) return showPreview(head, blob);
  await stage.show(head, blob);
  const now = performance.now();
  page.painted = [...page.painted.filter((t) => now - t < 2000), now];
  if (head.live && head.following) page.delay = Date.now() / 1000 - head.time_s;
  page.firstTime ??= head.live ? head.time_s : 0;
  $("clock").textContent = `${clock(head.time_s - (head.live ? page.firstTime : 0))}  ·  frame ${head.frame}`;
  timeline.moveTo(head.frame);
  updateStates(head);
  $("hint").hidden = head.objects.length > 0 || (page.state?.objects.length ?? 0) > 0;
  return undefined;
}

async function showPreview(head, blob) {
  const one = head.objects.find((each) => each.id === head.preview), canvas = $("preview-picture");
  const bitmap = await createImageBitmap(blob), context = canvas.getContext("2d");
  Object.assign(canvas, { width: 352, height: Math.round((352 * head.height) / head.width) });
  const scale = canvas.width / head.width;
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  if (one?.rle) {
    const { maskOf, outlineOf } = await import("./masks.js");
    context.scale(scale, scale);
    paint(context, { ...one, outline: outlineOf(maskOf(one.rle, head.width, head.height)) }, scale, true);
  }
  $("preview").hidden = false;
  $("preview").lastElementChild.textContent = `${one?.name ?? "object"}, on the frame you saw`;
  page.previewed = performance.now();
}

function onState(state) {
  const before = page.state;
  page.state = state;
  if (!state.behind.length && performance.now() - (page.previewed ?? 0) > 1500) $("preview").hidden = true;
  const { objects, playing, live, following, can } = state;
  if (stage.selected !== null && !objects.some((one) => one.id === stage.selected)) select(null);
  setIcon("play", (live ? following : playing) ? "pause" : "play");
  $("live").hidden = !live;
  $("live").classList.toggle("now", following);
  $("undo").disabled = !can.undo;
  $("redo").disabled = !can.redo;
  $("count").textContent = objects.length || "";
  $("nothing").hidden = objects.length > 0;
  $("detect").textContent = state.detector ? "Stop" : "Start";
  $("everything").classList.toggle("on", Boolean(state.detector));
  drawObjects(objects, state.behind);
  timeline.update(state, stage.selected);
  drawStatus(state);
  drawEvents(state);
  for (const [number, text] of before ? state.notes : []) if (number > page.noted) say(sentence(text), true);
  page.noted = state.notes.at(-1)?.[0] ?? 0;
  if (state.problem && before?.problem !== state.problem) say(sentence(state.problem), true);
  if (state.ended && before && before.ended !== state.ended) say(sentence(state.ended), true);
}

function setIcon(id, name) {
  const use = $(id).querySelector("use");
  if (use.getAttribute("href") !== `#icon-${name}`) use.setAttribute("href", `#icon-${name}`);
}

const chip = (label, value, bad = false) => {
  const item = make("span", bad ? "bad" : "", `${label} `);
  item.append(make("b", "", value));
  return item;
};

function drawStatus(state) {
  const painted = page.painted.filter((t) => performance.now() - t < 2000).length / 2;
  const memory = chip("Memory", `${mega(state.memory)} of ${mega(state.budget)}`), meter = make("span", "meter"), fill = make("i");
  fill.style.width = `${Math.min(100, (100 * state.memory) / state.budget)}%`;
  meter.append(fill);
  memory.append(meter);
  const items = [
    chip(state.live ? "Live" : "File", `${state.name}`),
    ...(state.width ? [chip("Size", `${state.width}×${state.height}`)] : []),
    ...(state.live || state.playing ? [
      chip("In", `${state.fps_in} fps`), chip("Followed", `${state.fps_followed} fps`), chip("Painted", `${painted.toFixed(1)} fps`),
    ] : [chip("Paused", state.frame_count ? `at ${state.shown ?? 0} of ${state.frame_count}` : "")]),
    ...(state.live ? [
      chip("Left out", String(state.dropped), state.came > 40 && state.dropped > state.came / 2),
      chip("Delay", page.delay === null ? "–" : `${Math.round(page.delay * 1000)} ms`, page.delay > 1),
      chip("Reconnects", String(state.reconnects), state.reconnects > 0),
    ] : []),
    memory,
    ...(state.behind.length ? [chip("Catching up", String(state.behind.length))] : []),
  ];
  $("status").replaceChildren(...items);
}
const mega = (bytes) => `${Math.round(bytes / 1048576)} MB`;

// -- objects -----------------------------------------------------------------------------------

function drawObjects(objects, behind) {
  if ($("objects").querySelector("input")) return; // being named
  // Drawn anew only where something differs: a list that is open, or a button under the hand, stays.
  const key = JSON.stringify([objects.map((one) => [one.id, one.name, one.first, one.end, doubtful(one)]), behind, stage.selected]);
  if (key === page.listed) { if (stage.head) updateStates(stage.head); return; }
  page.listed = key;
  $("objects").replaceChildren(...objects.map((one) => objectRow(one, objects, behind)));
  if (stage.head) updateStates(stage.head);
}

function objectRow(one, all, behind) {
  const item = make("li", `object${one.id === stage.selected ? " selected" : ""}`), row = make("div", "row");
  item.dataset.id = one.id;
  const dot = make("span", "dot"), name = make("span", "name", one.name), state = make("span", "chip", "");
  dot.style.background = colourOf(one.id);
  row.append(dot, name, state);
  const acts = make("div", "acts");
  const button = (glyph, text, title, work) => {
    const made = make("button");
    made.title = title;
    made.append(icon(glyph), make("span", "", text));
    made.addEventListener("click", (event) => { event.stopPropagation(); work(); });
    acts.append(made);
  };
  button("pen", "Name", "Name it (F2)", () => rename(one.id));
  const doubt = doubtful(one);
  if (doubt !== null) button("seek", "Last doubt", "Go to where it got unsure or lost", () => act("seek", { frame: doubt }));
  button("trash", "Stop", "Stop following it from the frame shown on (Delete)", () => remove(one.id));
  if (all.length > 1) {
    const merge = make("select");
    merge.title = "The other object becomes part of this one";
    merge.append(new Option("Merge with…", ""), ...all.filter((each) => each.id !== one.id).map((each) => new Option(each.name, each.id)));
    merge.addEventListener("click", (event) => event.stopPropagation());
    merge.addEventListener("change", () => merge.value && act("merge", { object: one.id, other: Number(merge.value) }));
    acts.append(merge);
  }
  item.append(row, acts);
  item.addEventListener("click", () => select(one.id === stage.selected ? null : one.id));
  name.addEventListener("dblclick", (event) => { event.stopPropagation(); rename(one.id); });
  item.dataset.behind = behind.includes(one.id) ? "yes" : "";
  return item;
}

/** The latest frame before the shown one on which it began to be unsure or lost. */
function doubtful(one) {
  const shown = page.state.shown ?? 0;
  const frames = one.events.filter(([, kinds]) => /unsure|lost|left/.test(kinds)).map(([frame]) => frame);
  return frames.filter((frame) => frame < shown).at(-1) ?? frames.at(-1) ?? null;
}

/** What happened, the latest first; each line leads there. */
function drawEvents(state) {
  const all = state.objects.flatMap((one) => one.events.map(([frame, kinds]) => ({ frame, one, what: kinds.split(" ").map((kind) => TOLD[kind] ?? kind).join(", ") })));
  all.push(...state.answers.flatMap(([question, frames]) => frames.map((frame) => ({ frame, what: `answers “${question}”` }))));
  all.sort((a, b) => b.frame - a.frame);
  const latest = all.slice(0, 60), key = JSON.stringify(latest.map(({ frame, one, what }) => [frame, one?.name, what]));
  $("happened").hidden = latest.length === 0;
  if (key === page.told) return;
  page.told = key;
  $("events").replaceChildren(...latest.map(({ frame, one, what }) => {
    const row = make("li"), button = make("button"), dot = make("span", "dot");
    dot.style.background = one ? colourOf(one.id) : "var(--accent)";
    button.append(dot, make("span", "what", one ? `${one.name} ${what}` : what), make("em", "", place(frame)));
    button.title = `Go to frame ${frame}`;
    button.addEventListener("click", () => seek(frame));
    row.append(button);
    return row;
  }));
}

const place = (frame) => (page.state.live ? `frame ${frame}` : clock(frame / (page.state.fps || 30)));

function updateStates(head) {
  const found = new Map(head.objects.map((one) => [one.id, one]));
  for (const item of $("objects").children) {
    const one = found.get(Number(item.dataset.id)), mark = item.querySelector(".chip");
    if (!mark) continue;
    if (item.dataset.behind) { mark.className = "chip behind"; mark.textContent = "catching up"; continue; }
    mark.className = `chip ${one?.state ?? ""}`;
    mark.textContent = !one ? away(Number(item.dataset.id), head.frame) : one.state === "lost" ? "lost" : `${one.state} ${one.score.toFixed(2)}`;
  }
}

function away(id, frame) {
  const one = page.state?.objects.find((each) => each.id === id);
  if (!one) return "not here";
  return frame < one.first ? "not yet" : one.end !== null && frame >= one.end ? "ended" : "not here";
}

function select(id) {
  stage.selected = id;
  stage.draw();
  if (page.state) { drawObjects(page.state.objects, page.state.behind); timeline.update(page.state, id); }
  if (id === null && stage.mode !== "new") stage.setMode("new");
}

function rename(id) {
  showPanel("objects");
  select(id);
  const item = [...$("objects").children].find((each) => Number(each.dataset.id) === id), name = item?.querySelector(".name");
  if (!name) return;
  const input = Object.assign(document.createElement("input"), { value: name.textContent, maxLength: 80 });
  name.replaceWith(input);
  input.focus();
  input.select();
  let done = false;
  const finish = (keep) => {
    if (done) return;
    done = true;
    const text = input.value.trim();
    input.replaceWith(name);
    if (keep && text && text !== name.textContent) { name.textContent = text; act("rename", { object: id, name: text }); }
  };
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") finish(true);
    if (event.key === "Escape") finish(false);
  });
  input.addEventListener("click", (event) => event.stopPropagation());
  input.addEventListener("blur", () => finish(true));
}

const remove = (id, everywhere = false) => act("remove", { object: id, frame: everywhere ? 0 : stage.head?.frame ?? 0 });

// -- pointing ----------------------------------------------------------------------------------

const prompt = guarded(async (said, kind, over) => {
  const frame = stage.head.frame;
  const target = kind === "new" ? null : stage.selected ?? over ?? null;
  if (kind !== "new" && target === null) { say("Select an object first: click on it"); return; }
  const answer = await send("prompt", { frame, ...said, ...(target === null ? {} : { object: target }) });
  page.clicked = performance.now();
  if (target === null) select(answer.object);
  stage.setMode("new");
});

const stage = new Stage({
  onPoint: (x, y, kind, over) => prompt({ points: [[x, y]], labels: [kind === "not" ? 0 : 1] }, kind, over),
  onBox: (box, kind) => (kind === "not" ? say("A box says what it is; click for what it is not") : prompt({ box }, kind, null)),
  onSelect: (id) => select(id),
  onRename: (id) => rename(id),
});

// Of many places that the hand passes over, the newest is gone to.
let seeking = false, wantedFrame = null;
async function seek(frame) {
  wantedFrame = frame;
  if (seeking) return;
  seeking = true;
  while (wantedFrame !== null) {
    const next = wantedFrame;
    wantedFrame = null;
    await act("seek", { frame: next });
  }
  seeking = false;
}
const timeline = new Timeline($("timeline"), seek);

const togglePlay = () => page.state && act((page.state.live ? page.state.following : page.state.playing) ? "pause" : "play");
const step = async (by) => {
  if (!stage.head) return;
  if (page.state?.playing && !page.state.live) await act("pause");
  await seek(Math.max(0, stage.head.frame + by));
};

// -- panels ------------------------------------------------------------------------------------

function showPanel(name) {
  for (const tab of document.querySelectorAll("[data-panel]")) tab.setAttribute("aria-selected", String(tab.dataset.panel === name));
  for (const which of ["objects", "ask", "home"]) $(`panel-${which}`).hidden = which !== name;
}

$("question").addEventListener("submit", guarded(async (event) => {
  event.preventDefault();
  const field = event.target.elements.text, question = field.value.trim(), button = event.target.querySelector("button");
  if (!question) return;
  button.disabled = true;
  const waiting = make("p", "nothing", "Looking …");
  if (!$("answers").querySelector(".answer")) $("answers").replaceChildren();
  $("answers").prepend(waiting);
  try {
    const answer = await postJson(address("/ask"), { question });
    waiting.replaceWith(answerCard(answer));
    field.value = "";
  } catch (error) {
    waiting.remove();
    throw error;
  } finally {
    button.disabled = false;
  }
}));

function answerCard(answer) {
  const card = make("div", "answer");
  card.append(make("q", "", answer.question));
  if (answer.text) card.append(make("p", "", answer.text));
  else {
    const verdict = make("p", "verdict", answer.seen ? "Probably seen" : "Probably not seen"), mark = make("span", "chip guess", "a guess");
    mark.title = answer.guess;
    verdict.append(mark);
    card.append(verdict);
  }
  if (answer.evidence.length) card.append(make("p", "small", answer.text ? "From these moments:" : answer.seen ? "These moments match best:" : "This came nearest:"));
  const cards = make("div", "cards");
  for (const one of answer.seen ? answer.evidence : answer.evidence.slice(0, 1)) {
    const moment = make("button", "card"), caption = make("span");
    moment.title = `Go there: frame ${one.frame}`;
    if (one.picture) moment.append(Object.assign(new Image(), { src: one.picture, alt: "" }));
    caption.append(make("b", "", clock(one.start_s - (page.state?.live ? page.firstTime ?? 0 : 0))), make("em", "", one.score.toFixed(2)));
    moment.append(caption);
    if (one.frame !== null) moment.addEventListener("click", () => seek(one.frame));
    cards.append(moment);
  }
  card.append(cards);
  return card;
}

$("export").addEventListener("click", guarded(async () => {
  const chosen = [...$("formats").querySelectorAll("input:checked")].map((box) => box.value);
  $("export").disabled = true;
  $("export-note").textContent = "Writing …";
  try {
    const answer = await call(address(`/export?formats=${chosen.join(",")}`)), blob = await answer.blob();
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${page.current}.zip` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    $("export-note").textContent = `${page.current}.zip, ${(blob.size / 1e6).toFixed(1)} MB`;
  } catch (error) {
    $("export-note").textContent = "";
    throw error;
  } finally {
    $("export").disabled = false;
  }
}));

$("detect").addEventListener("click", () => act("detect", page.state?.detector ? { on: false } : { on: true, detector: $("detector").value, classes: $("classes").value }));

// -- wiring ------------------------------------------------------------------------------------

for (const tab of document.querySelectorAll("[data-panel]")) tab.addEventListener("click", () => showPanel(tab.dataset.panel));
for (const tile of document.querySelectorAll("[data-open]")) tile.addEventListener("click", () => {
  const what = tile.dataset.open;
  if (what === "file") $("chooser").click();
  else if (what === "other") openDialog();
  else openSource(what);
});
function openDialog() { listFiles(""); $("open-dialog").showModal(); }
$("add").addEventListener("click", openDialog);
$("chooser").addEventListener("change", () => { if ($("chooser").files[0]) upload($("chooser").files[0]); $("chooser").value = ""; });
$("address").addEventListener("submit", (event) => { event.preventDefault(); openSource(event.target.elements.source.value.trim()); });
$("play").addEventListener("click", togglePlay);
$("back").addEventListener("click", () => step(-1));
$("forward").addEventListener("click", () => step(1));
$("live").addEventListener("click", () => act("play"));
$("undo").addEventListener("click", () => act("undo"));
$("redo").addEventListener("click", () => act("redo"));
$("help").addEventListener("click", () => $("keys-dialog").showModal());
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  timeline.draw();
});
if (localStorage.getItem("theme")) document.documentElement.dataset.theme = localStorage.getItem("theme");
for (const [key, what] of KEYS) $("keys").append(make("dt", "", key), make("dd", "", what));

addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || !page.current) return;
  const ids = page.state?.objects.map((one) => one.id) ?? [], digit = Number(event.key);
  const keys = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), n: () => stage.setMode("new"), a: () => stage.setMode("add"), x: () => stage.setMode("not"),
    z: () => act(event.shiftKey ? "redo" : "undo"), y: () => act("redo"), l: () => page.state?.live && act("play"),
    Delete: () => stage.selected !== null && remove(stage.selected, event.shiftKey),
    Backspace: () => stage.selected !== null && remove(stage.selected, event.shiftKey),
    Escape: () => select(null), F2: () => stage.selected !== null && rename(stage.selected), "?": () => $("keys-dialog").showModal(),
    0: () => { Object.assign(stage, { zoom: 1, panX: 0, panY: 0 }); stage.draw(); },
  };
  const work = keys[event.key] ?? keys[event.key.toLowerCase()];
  if (event.key === " ") {
    event.preventDefault();
    if (!event.repeat) { stage.panning = true; stage.panned = false; stage.root.classList.add("panning"); }
  } else if (digit >= 1 && digit <= ids.length) select(ids[digit - 1]);
  else if (work) { event.preventDefault(); work(); }
});
addEventListener("keyup", (event) => {
  if (event.key !== " " || !stage.panning) return;
  stage.panning = false;
  stage.root.classList.remove("panning");
  if (!stage.panned) togglePlay();
});
for (const kind of ["dragenter", "dragover"]) addEventListener(kind, (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
});
addEventListener("hashchange", () => refreshStreams().catch(() => {}));

async function begin() {
  page.about = await getJson("/api/about");
  $("detector").value = page.about.detector;
  $("detectors").replaceChildren(...page.about.detectors.map((word) => new Option(word, word)));
  if (!page.about.can_ask) $("unasked").hidden = false;
  if (!navigator.mediaDevices) $("webcam-note").textContent = "Needs localhost or HTTPS (--certfile)";
  const usual = ["rle", "lasot", "mot", "diary"];
  $("formats").replaceChildren(...page.about.formats.map((name) => {
    const [title, what] = FORMATS[name] ?? [name, ""], row = make("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name, checked: usual.includes(name) });
    row.append(box, make("b", "", title), make("span", "", what));
    return row;
  }));
  await refreshStreams();
}
guarded(begin)();
globalThis.studio = { page, stage, send }; // for scripts that drive the page
