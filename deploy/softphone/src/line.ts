// The line of this device: an open relay channel, a subscription to its events
// and a registration, all three kept alive, and found again after a reload.
//
//   offline --start--> connecting --> registered <--> reconnecting
//                          |              |
//                          +--> failed <--+   (tried again, ever more slowly)

import { ApiError, explain, type Api } from "./api";
import { deviceId } from "./device";
import { EventStream, type Message } from "./eventstream";
import type { Trace } from "./journal";
import type { Login } from "./oauth";
import { closeChannel, openChannel, renewCredential, type Channel } from "./relay";
import type { Settings } from "./settings";

export type LineState = "offline" | "connecting" | "registered" | "reconnecting" | "failed";

export interface CloudEvent {
  id: string;
  type: string;
  time: string;
  data: Record<string, unknown>;
}

interface Registration {
  registrationId: string;
  expiresAt: string;
  regInfo?: { phoneNumber?: string };
}

interface Subscription {
  id: string;
  expiresAt?: string;
  startsAt?: string;
  status?: string;
}

/** What is kept for a reload. */
interface Saved {
  deviceId: string;
  number: string;
  registrationId: string;
  subscriptionId: string;
  /** Whether the subscription has the channel's present credential. */
  told: boolean;
  channel?: Channel;
  lastEventId: string;
}

// In localStorage, for the device and not for the tab: a tab that is closed
// without logging out leaves a channel, a subscription and a registration behind,
// which the next one takes up.
const savedKey = "isthmus.line.";
const prefix = "org.camaraproject.webrtc-events-subscriptions.v0.";
const types = ["session-status", "session-invitation", "registration-ends"].map((t) => prefix + t);

export class Line {
  state: LineState = "offline";
  problem = "";
  number = "";
  onChange: () => void = () => {};
  /** Events may have been missed: what is known should be asked for again. */
  onGap: () => void = () => {};
  /** Told of every notification as it came, before onEvent. */
  onNotification: (kind: string, event: CloudEvent) => void = () => {};
  /** Told of every notification; age is in milliseconds. */
  onEvent: (kind: string, data: Record<string, unknown>, age: number) => void = () => {};

  private saved: Saved | undefined;
  private stream: EventStream | undefined; // the one of the present channel
  private readonly streams = new Set<EventStream>();
  private timers = new Map<string, number>();
  private running = false;
  private settingUp: Promise<void> | undefined;
  private retryPause = 1000;
  private readonly seen: string[] = [];

