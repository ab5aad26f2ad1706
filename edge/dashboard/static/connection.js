// One WebSocket, kept open; says at once when what is on the page is no longer live.

const SILENCE_MS = 1500;
const TRY_AGAIN_LATER = 1013;

export class Connection {
  // handlers: opened(), message(object), picture(Blob), lost(sentence), refused()
  constructor(handlers) {
    this.handlers = handlers;
    this.wait = 250;
    this.heardAt = 0;
    this.live = false;
    this.open();
    setInterval(() => this.check(), 250);
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    socket.binaryType = "blob";
    this.socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.heardAt = performance.now();
      this.handlers.opened();
    };
    socket.onmessage = (event) => {
      this.heardAt = performance.now();
      this.wait = 250;
      this.live = true;
      if (typeof event.data === "string") this.handlers.message(JSON.parse(event.data));
      else this.handlers.picture(event.data);
    };
    socket.onclose = (event) => {
      if (socket !== this.socket) return;
      this.live = false;
      this.handlers.lost(event.code === TRY_AGAIN_LATER ? `Not connected: ${event.reason}.` : "Connection lost.");
      if (!opened) this.handlers.refused();
      setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 2, 4000);
    };
  }

  // A link that died without a word (radio out of reach, machine off) is noticed by its silence.
  check() {
    if (this.live && performance.now() - this.heardAt > SILENCE_MS) {
      this.live = false;
      this.handlers.lost("Connection lost.");
      const dead = this.socket;
      this.socket = null;
      dead.close();
      setTimeout(() => this.open(), this.wait);
    }
  }
}
