// The phone: at most one call at a time on the line, remembered over reloads.

import type { Api } from "./api";
import { Call, type CallParts, type Remembered, type Session } from "./call";
import type { Trace } from "./journal";
import type { Line } from "./line";
import type { Settings } from "./settings";
import type { Sound } from "./sound";
import { address } from "./status";

const callKey = "isthmus.call.";
const stale = 30_000; // ms

export interface DemoNumber {
  number: string;
  scenario: string;
  description: string;
}

export class Phone {
  call: Call | undefined;
  onChange: () => void = () => {};
  private readonly parts: CallParts;

  constructor(
    private readonly settings: Settings, private readonly api: Api, private readonly line: Line, private readonly sound: Sound,
    private readonly trace: Trace,
  ) {
    this.parts = { settings, api, sound, trace, iceServers: () => line.iceServers, changed: () => this.changed() };
    line.onEvent = (kind, data, age) => void this.take(kind, data as Partial<Session>, age);
    line.onGap = () => void this.call?.check();
  }

  /** Whether there are demo numbers, and somebody who calls on request. */
  get inDemoNetwork(): boolean { return this.settings.networkUrl !== ""; }

  get inCall(): boolean { return this.call !== undefined && !this.call.over; }

  /** Calls what was dialled; throws an Error for people to read. */
  dial(dialled: string): void {
    if (this.inCall) return;
    const to = address(dialled, this.settings.phoneContext);
    if (!to) throw new Error("This is not a number that can be called. Dial it with + and the country code.");
    if (!this.line.registrationId) throw new Error("The phone is not registered at the moment.");
    this.call = Call.dial(this.parts, this.line.registrationId, `tel:${this.line.number}`, to);
    this.changed();
  }

  /** Takes the ended call off the display. */
  dismiss(): void {
    if (this.inCall) return;
    this.call = undefined;
    this.changed();
  }

  /** Asks the demo network to call this phone. */
  async callMe(): Promise<void> {
    const body = JSON.stringify({ to: this.line.number });
    this.trace({ from: "device", to: "network", title: "POST call (call me)", text: `POST ${new URL(this.settings.networkUrl).pathname}/call\nContent-Type: application/json\n\n${body}` });
    const response = await fetch(`${this.settings.networkUrl}/call`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const text = await response.text();
    this.trace({ from: "network", to: "device", title: `${response.status} ${response.ok ? "calling" : "refused"}`, text, failed: !response.ok });
    if (response.ok) return;
    let why = `HTTP ${response.status}`;
    try {
      why = (JSON.parse(text) as { error?: string }).error ?? why;
    } catch {
      // The status has to do.
    }
    throw new Error(`The network cannot call you: ${why}.`);
  }

  async demoNumbers(): Promise<DemoNumber[]> {
    const response = await fetch(`${this.settings.networkUrl}/numbers`, { cache: "no-store" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return (await response.json()) as DemoNumber[];
  }

  /** Finds the call that was running when the page was reloaded. */
  async restore(): Promise<void> {
    const r = JSON.parse(localStorage.getItem(callKey + this.line.device) ?? "null") as Remembered | null;
    if (!r?.id || this.inCall) return;
    const found = await Call.restore(this.parts, r);
    if (found && !this.inCall) this.call = found;
    this.changed();
  }

  private async take(kind: string, data: Partial<Session>, age: number): Promise<void> {
    if (kind === "session-invitation" && data.mediaSessionId) {
      if (this.call?.id === data.mediaSessionId) return;
      if (age > stale) {
        // It waited while this device was away: does it still ring?
        const url = `${this.settings.callHandlingUrl}/sessions/${data.mediaSessionId}`;
        const now = await this.api.get<Session>(url, { session: data.mediaSessionId }).catch(() => undefined);
        if (!now || !["Initial", "InProgress", "Ringing"].includes(now.status) || this.call?.id === data.mediaSessionId) return;
      }
      if (this.inCall) {
        // One call at a time: the second caller is told at once.
        void this.api.delete(`${this.settings.callHandlingUrl}/sessions/${data.mediaSessionId}`, { session: data.mediaSessionId }).catch(() => undefined);
        return;
      }
      this.call = Call.invited(this.parts, data as Session);
      return this.changed();
    }
    if (kind === "session-status" && this.call && (!this.call.id || this.call.id === data.mediaSessionId)) this.call.take(data);
  }

  private changed(): void {
    const c = this.call;
    const key = callKey + this.line.device;
    if (c && !c.over && c.id) localStorage.setItem(key, JSON.stringify(c.remembered()));
    else if (!c || c.over) localStorage.removeItem(key);
    if (!c || c.over) this.sound.play(c?.outcome === "busy" ? "busy" : undefined);
    else if (c.state === "incoming") this.sound.play("ringing");
    else this.sound.play(c.wantsRingBack ? "ring-back" : undefined);
    this.onChange();
  }
}
