// Server-sent events read by fetch, because EventSource cannot send a token.

export interface Message {
  id: string;
  event: string;
  data: string;
}

export interface StreamOptions {
  url: string;
  token: (renew: boolean) => Promise<string>;
  /** Where to resume; kept up to date. */
  lastEventId?: string;
  onMessage: (m: Message) => void;
  onOpen?: () => void;
  /** The connection broke and will be tried again. */
  onDown?: (why: string) => void;
  /** The stream is over for good: HTTP 403, 404 or 410. */
  onGone?: (status: number) => void;
}

const firstPause = 500; // ms
const longestPause = 15_000; // ms
const silence = 60_000; // ms without a byte: a connection that died unnoticed

export class EventStream {
  lastEventId: string;
  private stopped = false;
  private abort = new AbortController();
  private wake: () => void = () => {};

  constructor(private readonly o: StreamOptions) {
    this.lastEventId = o.lastEventId ?? "";
  }

  /** Connects, and connects again, until close. */
  async run(): Promise<void> {
    let pause = firstPause;
    let renew = false;
    const hurry = () => this.wake();
    window.addEventListener("online", hurry);
    document.addEventListener("visibilitychange", hurry);
    while (!this.stopped) {
      try {
        const status = await this.connect(renew, () => (pause = firstPause));
        renew = status === 401;
        if (status === 403 || status === 404 || status === 410) {
          this.o.onGone?.(status);
          break;
        }
        this.o.onDown?.(status === 200 ? "the connection ended" : `HTTP ${status}`);
      } catch (e) {
        renew = false;
        if (!this.stopped) this.o.onDown?.(e instanceof Error ? e.message : String(e));
      }
      if (this.stopped) break;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, pause * (0.75 + Math.random() / 2));
      });
      pause = Math.min(pause * 2, longestPause);
    }
    window.removeEventListener("online", hurry);
    document.removeEventListener("visibilitychange", hurry);
  }

  close(): void {
    this.stopped = true;
    this.abort.abort();
    this.wake();
  }

  private async connect(renew: boolean, alive: () => void): Promise<number> {
    this.abort = new AbortController();
    if (this.stopped) return 0;
    const headers: Record<string, string> = { Accept: "text/event-stream", Authorization: `Bearer ${await this.o.token(renew)}` };
    if (this.lastEventId) headers["Last-Event-ID"] = this.lastEventId;
    let watchdog = 0;
    const watch = () => {
      clearTimeout(watchdog);
      watchdog = window.setTimeout(() => this.abort.abort(new Error("the connection fell silent")), silence);
    };
    watch();
    try {
      const response = await fetch(this.o.url, { headers, cache: "no-store", signal: this.abort.signal });
      if (response.status !== 200 || !response.body) return response.status;
      this.o.onOpen?.();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parse = parser((m) => {
        if (m.id) this.lastEventId = m.id;
        this.o.onMessage(m);
      });
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return 200;
        alive();
        watch();
        parse(value);
      }
    } finally {
      clearTimeout(watchdog);
    }
  }
}

/** Parses text/event-stream as it comes in, in pieces of any size. */
export function parser(emit: (m: Message) => void): (chunk: string) => void {
  let rest = "";
  let m: Message = { id: "", event: "", data: "" };
  let lines: string[] = [];
  return (chunk) => {
    rest += chunk;
    for (;;) {
      const end = /\r\n|\n|\r(?!$)/.exec(rest);
      if (!end) return;
      const line = rest.slice(0, end.index);
      rest = rest.slice(end.index + end[0].length);
      if (line === "") {
        if (lines.length) emit({ ...m, data: lines.join("\n") });
        m = { id: "", event: "", data: "" };
        lines = [];
        continue;
      }
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "data") lines.push(value);
      else if (name === "id") m.id = value;
      else if (name === "event") m.event = value;
    }
  };
}
