// Runs in every page before its own scripts: the microphone's tone stays as it
// is, and what the page plays can be measured.
"use strict";
(() => {
  const devices = navigator.mediaDevices;
  if (devices) {
    const open = devices.getUserMedia.bind(devices);
    devices.getUserMedia = (c) => open(c && c.audio
      ? { ...c, audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } } : c);
  }
  const connections = [];
  const Native = window.RTCPeerConnection;
  if (Native) {
    window.RTCPeerConnection = class extends Native {
      constructor(...a) {
        super(...a);
        connections.push(this);
      }
    };
  }
  let context;
  const analysers = new WeakMap();
  const analyser = (stream) => {
    context ??= new AudioContext({ sampleRate: 48000 });
    let a = analysers.get(stream);
    if (!a) {
      a = context.createAnalyser();
      a.fftSize = 32768;
      context.createMediaStreamSource(stream).connect(a);
      analysers.set(stream, a);
    }
    return a;
  };
  window.endToEnd = {
    connections,
    // Half a second of what the far end's audio element plays, as 16-bit samples
    // at 8 kHz in base64; nothing while it plays nothing.
    async hear() {
      const element = document.querySelector('[data-testid="remote-audio"]');
      const stream = element && element.srcObject;
      if (!stream || element.paused || stream.getAudioTracks().length === 0) return "";
      const a = analyser(stream);
      if (context.state !== "running") await context.resume();
      const wave = new Float32Array(24000);
      const all = new Float32Array(a.fftSize);
      a.getFloatTimeDomainData(all);
      wave.set(all.subarray(all.length - wave.length));
      const out = new Uint8Array(wave.length / 6 * 2);
      const view = new DataView(out.buffer);
      for (let i = 0; i < wave.length / 6; i++) {
        let sum = 0;
        for (let k = 0; k < 6; k++) sum += wave[i * 6 + k];
        view.setInt16(i * 2, Math.max(-32768, Math.min(32767, Math.round(sum / 6 * 32767))), true);
      }
      let text = "";
      for (const b of out) text += String.fromCharCode(b);
      return btoa(text);
    },
  };
})();
