// The journal of messages and milestones behind the ladder: what this page sends
// and sees, merged with the gateway's feed. It knows nothing of the DOM.

export type Actor = "device" | "gateway" | "oauth" | "network" | "media";

export const actors: readonly Actor[] = ["device", "gateway", "oauth", "network", "media"];

export interface Entry {
  /** Milliseconds of this page's clock. */
  time: number;
  from: Actor;
  to: Actor;
  title: string;
  text: string;
  callId: string;
  sipCallId: string;
  mediaSession: string;
  /** Where it comes from: this page, or the gateway's feed. */
  own: boolean;
  failed: boolean;
  /** Names the message, so that its copy from the other source is recognised. */
  key: string;
}

/** What a part of the page reports of itself. */
export interface Report {
  from: Actor;
  to: Actor;
  title: string;
  text?: string;
  session?: string;
  key?: string;
  failed?: boolean;
}

export type Trace = (r: Report, time?: number) => void;

/** An entry as the gateway's feed has it. */
export interface FeedEntry {
  id: string;
  time: string;
  from: Actor;
  to: Actor;
  callId?: string;
  sipCallId?: string;
  mediaSession?: string;
  title: string;
  text?: string;
}

export interface JournalEvents {
  added(entry: Entry, index: number): void;
  changed(entry: Entry): void;
  removed(entry: Entry): void;
  cleared(): void;
}

const limit = 800;

export class Journal {
  readonly entries: Entry[] = [];
  private readonly sessions = new Map<string, string>(); // call id -> media session
  private readonly fed = new Set<string>();
  private skew: number | undefined;

  constructor(private readonly events: JournalEvents) {}

  /** Adds what this page itself did or saw. */
  report(r: Report, time = Date.now()): void {
    const key = r.key ?? "";
    if (key) {
      const copy = this.entries.find((e) => !e.own && e.key === key);
      if (copy) this.drop(copy);
    }
    // Of a request that makes a session, the answer tells which.
    const request = r.session && key.startsWith("response ") && this.entries.find((e) => e.own && e.key === key.replace("response", "request"));
    if (request && !request.mediaSession) {
      request.mediaSession = r.session!;
      this.events.changed(request);
    }
    this.insert({
      time, from: r.from, to: r.to, title: r.title, text: r.text ?? "", key, own: true, failed: r.failed ?? false,
      callId: "", sipCallId: "", mediaSession: r.session ?? "",
    });
  }

  /** Adds an entry of the gateway's feed, unless the page has it itself. */
  feed(f: FeedEntry): void {
    if (this.fed.has(f.id)) return;
    this.fed.add(f.id);
    const text = f.text ?? "";
    const entry: Entry = {
      time: this.localTime(Date.parse(f.time)), from: f.from, to: f.to, title: f.title, text, own: false,
      failed: /^(4\d\d|5\d\d|6\d\d) /.test(f.title), callId: f.callId ?? "", sipCallId: f.sipCallId ?? "",
      mediaSession: f.mediaSession ?? "", key: "",
    };
    if (entry.callId && entry.mediaSession && !this.sessions.has(entry.callId)) {
      this.sessions.set(entry.callId, entry.mediaSession);
      for (const e of this.entries) if (e.callId === entry.callId) this.events.changed(e);
    }
    if (entry.from === "device" || entry.to === "device") {
      entry.key = messageKey(entry.from, text);
      if (this.entries.some((own) => own.own && sameMessage(own, entry))) return;
    }
    this.insert(entry);
  }

  clear(): void {
    this.entries.length = 0;
    this.events.cleared();
  }

  /** The media session or, failing that, the call that an entry belongs to. */
  callOf(e: Entry): string {
    return e.mediaSession || this.sessions.get(e.callId) || e.callId;
  }

  /** The gateway's clock may differ from this device's: then it is shifted so
   * that no message arrives before it was sent. */
  private localTime(t: number): number {
    if (Number.isNaN(t)) return Date.now();
    const ahead = t - Date.now();
    if (ahead > 50 && (this.skew === undefined || ahead > this.skew)) this.skew = ahead;
    return t - (this.skew ?? 0);
  }

  private insert(e: Entry): void {
    let i = this.entries.length;
    while (i > 0 && this.entries[i - 1]!.time > e.time) i--;
    this.entries.splice(i, 0, e);
    this.events.added(e, i);
    if (this.entries.length > limit) this.drop(this.entries[0]!);
  }

  private drop(e: Entry): void {
    const i = this.entries.indexOf(e);
    if (i >= 0) this.entries.splice(i, 1);
    this.events.removed(e);
  }
}

/** The key of an API message is its x-correlator with its direction, that of a
 * notification the id of its CloudEvent. */
export function messageKey(from: Actor, text: string): string {
  const event = /"specversion"/.test(text) && /"id"\s*:\s*"([^"]+)"/.exec(text);
  if (event) return `event ${event[1]}`;
  const correlator = /^x-correlator:[ \t]*(\S+)/im.exec(text);
  return correlator ? `${from === "device" ? "request" : "response"} ${correlator[1]}` : "";
}

function sameMessage(own: Entry, fed: Entry): boolean {
  if (own.key && fed.key) return own.key === fed.key;
  // A feed without keys: the same thing said at the same time, the same way.
  return own.from === fed.from && own.to === fed.to && Math.abs(own.time - fed.time) < 1500 &&
    own.title.split(" ")[0] === fed.title.split(" ")[0];
}

/** Shows a secret by its ends only. */
export function shorten(secret: string): string {
  return secret.length > 24 ? `${secret.slice(0, 10)}…${secret.slice(-4)}` : "…";
}

const secrets = /^(access_?token|refresh_?token|id_?token|code|code_?verifier)$/i;

/** Writes JSON for people: indented, secrets shortened, SDP as lines. */
export function prettyJson(value: unknown): string {
  const text = JSON.stringify(value, (name, v) => (typeof v === "string" && secrets.test(name) ? shorten(v) : v), 2);
  return text.replace(/^( *)"sdp": "(.*)"(,?)$/gm, (_, indent: string, sdp: string, comma: string) => {
    const lines = sdp.replace(/(\\r\\n|\\n)$/, "").split(/\\r\\n|\\n/);
    return `${indent}"sdp":\n${lines.map((l) => `${indent}  ${l.replace(/\\(["\\/])/g, "$1")}`).join("\n")}${comma}`;
  });
}
