// One call of this device: its media session at the gateway and its WebRTC
// association, kept in step. Outgoing, incoming, or found again after a reload.

import { ApiError, explain, type Api } from "./api";
import type { Report, Trace } from "./journal";
import { Peer } from "./peer";
import type { Settings } from "./settings";
import { loudness, type Sound } from "./sound";
import { display, isFinal, outcomeOf, type CallState, type Outcome, type Status } from "./status";

const listenEvery = 150; // ms

interface Description { sdp: string }

/** MediaSessionResponse, and the data of the session events. */
export interface Session {
  mediaSessionId: string;
  originatorAddress: string;
  receiverAddress: string;
  originatorName?: string;
  receiverName?: string;
  status: Status;
  offer?: Description;
  answer?: Description;
  reason?: string;
}

/** What finds the call again after a reload. */
export interface Remembered {
  id: string;
  incoming: boolean;
  peer: string;
  peerName: string;
  startedAt: number;
  held: boolean;
  muted: boolean;
}

export interface CallParts {
  settings: Settings;
  api: Api;
  sound: Sound;
  trace: Trace;
  iceServers: () => RTCIceServer[];
  /** Something to show has changed. */
  changed: () => void;
}

export class Call {
  id = "";
  state: CallState;
  status: Status = "Initial";
  outcome: Outcome = "ended";
  reason = "";
  /** A problem that does not end the call. */
  notice = "";
  muted = false;
  /** When it was connected, milliseconds; 0 before. */
  startedAt = 0;
  busy = false; // a hold or resume is under way
  localLevel: () => number = () => 0;
  remoteLevel = 0;
  remote: MediaStream | undefined;

  private peer: Peer | undefined;
  private track: MediaStreamTrack | undefined;
  private heldHere = false;
  private heldThere = false;
  private hearing = false;
  private pending: Partial<Session>[] = []; // events that come before the id is known
  private statistics = 0;
  private hungUp = false;
  private milestones: [Report, number][] = [];
  private resumedAt = 0; // when this side last asked for it

  private constructor(private readonly parts: CallParts, readonly incoming: boolean, readonly address: string, readonly peerName: string, state: CallState) {
    this.state = state;
  }

  get peerText(): string { return display(this.address); }
  get over(): boolean { return this.state === "ended"; }
  get answered(): boolean { return this.state === "connected" || this.state === "held" || this.state === "remote-held"; }
  get held(): boolean { return this.heldHere; }

  /** Whether this side should play a ring-back tone: it rings, and nothing is
   * heard from there. */
  get wantsRingBack(): boolean { return this.state === "ringing" && !this.hearing; }

  remembered(): Remembered {
    return { id: this.id, incoming: this.incoming, peer: this.address, peerName: this.peerName, startedAt: this.startedAt, held: this.heldHere, muted: this.muted };
  }

  /** Calls an address. */
  static dial(parts: CallParts, registrationId: string, originator: string, receiver: string): Call {
    const call = new Call(parts, false, receiver, "", "dialing");
    void call.originate(registrationId, originator).catch((e: unknown) => call.fail(explain(e)));
    return call;
  }

  /** Takes up an invitation: it rings, and media are made ready meanwhile. */
  static invited(parts: CallParts, s: Session): Call {
    const call = new Call(parts, true, s.originatorAddress, s.originatorName ?? "", "incoming");
    call.id = s.mediaSessionId;
    void call.prepare(s).catch((e: unknown) => void call.broken(e));
    return call;
  }

  /** Finds the call of an earlier page again; undefined when it is over. */
  static async restore(parts: CallParts, r: Remembered): Promise<Call | undefined> {
    const url = `${parts.settings.callHandlingUrl}/sessions/${r.id}`;
    const s = await parts.api.get<Session>(url, { session: r.id }).catch(() => undefined);
    if (!s || isFinal(s.status)) return undefined;
    const call = new Call(parts, r.incoming, r.peer, r.peerName, "restoring");
    call.id = r.id;
    call.startedAt = r.startedAt;
    call.muted = r.muted;
    call.heldHere = r.held && s.status === "Hold";
    call.heldThere = !r.held && s.status === "Hold";
    void call.rejoin(s).catch((e: unknown) => void call.broken(e));
    return call;
  }

  // What the user does.

