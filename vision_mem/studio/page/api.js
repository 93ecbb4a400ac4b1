// Talking to the server: requests, the live socket that comes back by itself, the webcam.

export async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; it may have been stopped");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(problem.detail || answer.statusText), { status: answer.status });
}

export const getJson = async (path) => (await call(path)).json();

export const postJson = async (path, body) =>
  (await call(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();

const socketAddress = (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;

/** The live messages of a stream. Calls `onState`, `onFrame(head, blob)`, `onLink(connected)`. */
export class Live {
  constructor(id, handlers) {
    this.id = id;
    this.handlers = handlers;
    this.delay = 300;
    this.open();
  }

  open() {
    const socket = new WebSocket(socketAddress(`/api/streams/${this.id}/live`));
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { this.delay = 300; this.handlers.onLink(true); };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") { this.handlers.onState(JSON.parse(data)); return; }
      const length = new DataView(data).getUint32(0, true);
      const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      const blob = new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" });
      this.handlers.onFrame(head, blob).finally(() => {
        if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ ack: head.frame }));
      });
    };
    socket.onclose = ({ code }) => {
      if (this.closed) return;
      this.handlers.onLink(false, code);
      if (code === 4410) return;
      setTimeout(() => this.closed || this.open(), this.delay);
      this.delay = Math.min(this.delay * 1.7, 5000);
    };
  }

  close() {
    this.closed = true;
    this.socket.close();
  }
}

/** Sends pictures of this browser's webcam, the next one when the last has arrived. */
export class Webcam {
  constructor(id, onTrouble) {
    this.id = id;
    this.onTrouble = onTrouble;
  }

  async start(width = 640) {
    if (!navigator.mediaDevices)
      throw new Error("browsers give a camera only to localhost or HTTPS; start with --certfile and --keyfile");
    try {
      this.media = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: width }, facingMode: "environment" } });
    } catch (error) {
      throw new Error(error.name === "NotFoundError" ? "this machine has no camera" : "the camera was not allowed");
    }
    this.video = document.createElement("video");
    Object.assign(this.video, { muted: true, playsInline: true, srcObject: this.media });
    await this.video.play();
    this.canvas = document.createElement("canvas");
    this.connect();
  }

  connect() {
    const socket = new WebSocket(socketAddress(`/api/streams/${this.id}/camera`));
    this.socket = socket;
    socket.onopen = () => this.send();
    socket.onmessage = ({ data }) => {
      if (data !== "ok") this.onTrouble(JSON.parse(data).error);
      this.send();
    };
    socket.onclose = ({ code }) => { if (!this.closed && code !== 4404) setTimeout(() => this.closed || this.connect(), 1000); };
  }

  send() {
    if (this.closed || this.socket.readyState !== WebSocket.OPEN) return;
    const { video, canvas } = this, scale = Math.min(1, 960 / Math.max(video.videoWidth, 1));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    if (!canvas.width) { setTimeout(() => this.send(), 50); return; }
    const since = performance.now() - (this.sent ?? 0);
    if (since < 30) { setTimeout(() => this.send(), 30 - since); return; }
    this.sent = performance.now();
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => blob && this.socket.readyState === WebSocket.OPEN && this.socket.send(blob), "image/jpeg", 0.88);
  }

  close() {
    this.closed = true;
    this.socket?.close();
    this.media?.getTracks().forEach((track) => track.stop());
  }
}
