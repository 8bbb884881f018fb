// What is heard that does not come from the far end: ringing, ring-back, keys;
// and how loud things are.

export type Tone = "ringing" | "ring-back" | "busy";

interface Cadence {
  frequencies: number[];
  /** Seconds of sound and of silence, in turn. */
  pattern: number[];
  /** How often the pattern is repeated; 0: until stopped. */
  times: number;
  gain: number;
}

const cadences: Record<Tone, Cadence> = {
  ringing: { frequencies: [587, 740], pattern: [0.4, 0.2, 0.4, 2], times: 0, gain: 0.15 },
  "ring-back": { frequencies: [440, 480], pattern: [2, 4], times: 0, gain: 0.06 },
  busy: { frequencies: [480, 620], pattern: [0.5, 0.5], times: 4, gain: 0.06 },
};

const rows = [697, 770, 852, 941];
const columns = [1209, 1336, 1477, 1633];
const keys = "123A456B789C*0#D";

export class Sound {
  private context: AudioContext | undefined;
  private playing: { tone: Tone; stop: () => void } | undefined;
  private quiet: ConstantSourceNode | undefined;
  onBlocked: (blocked: boolean) => void = () => {};

  constructor() {
    // Browsers let a page sound only after the user has touched it.
    const wake = () => void this.audio().resume().then(() => this.onBlocked(false));
    for (const event of ["pointerdown", "keydown"]) window.addEventListener(event, wake, { capture: true });
  }

  audio(): AudioContext {
    return (this.context ??= new AudioContext());
  }

  /** Plays one tone at a time, or none. */
  play(tone: Tone | undefined): void {
    if (this.playing?.tone === tone) return;
    this.playing?.stop();
    this.playing = undefined;
    if (!tone) return this.onBlocked(false);
    const audio = this.audio();
    if (audio.state === "suspended") {
      this.onBlocked(true);
      void audio.resume();
    }
    const c = cadences[tone];
    const gain = new GainNode(audio, { gain: 0 });
    gain.connect(audio.destination);
    const oscillators = c.frequencies.map((frequency) => {
      const o = new OscillatorNode(audio, { frequency });
      o.connect(gain);
      o.start();
      return o;
    });
    let timer = 0;
    let step = 0;
    const next = () => {
      const on = step % 2 === 0;
      if (c.times && step >= c.times * c.pattern.length) return this.play(undefined);
      gain.gain.setTargetAtTime(on ? c.gain : 0, audio.currentTime, 0.01);
      timer = window.setTimeout(next, c.pattern[step++ % c.pattern.length]! * 1000);
    };
    next();
    this.playing = {
      tone,
      stop: () => {
        clearTimeout(timer);
        gain.gain.setTargetAtTime(0, audio.currentTime, 0.01);
        for (const o of oscillators) o.stop(audio.currentTime + 0.1);
      },
    };
  }

  /** The sound of a key, for the one who presses it. */
  key(digit: string): void {
    const at = keys.indexOf(digit);
    if (at < 0) return;
    const audio = this.audio();
    const gain = new GainNode(audio, { gain: 0.05 });
    gain.connect(audio.destination);
    for (const frequency of [rows[at >> 2]!, columns[at & 3]!]) {
      const o = new OscillatorNode(audio, { frequency });
      o.connect(gain);
      o.start();
      o.stop(audio.currentTime + 0.12);
    }
  }

  /** A track that says nothing, for when there is no microphone. */
  silence(): MediaStreamTrack {
    const audio = this.audio();
    const destination = audio.createMediaStreamDestination();
    // Without a source, nothing is sent, and the gateway takes the call for dead.
    this.quiet = new ConstantSourceNode(audio, { offset: 0 });
    this.quiet.connect(destination);
    this.quiet.start();
    return destination.stream.getAudioTracks()[0]!;
  }

  /** Measures a stream: the returned function tells how loud it is, 0 to 1. */
  meter(stream: MediaStream): () => number {
    if (stream.getAudioTracks().length === 0) return () => 0;
    const audio = this.audio();
    let source: MediaStreamAudioSourceNode;
    try {
      source = audio.createMediaStreamSource(stream);
    } catch {
      return () => 0; // a device whose sample rate this browser does not convert
    }
    const analyser = new AnalyserNode(audio, { fftSize: 512 });
    source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    return () => {
      void source; // a source that nothing refers to is collected, and goes silent
      analyser.getFloatTimeDomainData(samples);
      let sum = 0;
      for (const s of samples) sum += s * s;
      return loudness(Math.sqrt(sum / samples.length));
    };
  }
}

/** What a meter shows for a linear level: 0 to 1 for -60 dB to -6 dB. */
export function loudness(level: number): number {
  return Math.min(1, Math.max(0, (20 * Math.log10(level + 1e-6) + 60) / 54));
}
