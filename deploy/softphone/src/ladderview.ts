// The message ladder as it is drawn: a row for every entry, an arrow from lane to
// lane, newest at the bottom; each opens to its full text.

import { element, make } from "./element";
import { actors, type Actor, type Entry, type Journal, type JournalEvents } from "./journal";

const laneNames: Record<Actor, string> = {
  device: "device", gateway: "gateway", oauth: "OAuth server", network: "SIP network", media: "media node",
};

export class LadderView implements JournalEvents {
  journal!: Journal;
  private readonly rows = new Map<Entry, HTMLElement>();
  private readonly list = element("ladder");
  private readonly scroller = element("scroll");
  private readonly filter = element<HTMLSelectElement>("filter");
  private readonly calls = new Map<string, HTMLOptionElement>();
  private follow = true;
  private unseen = 0;

  constructor() {
    this.scroller.addEventListener("scroll", () => {
      this.follow = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < 60;
      if (this.follow) element("newest").hidden = true;
    });
    element("newest").addEventListener("click", () => this.toBottom());
    element("clear").addEventListener("click", () => this.journal.clear());
    this.filter.addEventListener("change", () => {
      for (const [e, row] of this.rows) row.hidden = !this.wanted(e);
      this.toBottom();
    });
    // The list grows and shrinks by itself when a pane is shown again.
    new ResizeObserver(() => this.keepUp()).observe(this.scroller);
  }

  added(e: Entry, index: number): void {
    const row = this.row(e);
    const next = this.journal.entries[index + 1];
    this.list.insertBefore(row, (next && this.rows.get(next)) ?? null);
    this.rows.set(e, row);
    this.mention(e);
    row.hidden = !this.wanted(e);
    element("ladder-empty").hidden = true;
    if (document.body.dataset["tab"] === "phone") element("count").textContent = String(++this.unseen);
    this.keepUp();
  }

  changed(e: Entry): void {
    const row = this.rows.get(e);
    if (!row) return;
    this.mention(e);
    row.hidden = !this.wanted(e);
  }

  removed(e: Entry): void {
    this.rows.get(e)?.remove();
    this.rows.delete(e);
  }

  cleared(): void {
    this.rows.clear();
    this.list.replaceChildren();
    for (const option of this.calls.values()) option.remove();
    this.calls.clear();
    element("ladder-empty").hidden = false;
  }

  /** The pane has been looked at. */
  looked(): void {
    this.unseen = 0;
    element("count").textContent = "";
    this.keepUp();
  }

  private wanted(e: Entry): boolean {
    return this.filter.value === "" || this.journal.callOf(e) === this.filter.value;
  }

  /** Adds the entry's call to the calls to choose from. */
  private mention(e: Entry): void {
    const call = this.journal.callOf(e);
    if (!call) return;
    for (const [known, option] of this.calls) {
      // A call known by the gateway's id only, until its session was.
      if (known === e.callId && known !== call) {
        if (this.filter.value === known) this.filter.value = "";
        option.remove();
        this.calls.delete(known);
      }
    }
    if (this.calls.has(call)) return;
    const option = make("option", { value: call }, `Call of ${clock(e.time).slice(0, 8)}`);
    this.calls.set(call, option);
    this.filter.append(option);
  }

  private keepUp(): void {
    if (this.follow) this.toBottom();
    else element("newest").hidden = false;
  }

  private toBottom(): void {
    this.follow = true;
    element("newest").hidden = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  private row(e: Entry): HTMLElement {
    const from = actors.indexOf(e.from);
    const to = actors.indexOf(e.to);
    const [left, right] = from < to ? [from, to] : [to, from];
    const way = from === to ? "at" : from < to ? "right" : "left";
    const head = make("button", {
      type: "button", class: `step ${way}${e.failed ? " failed" : ""}${left >= 3 ? " late" : ""}`, "aria-expanded": "false",
      "aria-label": from === to ? `${laneNames[e.from]}: ${e.title}` : `${laneNames[e.from]} to ${laneNames[e.to]}: ${e.title}`,
    }, make("time", { datetime: new Date(e.time).toISOString() }, clock(e.time)),
      make("span", { class: "track" }, make("span", { class: "title" }, e.title), make("span", { class: "arrow" })));
    const style = head.style;
    style.setProperty("--left", String(left));
    style.setProperty("--right", String(right));
    const row = make("li", { "data-testid": "ladder-entry", "data-from": e.from, "data-to": e.to, "data-title": e.title, "data-own": String(e.own) }, head);
    head.addEventListener("click", () => {
      const open = head.getAttribute("aria-expanded") !== "true";
      head.setAttribute("aria-expanded", String(open));
      if (!open) return row.lastElementChild!.remove();
      // Who reads does not want the list to run away.
      this.follow = false;
      const detail = this.detail(e);
      row.append(detail);
      detail.scrollIntoView({ block: "nearest" });
    });
    return row;
  }

  private detail(e: Entry): HTMLElement {
    const copy = make("button", { type: "button", class: "soft", "data-testid": "ladder-copy" }, "Copy");
    const text = e.text;
    copy.addEventListener("click", () => {
      navigator.clipboard.writeText(text).then(() => "Copied", () => "Not allowed").then((said) => {
        copy.textContent = said;
        setTimeout(() => (copy.textContent = "Copy"), 1500);
      });
    });
    const facts = [
      clock(e.time), e.from === e.to ? laneNames[e.from] : `${laneNames[e.from]} → ${laneNames[e.to]}`,
      e.mediaSession && `media session ${e.mediaSession}`, e.callId && `call ${e.callId}`, e.sipCallId && `Call-ID ${e.sipCallId}`,
    ].filter(Boolean).join(" · ");
    const head = make("p", { class: "facts" }, make("strong", {}, e.title), make("span", {}, facts));
    const detail = make("div", { class: "detail" }, head);
    if (text) {
      head.append(copy);
      detail.append(make("pre", { tabindex: "0", "data-testid": "ladder-text" }, text));
    }
    return detail;
  }
}

function clock(ms: number): string {
  const d = new Date(ms);
  const n = (v: number, digits: number) => String(v).padStart(digits, "0");
  return `${n(d.getHours(), 2)}:${n(d.getMinutes(), 2)}:${n(d.getSeconds(), 2)}.${n(d.getMilliseconds(), 3)}`;
}
