// The phone pane: display, keypad, buttons, demo numbers.

import { explain } from "./api";
import { element, make } from "./element";
import type { DemoNumber, Phone } from "./phone";
import { outcomeText, readable, stateText } from "./status";

const letters = ["", "", "ABC", "DEF", "GHI", "JKL", "MNO", "PQRS", "TUV", "WXYZ"];
const names: Record<string, string> = { "*": "star", "#": "pound" };

export class PhoneView {
  private readonly input = element<HTMLInputElement>("dial-input");
  private readonly remote = element<HTMLAudioElement>("remote");
  private keysOpen = false;
  private shown = "";
  private readonly title = document.title;

  constructor(private readonly phone: Phone, private readonly complain: (text: string) => void) {
    this.buildKeypad();
    const click = (id: string, act: () => unknown) => element(id).addEventListener("click", () => void act());
    element("dial").addEventListener("submit", (e) => {
      e.preventDefault();
      this.dial(this.input.value);
    });
    click("erase", () => (this.input.value = this.input.value.slice(0, -1)));
    click("answer", () => phone.call?.answer());
    click("decline", () => phone.call?.hangUp());
    click("hangup", () => phone.call?.hangUp());
    click("mute", () => phone.call?.mute(!phone.call.muted));
    click("hold", () => phone.call?.hold());
    click("resume", () => phone.call?.resume());
    click("dismiss", () => phone.dismiss());
    click("again", () => {
      const to = phone.call?.address ?? "";
      phone.dismiss();
      this.dial(to);
    });
    click("keys", () => {
      this.keysOpen = !this.keysOpen;
      this.draw();
    });
    click("call-me", () => this.callMe());
    window.addEventListener("keydown", (e) => {
      // In a call, the keyboard's digits are keys of the phone.
      if (phone.call?.answered && /^[0-9*#]$/.test(e.key) && !e.ctrlKey && !e.metaKey && !e.altKey) phone.call.key(e.key);
    });
    requestAnimationFrame(this.frame);
  }

  /** Fetches and lists the numbers that can be tried. */
  async loadNumbers(): Promise<void> {
    if (!this.phone.inDemoNetwork) return;
    try {
      element("numbers").replaceChildren(...(await this.phone.demoNumbers()).map((n) => this.demoNumber(n)));
    } catch (e) {
      element("numbers").replaceChildren(make("li", { class: "quiet" }, `The demo numbers cannot be fetched (${explain(e)}).`));
    }
  }

  draw(): void {
    const call = this.phone.call;
    const live = call !== undefined && !call.over;
    const ringing = call?.state === "incoming";
    const show = (id: string, on: boolean) => (element(id).hidden = !on);
    if (!call?.answered) this.keysOpen = false;

    show("call", call !== undefined);
    show("dial", !call);
    show("keypad", !call || this.keysOpen);
    show("book", !live && this.phone.inDemoNetwork);
    show("call-button", !call);
    show("answer", ringing);
    show("decline", ringing);
    show("hangup", live && !ringing);
    show("again", call !== undefined && call.over && call.address !== "");
    show("dismiss", call !== undefined && call.over);
    show("controls", call?.answered ?? false);
    show("meters", live && !ringing);
    element("phone").dataset["call"] = call ? call.state : "idle";
    document.title = ringing ? `☎ ${call.peerText} is calling` : this.title;
    if (!call) {
      this.remote.srcObject = null;
      return;
    }

    const state = element("call-state");
    const text = call.over ? outcomeText[call.outcome] : stateText[call.state];
    if (state.textContent !== text) state.textContent = text; // only changes are announced
    state.dataset["state"] = call.state;
    state.dataset["outcome"] = call.over ? call.outcome : "";
    state.dataset["direction"] = call.incoming ? "incoming" : "outgoing";
    element("call-peer").textContent = readable(call.peerText);
    element("call-name").textContent = call.peerName;
    element("call-avatar").textContent = /^[a-z]/i.test(call.peerName || call.peerText) ? (call.peerName || call.peerText)[0]!.toUpperCase() : "#";
    element("call-reason").textContent = call.over ? call.reason : "";
    element("call-notice").textContent = call.notice;
    show("call-notice", call.notice !== "");
    element("hangup-text").textContent = call.answered || call.incoming ? "Hang up" : "Cancel";

    const mute = element<HTMLButtonElement>("mute");
    mute.setAttribute("aria-pressed", String(call.muted));
    mute.lastChild!.textContent = call.muted ? "Unmute" : "Mute";
    show("hold", !call.held);
    show("resume", call.held);
    for (const id of ["hold", "resume"]) element<HTMLButtonElement>(id).disabled = call.busy;
    element<HTMLButtonElement>("answer").disabled = call.state === "answering";
    element("keys").setAttribute("aria-expanded", String(this.keysOpen));

    const stream = call.remote ?? null;
    if (this.remote.srcObject !== stream) {
      this.remote.srcObject = stream;
      if (stream) this.remote.play().catch(() => window.addEventListener("pointerdown", () => void this.remote.play().catch(() => undefined), { once: true }));
    }
    // Focus follows what can be done, but is not taken from elsewhere.
    const mark = `${call.state} ${call.id}`;
    if (mark !== this.shown && (document.activeElement === document.body || document.activeElement?.closest("#phone"))) {
      if (ringing) element("answer").focus();
    }
    this.shown = mark;
  }

  private dial(text: string): void {
    try {
      this.phone.dial(text);
      this.input.value = "";
      this.complain("");
    } catch (e) {
      this.complain(explain(e));
    }
  }

  private async callMe(): Promise<void> {
    const button = element<HTMLButtonElement>("call-me");
    button.disabled = true;
    try {
      await this.phone.callMe();
    } catch (e) {
      this.complain(explain(e));
    } finally {
      button.disabled = false;
    }
  }

  private demoNumber(n: DemoNumber): HTMLElement {
    const button = make("button", { type: "button", "data-testid": `number-${n.number}`, "data-scenario": n.scenario },
      make("span", { class: "what" }, n.description), make("span", { class: "number" }, readable(n.number)));
    button.addEventListener("click", () => {
      if (this.phone.call?.over) this.phone.dismiss();
      this.dial(n.number);
    });
    return make("li", {}, button);
  }

  private buildKeypad(): void {
    for (const key of "123456789*0#") {
      const sub = key === "0" ? "+" : letters[Number(key)] ?? "";
      const button = make("button", { type: "button", "data-testid": `keypad-${names[key] ?? key}`, "aria-label": names[key] ?? key },
        key, make("small", { "aria-hidden": "true" }, sub));
      let plus = 0;
      button.addEventListener("pointerdown", () => {
        // Held down, 0 is the plus sign of an international number.
        if (key === "0" && !this.phone.call) plus = window.setTimeout(() => {
          this.input.value = this.input.value.replace(/0$/, "") + "+";
          plus = -1;
        }, 600);
      });
      button.addEventListener("click", () => {
        if (this.phone.call?.answered) return this.phone.call.key(key);
        if (plus !== -1) this.input.value += key;
        clearTimeout(plus);
        plus = 0;
      });
      element("keypad").append(button);
    }
  }

  private level(id: string, level: number): void {
    const percent = String(Math.round(level * 100));
    const meter = element(id);
    if (meter.getAttribute("aria-valuenow") === percent) return;
    meter.setAttribute("aria-valuenow", percent);
    (meter.firstElementChild as HTMLElement).style.clipPath = `inset(0 ${100 - Number(percent)}% 0 0 round 1rem)`;
  }

  private readonly frame = (): void => {
    requestAnimationFrame(this.frame);
    const call = this.phone.call;
    if (!call) return;
    if (!call.over) {
      this.level("meter-local", call.localLevel());
      this.level("meter-remote", call.remoteLevel);
    }
    const seconds = call.startedAt && !call.over ? Math.floor((Date.now() - call.startedAt) / 1000) : -1;
    const two = (n: number) => String(n).padStart(2, "0");
    const text = seconds < 0 ? "" : `${seconds >= 3600 ? `${Math.floor(seconds / 3600)}:` : ""}${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
    const timer = element("timer");
    if (timer.textContent !== text) timer.textContent = text;
  };
}