  async answer(): Promise<void> {
    if (this.state !== "incoming") return;
    this.set("answering");
    try {
      await this.openMicrophone();
      await this.ready;
      await this.peer?.send(this.track ?? null);
      const s = await this.putStatus("Connected");
      if (!this.over) await this.connected(s);
    } catch (e) {
      void this.broken(e);
    }
  }

  /** Hangs up, cancels or declines: what the state asks for. */
  async hangUp(): Promise<void> {
    if (this.over) return;
    const wasRinging = this.state === "incoming" || this.state === "answering";
    this.hungUp = true;
    this.end(wasRinging ? "declined" : this.answered || this.state === "restoring" ? "ended" : "cancelled");
    if (!this.id) return; // the answer to POST is awaited: originate deletes it
    await this.parts.api.delete(this.url, { session: this.id, keepalive: true }).catch((e: unknown) => {
      this.notice = explain(e);
      this.parts.changed();
    });
  }

  mute(on: boolean): void {
    this.muted = on;
    this.applyMute();
    this.parts.changed();
  }

  async hold(): Promise<void> {
    await this.changeHold(true);
  }

  async resume(): Promise<void> {
    await this.changeHold(false);
  }

  key(digit: string): void {
    this.parts.sound.key(digit);
    const ok = this.peer?.dtmf(digit) ?? false;
    this.note({ from: "device", to: "media", title: ok ? `DTMF ${digit}` : `DTMF ${digit}: the far end takes none`, failed: !ok });
  }

  // What the gateway tells.

  /** Takes a session-status event. */
  take(s: Partial<Session>): void {
    if (!this.id) return void this.pending.push(s);
    void this.follow(s).catch((e: unknown) => void this.broken(e));
  }

  private async follow(s: Partial<Session>): Promise<void> {
    if (this.over || !s.status) return;
    const status = s.status;
    this.status = status;
    if (isFinal(status)) {
      this.reason = s.reason ?? "";
      return this.end(outcomeOf(status, this.reason, this.incoming && !this.answered));
    }
    const offer = s.offer?.sdp;
    if (offer && this.peer && !this.peer.isOwn(offer) && !this.peer.isKnown(offer)) await this.answerOffer(status, offer);
    switch (status) {
      case "Proceeding": return this.progress("forwarded", s);
      case "Waiting": return this.progress("waiting", s);
      case "Ringing": return this.progress("ringing", s);
      case "InProgress": return this.progress(s.answer || this.hearing ? "early-media" : "ringing", s);
      case "Connected":
        if (this.incoming && !this.answered) return; // told by the answer to our PUT
        if (!this.answered) return this.connected(s);
        this.heldThere = false;
        await this.accept(s, true);
        return this.showHold();
      case "Hold":
        if (!this.heldHere && !this.busy) this.heldThere = true;
        await this.accept(s, true);
        return this.showHold();
      case "Resume":
        // Our own resuming is told as well; it says nothing of theirs.
        if (Date.now() - this.resumedAt > 5000) this.heldThere = false;
        this.resumedAt = 0;
        await this.accept(s, true);
        return this.showHold();
    }
  }

  // The steps.

  private async originate(registrationId: string, originator: string): Promise<void> {
    await this.openMicrophone();
    const offer = await this.makePeer().offer("sendrecv", this.track);
    if (this.over) return;
    const s = await this.parts.api.post<Session>(`${this.parts.settings.callHandlingUrl}/sessions`, {
      originatorAddress: originator, receiverAddress: this.address, offer: { sdp: offer },
    }, { headers: { registrationId }, sessionOf: (a) => (a as Partial<Session> | undefined)?.mediaSessionId });
    this.id = s.mediaSessionId;
    for (const m of this.milestones.splice(0)) this.note(...m);
    if (this.hungUp) return void this.parts.api.delete(this.url, { session: this.id }).catch(() => undefined);
    this.parts.changed();
    for (const early of this.pending.splice(0)) if (early.mediaSessionId === this.id) await this.follow(early);
  }

  private ready: Promise<void> = Promise.resolve();