  constructor(
    private readonly settings: Settings, private readonly api: Api, private readonly login: Login, private readonly trace: Trace,
  ) {
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.catchUp();
    });
  }

  /** The device's id, empty before start. */
  get device(): string { return this.saved?.deviceId ?? ""; }
  get iceServers(): RTCIceServer[] { return [...this.settings.iceServers, ...(this.saved?.channel?.iceServers ?? [])]; }
  get registrationId(): string { return this.saved?.registrationId ?? ""; }

  async start(): Promise<void> {
    this.running = true;
    this.number = this.login.number;
    const device = await deviceId(this.login.number);
    const kept = JSON.parse(localStorage.getItem(savedKey + device) ?? "null") as Saved | null;
    this.saved = kept && kept.deviceId === device && kept.number === this.login.number ? kept : {
      deviceId: device, number: this.login.number, registrationId: "", subscriptionId: "", told: false, lastEventId: "",
    };
    await this.setUp();
  }

  /** De-registers and takes everything down, as far as the gateway lets us. */
  async stop(): Promise<void> {
    this.running = false;
    for (const t of this.timers.values()) clearTimeout(t);
    this.timers.clear();
    const s = this.saved;
    this.saved = undefined;
    if (s) {
      localStorage.removeItem(savedKey + s.deviceId);
      const quietly = (p: Promise<void>) => p.catch(() => undefined);
      if (s.registrationId) await quietly(this.api.delete(`${this.settings.registrationUrl}/sessions/${s.registrationId}`));
      if (s.subscriptionId) await quietly(this.api.delete(`${this.settings.eventsUrl}/subscriptions/${s.subscriptionId}`));
      if (s.channel) await quietly(closeChannel(this.api, s.channel));
    }
    for (const stream of this.streams) stream.close();
    this.stream = undefined;
    this.set("offline");
  }

  /** Brings up whatever is missing; once at a time. */
  private setUp(): Promise<void> {
    this.settingUp ??= this.tryUp().finally(() => (this.settingUp = undefined));
    return this.settingUp;
  }

  private async tryUp(): Promise<void> {
    if (this.state !== "registered") this.set(this.state === "reconnecting" ? "reconnecting" : "connecting");
    try {
      await this.bringStream();
      await this.bringSubscription();
      await this.bringRegistration();
      if (!this.running) return;
      this.retryPause = 1000;
      this.set("registered");
    } catch (e) {
      if (!this.running || !this.login.signedIn) return;
      this.set("failed", explain(e));
      this.after("retry", this.retryPause, () => void this.setUp());
      this.retryPause = Math.min(this.retryPause * 2, 60_000);
    }
  }

  private async bringStream(): Promise<void> {
    const s = this.saved!;
    if (s.channel && expired(s.channel) && !(await this.renewed())) delete s.channel;
    if (this.stream && s.channel) return;
    if (s.channel && (await this.listen(s.channel, s.lastEventId))) return;
    const former = this.stream;
    const gap = s.lastEventId !== "" || this.state === "reconnecting";
    s.channel = await openChannel(this.api, this.settings.relayUrl);
    s.subscriptionId = "";
    s.lastEventId = "";
    this.save();
    if (!(await this.listen(s.channel, ""))) throw new ApiError(404, "NOT_FOUND", "The relay does not know the channel that it has just opened.");
    former?.close();
    if (gap) this.onGap();
  }

  /** Reads the channel; false when the relay does not have it any more. */
  private listen(channel: Channel, lastEventId: string): Promise<boolean> {
    return new Promise((resolve) => {
      const stream = new EventStream({
        url: channel.streamUrl,
        token: (renew) => this.login.token(renew),
        lastEventId,
        onOpen: () => {
          this.stream = stream;
          resolve(true);
          if (this.state === "reconnecting") this.set("registered");
          this.trace({ from: "gateway", to: "device", title: "event stream open", text: `GET ${new URL(channel.streamUrl).pathname}\n\n200 OK, text/event-stream` });
        },
        onMessage: (m) => this.take(m, stream),
        onDown: (why) => {
          if (this.state === "registered") this.set("reconnecting", `The connection to the gateway broke (${why}).`);
        },
        onGone: () => {
          resolve(false);
          if (this.stream !== stream) return;
          this.stream = undefined;
          if (this.running) this.set("reconnecting", "The gateway has closed the event stream.");
          if (this.running) void this.setUp();
        },
      });
      this.streams.add(stream);
      void stream.run().finally(() => {
        this.streams.delete(stream);
        resolve(false);
      });
    });
  }

  private async bringSubscription(): Promise<void> {
    const s = this.saved!;
    const url = `${this.settings.eventsUrl}/subscriptions`;
    let sub = s.subscriptionId ? await this.api.get<Subscription>(`${url}/${s.subscriptionId}`).catch(ifGone) : undefined;
    if (sub && !s.told) sub = await this.api.put<Subscription>(`${url}/${sub.id}`, { sinkCredential: s.channel!.sinkCredential }).catch(ifGone);
    sub ??= await this.api.post<Subscription>(url, {
      protocol: "HTTP",
      sink: s.channel!.sinkUrl,
      sinkCredential: s.channel!.sinkCredential,
      types,
      config: { subscriptionDetail: { deviceId: s.deviceId } },
    });
    s.subscriptionId = sub.id;
    s.told = true;
    this.save();
    this.planSubscription(sub, Date.parse(sub.expiresAt ?? "") - Date.now());
  }

  private async bringRegistration(): Promise<void> {
    const s = this.saved!;
    const url = `${this.settings.registrationUrl}/sessions`;
    let reg = s.registrationId ? await this.api.get<Registration>(`${url}/${s.registrationId}`).catch(ifGone) : undefined;
    reg ??= await this.api.post<Registration>(url, { deviceId: s.deviceId }).catch(async (e: unknown) => {
      // The device is registered already, by a page that did not log out.
      if (!(e instanceof ApiError) || e.status !== 409) throw e;
      const [mine] = await this.api.get<Registration[]>(`${url}?deviceId=${s.deviceId}`);
      if (!mine) throw e;
      return mine;
    });
    s.registrationId = reg.registrationId;
    this.number = reg.regInfo?.phoneNumber ?? this.number;
    this.save();
    this.planRegistration(reg);
  }

  private planRegistration(reg: Registration): void {
    this.after("registration", refreshIn(reg.expiresAt), async () => {
      const next = await this.api.put<Registration>(`${this.settings.registrationUrl}/sessions/${reg.registrationId}`, {});
      this.planRegistration(next);
    }, () => (this.saved!.registrationId = ""));
  }

  /** Keeps the subscription for as long again as it was granted first. */
  private planSubscription(sub: Subscription, life: number): void {
    const s = this.saved!;
    const url = `${this.settings.eventsUrl}/subscriptions/${sub.id}`;
    if (sub.expiresAt) {
      this.after("subscription", refreshIn(sub.expiresAt), async () => {
        this.planSubscription(await this.api.put<Subscription>(url, {
          config: { subscriptionExpireTime: new Date(Date.now() + life).toISOString() },
        }), life);
      }, () => (s.subscriptionId = ""));
    }
    this.after("credential", refreshIn(s.channel!.sinkCredential.accessTokenExpiresUtc), async () => {
      if (!(await this.renewed())) return this.replace();
      this.planSubscription(await this.api.put<Subscription>(url, { sinkCredential: s.channel!.sinkCredential }), life);
      s.told = true;
      this.save();
    }, () => (s.subscriptionId = ""));
  }

  /** Gets a new credential for the sink; false if the relay gives none. */
  private async renewed(): Promise<boolean> {
    const s = this.saved!;
    try {
      s.channel = await renewCredential(this.api, s.channel!);
      s.told = false;
    } catch (e) {
      if (e instanceof ApiError && [404, 405, 410, 501].includes(e.status)) return false;
      throw e;
    }
    this.save();
    return true;
  }

  /** Moves to a new channel with a new subscription. The old ones stay until
   * then, so that nothing is missed. */
  private async replace(): Promise<void> {
    const s = this.saved!;
    const { subscriptionId, channel } = s;
    const stream = this.stream;
    this.stream = undefined;
    delete s.channel;
    await this.setUp();
    if (this.state !== "registered") return; // tried again; the old ones expire
    await this.api.delete(`${this.settings.eventsUrl}/subscriptions/${subscriptionId}`).catch(() => undefined);
    stream?.close();
    if (channel) await closeChannel(this.api, channel).catch(() => undefined);
  }

  /** Runs a refresh after a while. What is gone is made anew; what fails is
   * tried again. */
  private after(name: string, ms: number, run: () => Promise<void> | void, gone?: () => void): void {
    clearTimeout(this.timers.get(name));
    const due = Date.now() + ms;
    const fire = async () => {
      if (!this.running) return;
      // Timers are clamped to what setTimeout can carry.
      if (Date.now() < due - 50) return void this.timers.set(name, window.setTimeout(fire, Math.min(due - Date.now(), 2 ** 30)));
      try {
        await run();
      } catch (e) {
        if (!this.running || !this.login.signedIn) return;
        if (e instanceof ApiError && e.gone && gone) {
          gone();
          return void this.setUp();
        }
        this.after(name, 10_000, run, gone);
      }
    };
    this.timers.set(name, window.setTimeout(fire, Math.min(ms, 2 ** 30)));
  }

  /** After a sleep of the device, timers are late and things may be gone. */
  private catchUp(): void {
    if (this.running && this.state === "failed") void this.setUp();
  }

  private take(m: Message, stream: EventStream): void {
    if (this.saved && this.stream === stream) {
      this.saved.lastEventId = stream.lastEventId;
      this.save();
    }
    if (!m.data || !this.running) return;
    let event: CloudEvent;
    try {
      event = JSON.parse(m.data) as CloudEvent;
    } catch {
      return;
    }
    if (!event.type || this.seen.includes(event.id)) return; // told twice
    this.seen.push(event.id);
    if (this.seen.length > 200) this.seen.shift();
    const kind = event.type.slice(event.type.lastIndexOf(".") + 1);
    event.data ??= {};
    this.onNotification(kind, event);
    this.onEvent(kind, event.data, Date.now() - Date.parse(event.time));
    if (kind === "registration-ends" && event.data["registrationId"] === this.saved?.registrationId) {
      this.saved!.registrationId = "";
      void this.again();
    }
    if (kind === "subscription-ended" && event.data["subscriptionId"] === this.saved?.subscriptionId) {
      this.saved!.subscriptionId = "";
      void this.again();
    }
  }

  private async again(): Promise<void> {
    await this.settingUp;
    if (!this.running) return;
    this.set("connecting");
    await this.setUp();
  }

  private set(state: LineState, problem = ""): void {
    this.state = state;
    this.problem = problem;
    this.onChange();
  }

  private save(): void {
    if (this.saved) localStorage.setItem(savedKey + this.saved.deviceId, JSON.stringify(this.saved));
  }
}

/** Refresh two minutes early; what lives shortly, after half of its life. */
function refreshIn(expires: string): number {
  const left = Date.parse(expires) - Date.now();
  if (Number.isNaN(left)) return 600_000;
  return Math.max(1000, left > 300_000 ? left - Math.max(120_000, left / 10) : left / 2);
}

function expired(c: Channel): boolean {
  return Date.parse(c.sinkCredential.accessTokenExpiresUtc) < Date.now() + 2000;
}

function ifGone(e: unknown): undefined {
  if (e instanceof ApiError && e.gone) return undefined;
  throw e;
}
