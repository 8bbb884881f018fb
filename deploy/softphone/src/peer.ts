// One WebRTC association with the gateway. Descriptions are exchanged whole:
// ICE is gathered before an offer or an answer is sent, there is no trickling.
// Steps of the negotiation run one after the other.

import type { Report } from "./journal";

export interface PeerEvents {
  track(stream: MediaStream): void;
  milestone(r: Report): void;
  /** ICE or DTLS failed. */
  failed(): void;
}

/** What is used of RTCInboundRtpStreamStats. */
interface InboundStats {
  type: string;
  kind?: string;
  packetsReceived?: number;
  totalAudioEnergy?: number;
  totalSamplesDuration?: number;
}

const gatheringTime = 3000; // ms

export class Peer {
  private readonly pc: RTCPeerConnection;
  private transceiver: RTCRtpTransceiver | undefined;
  private queue: Promise<unknown> = Promise.resolve();
  private answer = ""; // in force
  private provisional = ""; // stands until the final one comes
  private readonly past = new Set<string>(); // answers to earlier offers
  private offered = ""; // the gateway's last offer
  private readonly sent = new Set<string>();
  private closed = false;
  private last = { packets: 0, energy: 0, seconds: 0 };
  private watched: RTCDtlsTransport | null = null;

  constructor(iceServers: RTCIceServer[], private readonly events: PeerEvents) {
    this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
    this.pc.ontrack = (e) => {
      this.watchDtls();
      this.events.track(e.streams[0] ?? new MediaStream([e.track]));
    };
    this.pc.oniceconnectionstatechange = () => {
      if (this.closed) return;
      this.note(`ICE ${this.pc.iceConnectionState}`, this.pc.iceConnectionState === "failed");
      this.watchDtls();
    };
    this.pc.onconnectionstatechange = () => {
      if (this.closed) return;
      if (this.pc.connectionState === "connected") void this.selectedPair();
      if (this.pc.connectionState === "failed") this.events.failed();
    };
  }

  /** Makes the first or a new offer, with the direction that is wanted; restart
   * looks for a new path to the gateway. */
  offer(direction: RTCRtpTransceiverDirection, track?: MediaStreamTrack, restart = false): Promise<string> {
    return this.inTurn(async () => {
      this.transceiver ??= this.pc.addTransceiver(track ?? "audio", { direction });
      this.transceiver.direction = direction;
      this.turnOver();
      await this.pc.setLocalDescription(await this.pc.createOffer({ iceRestart: restart }));
      return this.described();
    });
  }

  /** Takes an offer and answers it. The track may follow later, by send. */
  answerTo(sdp: string, direction?: RTCRtpTransceiverDirection): Promise<string> {
    return this.inTurn(async () => {
      await this.pc.setRemoteDescription({ type: "offer", sdp });
      this.offered = sdp;
      this.turnOver();
      this.transceiver ??= this.pc.getTransceivers().find((t) => t.receiver.track.kind === "audio");
      if (!this.transceiver) throw new Error("The gateway's offer has no audio.");
      if (direction) this.transceiver.direction = direction;
      await this.pc.setLocalDescription(await this.pc.createAnswer());
      return this.described();
    });
  }

  /** Takes an answer. Before the call is answered it is provisional: another
   * may follow. Without an SDP, the provisional one becomes final. */
  accept(sdp: string | undefined, final: boolean): Promise<void> {
    return this.inTurn(async () => {
      const text = sdp || this.provisional;
      if (!text || this.past.has(text) || text === this.answer) return;
      switch (this.pc.signalingState) {
        case "have-local-offer":
        case "have-remote-pranswer":
          if (!final && text === this.provisional) return;
          // Not every browser has provisional answers; there, the first one
          // stands until another comes.
          final ||= !(await this.pc.setRemoteDescription({ type: "pranswer", sdp: text }).then(() => true, () => false));
          if (final) await this.pc.setRemoteDescription({ type: "answer", sdp: text });
          break;
        case "stable":
          // The answer changed after it was final: it answers the same offer.
          final = true;
          await this.pc.setLocalDescription(await this.pc.createOffer());
          await this.pc.setRemoteDescription({ type: "answer", sdp: text });
          break;
        default:
          return;
      }
      [this.answer, this.provisional] = final ? [text, ""] : ["", text];
      this.watchDtls();
    });
  }

  /** Takes back an offer that was refused. */
  rollback(direction: RTCRtpTransceiverDirection): Promise<void> {
    return this.inTurn(async () => {
      const before = this.pc.currentRemoteDescription;
      if (this.pc.signalingState !== "have-local-offer" || !before) return;
      await this.pc.setLocalDescription({ type: "rollback" });
      if (this.transceiver) this.transceiver.direction = direction;
      // Chromium hears nothing after a rollback until what was agreed on before
      // is agreed on once more.
      if (before.type === "offer") {
        await this.pc.setRemoteDescription(before);
        await this.pc.setLocalDescription(await this.pc.createAnswer());
      } else {
        await this.pc.setLocalDescription(await this.pc.createOffer());
        await this.pc.setRemoteDescription(before);
      }
    });
  }