  private prepare(s: Session): Promise<void> {
    const prepare = async () => {
      if (s.offer) {
        const answer = await this.makePeer().answerTo(s.offer.sdp, "sendrecv");
        if (!this.over) await this.putStatus("InProgress", { answer: { sdp: answer } });
      } else {
        // The caller sent no offer: ours goes out.
        const offer = await this.makePeer().offer("sendrecv");
        const now = this.over ? undefined : await this.putStatus("InProgress", { offer: { sdp: offer } });
        await this.peer?.accept(now?.answer?.sdp, true);
      }
      if (this.state === "incoming") await this.putStatus("Ringing");
    };
    return (this.ready = prepare());
  }

  /** A new association for a call that goes on: this page has none of it. */
  private async rejoin(s: Session): Promise<void> {
    this.status = s.status;
    if (this.incoming && (s.status === "Initial" || s.status === "InProgress" || s.status === "Ringing")) {
      if (!s.offer) throw new Error("The call has no offer to answer.");
      this.set("incoming");
      const answer = await this.makePeer().answerTo(s.offer.sdp, "sendrecv");
      await this.putStatus(s.status === "Initial" ? "InProgress" : s.status, { answer: { sdp: answer } });
      if (this.state === "incoming" && s.status !== "Ringing") await this.putStatus("Ringing");
      return;
    }
    await this.openMicrophone();
    const early = !["Connected", "Hold", "Resume"].includes(s.status);
    const offer = await this.makePeer().offer(this.heldHere ? "sendonly" : "sendrecv", this.track);
    this.applyMute();
    const status: Status = early ? "InProgress" : s.status === "Hold" && this.heldHere ? "Hold" : "Connected";
    const now = await this.putStatus(status, { offer: { sdp: offer } });
    if (this.over) return;
    if (early) {
      await this.accept(now ?? {}, false);
      this.set(s.status === "Ringing" ? "ringing" : s.status === "InProgress" ? "early-media" : "dialing");
      return;
    }
    this.startedAt ||= Date.now();
    await this.accept(now ?? {}, true);
    this.showHold();
  }

  private async progress(state: CallState, s: Partial<Session>): Promise<void> {
    if (this.answered || this.incoming) return;
    this.set(state);
    await this.accept(s, false);
  }

  private async connected(s: Partial<Session> | undefined): Promise<void> {
    this.startedAt ||= Date.now();
    this.showHold();
    await this.accept(s ?? {}, true);
  }

  /** Takes the answer in a message, if there is one and it is for us. */
  private async accept(s: Partial<Session>, final: boolean): Promise<void> {
    const sdp = s.answer?.sdp;
    if (this.incoming && sdp && this.peer?.isOwn(sdp)) return; // our own, repeated
    if (this.busy) return; // the answer to our hold comes with the answer to PUT
    await this.peer?.accept(sdp, final);
  }

  private async answerOffer(status: Status, offer: string): Promise<void> {
    const answer = await this.peer!.answerTo(offer);
    await this.putStatus(status, { answer: { sdp: answer } });
  }

  private async changeHold(on: boolean): Promise<void> {
    if (!this.answered || this.busy || !this.peer || this.heldHere === on) return;
    this.busy = true;
    this.notice = "";
    this.parts.changed();
    const before = this.heldHere ? "sendonly" : "sendrecv";
    try {
      const offer = await this.peer.offer(on ? "sendonly" : "sendrecv");
      this.heldHere = on;
      this.applyMute();
      if (!on) this.resumedAt = Date.now();
      const s = await this.putStatus(on ? "Hold" : "Resume", { offer: { sdp: offer } });
      // Without an answer yet, it comes with an event.
      await this.peer.accept(s?.answer?.sdp, true);
    } catch (e) {
      this.heldHere = !on;
      this.applyMute();
      this.notice = `${on ? "Hold" : "Resume"} did not work: ${explain(e)}`;
      await this.peer.rollback(before).catch(() => undefined);
    } finally {
      this.busy = false;
      if (!this.over) this.showHold();
    }
  }

  /** The path to the gateway broke, perhaps because this device moved to another
   * network: looks for a new one, by an ICE restart. */
  private async reconnect(): Promise<void> {
    this.notice = "The media connection to the gateway broke.";
    this.parts.changed();
    if (!this.answered || this.busy || !this.peer) return;
    this.busy = true;
    const direction = this.heldHere ? "sendonly" : "sendrecv";
    try {
      const offer = await this.peer.offer(direction, undefined, true);
      const s = await this.putStatus(this.heldHere ? "Hold" : "Connected", { offer: { sdp: offer } });
      await this.peer.accept(s?.answer?.sdp, true);
      this.notice = "";
    } catch (e) {
      this.notice = `The media connection to the gateway broke: ${explain(e)}`;
      await this.peer.rollback(direction).catch(() => undefined);
    } finally {
      this.busy = false;
      this.parts.changed();
    }
  }