  /** Whether the text is an offer of this side, come back in an event. */
  isOwn(sdp: string): boolean { return this.sent.has(sdp); }

  /** Whether the text is the gateway's offer that was answered already. */
  isKnown(sdp: string): boolean { return sdp === this.offered; }

  async send(track: MediaStreamTrack | null): Promise<void> {
    await this.transceiver?.sender.replaceTrack(track);
  }

  /** Sends a key as telephone-event; false if the far end takes none. */
  dtmf(digit: string): boolean {
    const sender = this.transceiver?.sender.dtmf;
    if (!sender || !sender.canInsertDTMF) return false;
    sender.insertDTMF(sender.toneBuffer + digit, 160, 70);
    return true;
  }

  /** Looks at what was received since it was asked last: whether there was
   * anything at all so far, and how loud it is, as a linear level from 0 to 1. */
  async listen(): Promise<{ heard: boolean; level: number }> {
    let now = { packets: 0, energy: 0, seconds: 0 };
    if (this.closed) return { heard: false, level: 0 };
    (await this.pc.getStats()).forEach((s: InboundStats) => {
      if (s.type !== "inbound-rtp" || s.kind !== "audio") return;
      now = { packets: now.packets + (s.packetsReceived ?? 0), energy: now.energy + (s.totalAudioEnergy ?? 0), seconds: now.seconds + (s.totalSamplesDuration ?? 0) };
    });
    const energy = now.energy - this.last.energy;
    const seconds = now.seconds - this.last.seconds;
    if (now.packets > 0 && this.last.packets === 0) this.note("first RTP packet received");
    this.last = now;
    return { heard: now.packets > 0, level: seconds > 0 && energy > 0 ? Math.sqrt(energy / seconds) : 0 };
  }

  close(): void {
    this.closed = true;
    this.pc.close();
  }

  /** A new round of offer and answer begins. */
  private turnOver(): void {
    if (this.answer) this.past.add(this.answer);
    this.answer = this.provisional = "";
  }

  private inTurn<T>(step: () => Promise<T>): Promise<T> {
    const result = this.queue.then(() => {
      if (this.closed) throw new Error("The call is over.");
      return step();
    });
    this.queue = result.catch(() => undefined);
    return result;
  }

  /** The local description, once all candidates are in it. */
  private async described(): Promise<string> {
    if (this.pc.iceGatheringState !== "complete") {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, gatheringTime);
        this.pc.addEventListener("icegatheringstatechange", () => {
          if (this.pc.iceGatheringState !== "complete") return;
          clearTimeout(timer);
          resolve();
        });
      });
      const candidates = this.pc.localDescription!.sdp.match(/^a=candidate:.*$/gm) ?? [];
      this.note(`ICE gathered ${candidates.length} candidates`, candidates.length === 0, candidates.join("\n"));
    }
    const sdp = this.pc.localDescription!.sdp;
    this.sent.add(sdp);
    return sdp;
  }

  private watchDtls(): void {
    const dtls = this.transceiver?.sender.transport ?? null;
    if (!dtls || dtls === this.watched) return;
    this.watched = dtls;
    dtls.onstatechange = () => {
      if (!this.closed && (dtls.state === "connected" || dtls.state === "failed")) this.note(`DTLS ${dtls.state}`, dtls.state === "failed");
    };
  }

  private async selectedPair(): Promise<void> {
    const stats = await this.pc.getStats();
    stats.forEach((s: { type: string; selectedCandidatePairId?: string; srtpCipher?: string; tlsVersion?: string }) => {
      if (s.type !== "transport" || !s.selectedCandidatePairId) return;
      const pair = stats.get(s.selectedCandidatePairId) as { localCandidateId: string; remoteCandidateId: string } | undefined;
      const shown = (id: string | undefined) => {
        const c = id && (stats.get(id) as { address?: string; port?: number; candidateType?: string } | undefined);
        return c ? `${c.address ?? "(hidden)"}:${c.port} (${c.candidateType})` : "?";
      };
      this.note("media connected", false,
        `local  ${shown(pair?.localCandidateId)}\nremote ${shown(pair?.remoteCandidateId)}\nSRTP   ${s.srtpCipher ?? "?"}\nDTLS   ${s.tlsVersion ?? "?"}`);
    });
  }

  private note(title: string, failed = false, text = ""): void {
    this.events.milestone({ from: "device", to: "device", title, text, failed });
  }
}