  private showHold(): void {
    this.set(this.heldHere ? "held" : this.heldThere ? "remote-held" : "connected");
  }

  private async putStatus(status: Status, body: { offer?: Description; answer?: Description } = {}): Promise<Session | undefined> {
    const sdp = body.offer ? " + offer" : body.answer ? " + answer" : "";
    return this.parts.api.put<Session | undefined>(`${this.url}/status`, { status, ...body }, { session: this.id, note: status + sdp });
  }

  private get url(): string { return `${this.parts.settings.callHandlingUrl}/sessions/${this.id}`; }

  private makePeer(): Peer {
    const peer = new Peer(this.parts.iceServers(), {
      track: (stream) => {
        if (this.over) return;
        this.remote = stream;
        this.parts.changed();
      },
      milestone: (m) => this.note(m),
      failed: () => void this.reconnect(),
    });
    this.peer = peer;
    clearInterval(this.statistics);
    this.statistics = window.setInterval(() => void peer.listen().then(({ heard, level }) => {
      if (this.over) return;
      this.remoteLevel = loudness(level);
      if (heard === this.hearing) return;
      this.hearing = heard;
      this.parts.changed();
    }).catch(() => undefined), listenEvery);
    return peer;
  }

  /** Opens the microphone. Without one the call goes on, in silence. */
  private async openMicrophone(): Promise<void> {
    try {
      if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
      const processed = !this.parts.settings.rawAudio;
      const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: processed, noiseSuppression: processed, autoGainControl: processed } });
      this.track = stream.getAudioTracks()[0]!;
    } catch (e) {
      const name = e instanceof DOMException ? e.name : "";
      this.notice = {
        NotAllowedError: "The browser does not allow this page to use the microphone: you can listen, but nobody hears you. Allow it beside the page's address, then call again.",
        NotFoundError: "There is no microphone: you can listen, but nobody hears you.",
        NotReadableError: "The microphone is in use by another program: you can listen, but nobody hears you.",
        SecurityError: "Browsers open the microphone only on https or localhost: you can listen, but nobody hears you.",
      }[name] ?? `The microphone cannot be opened (${String(e)}): you can listen, but nobody hears you.`;
      this.track = this.parts.sound.silence();
    }
    if (this.over) return this.track.stop();
    this.localLevel = this.parts.sound.meter(new MediaStream([this.track]));
    this.applyMute();
    this.parts.changed();
  }

  private applyMute(): void {
    // On hold, silence is sent: a stream that stops looks like one that broke.
    if (this.track) this.track.enabled = !this.muted && !this.heldHere;
  }

  /** Something of the call did not work. It may be that it is over, and that
   * this was not told yet. */
  private async broken(e: unknown): Promise<void> {
    if (this.over) return;
    if (this.id && e instanceof ApiError && await this.check()) return;
    if (this.over) return;
    if (this.id) void this.parts.api.delete(this.url, { session: this.id }).catch(() => undefined);
    this.fail(explain(e));
  }

  /** Asks the gateway how things are. Reports whether the call was found over. */
  async check(): Promise<boolean> {
    if (this.over || !this.id) return this.over;
    try {
      await this.follow(await this.parts.api.get<Session>(this.url, { session: this.id }));
    } catch (e) {
      if (e instanceof ApiError && e.gone) this.end(this.incoming && !this.answered ? "missed" : "ended");
    }
    return this.over;
  }

  private fail(why: string): void {
    if (this.over) return;
    this.reason = why;
    this.end("failed");
  }

  private end(outcome: Outcome): void {
    this.outcome = outcome;
    clearInterval(this.statistics);
    this.peer?.close();
    this.track?.stop();
    this.remote = undefined;
    this.localLevel = () => 0;
    this.set("ended");
  }

  private set(state: CallState): void {
    if (this.over) return;
    this.state = state;
    this.parts.changed();
  }

  private note(r: Report, time = Date.now()): void {
    if (!this.id) this.milestones.push([r, time]);
    else this.parts.trace({ ...r, session: this.id }, time);
  }
}
