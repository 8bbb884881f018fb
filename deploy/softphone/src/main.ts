// The softphone: wires log-in, line, phone and ladder to the page.
//
//   settings.json -> Login (OAuth) -> Api -> Line (relay, subscription, registration)
//                                        \-> Phone -> Call -> Peer (WebRTC)
//   everything that is sent or seen -> Journal -> LadderView
//
// For end-to-end tests the page has a surface that stays as it is, by
// data-testid:
//
//   login                 button; leads to the OAuth server, whose demo page has a
//                         button[name=number][value="+1…"] for every subscriber
//   logout                button; de-registers and logs out
//   registration-state    data-state: offline connecting registered reconnecting failed
//   own-number            the subscriber's number
//   dial-input            where a number is typed; Enter calls
//   keypad-0 … keypad-9, keypad-star, keypad-pound
//                         dial before a call; in a connected call they send DTMF
//                         (shown after a click on "keys")
//   call-button           calls what was typed
//   number-+1…            calls a demo number
//   call-me               lets the demo network call this phone
//   call                  shown while there is a call, or how it ended
//   call-peer, call-reason, call-notice, timer
//   call-state            data-state: dialing forwarded waiting ringing early-media
//                         incoming answering connected held remote-held restoring
//                         ended; data-outcome when ended: ended busy declined
//                         unknown not-reachable no-answer cancelled elsewhere
//                         missed failed; data-direction: incoming outgoing
//   answer, decline, hangup, mute (aria-pressed), hold, resume, keys
//   call-again, dismiss   after a call
//   meter-local, meter-remote
//                         aria-valuenow: 0 to 100, how loud it is
//   remote-audio          the audio element that plays the far end
//   problem               an error for the user
//   tab-phone, tab-messages
//                         on small screens
//   ladder-entry          a row; data-from and data-to (device gateway oauth
//                         network media), data-title, data-own
//   ladder-text, ladder-copy
//                         in an opened row
//   ladder-filter, ladder-clear, ladder-newest
//   ladder-feed           data-state of the gateway's feed: off on

import { Api, explain } from "./api";
import { element } from "./element";
import { EventStream } from "./eventstream";
import { Journal, messageKey, prettyJson, type FeedEntry, type Trace } from "./journal";
import { LadderView } from "./ladderview";
import { Line, type LineState } from "./line";
import { Login } from "./oauth";
import { Phone } from "./phone";
import { PhoneView } from "./phoneview";
import { loadSettings, type Settings } from "./settings";
import { Sound } from "./sound";
import { readable } from "./status";

const lineText: Record<LineState, string> = {
  offline: "Offline", connecting: "Registering…", registered: "Registered", reconnecting: "Reconnecting…", failed: "Not registered",
};

/** Shows a problem; an empty text takes back what was said on the topic. */
function complain(text: string, topic = "user"): void {
  const problem = element("problem");
  if (text === "" && problem.dataset["topic"] !== topic) return;
  problem.firstElementChild!.textContent = text;
  problem.dataset["topic"] = topic;
  problem.hidden = text === "";
}

function show(view: "login" | "phone"): void {
  document.body.dataset["view"] = view;
  element("login").hidden = view !== "login";
  element("line").hidden = element("logout").hidden = element("tabs").hidden = view === "login";
}

function drawLine(line: Line): void {
  const e = element("line");
  e.dataset["state"] = line.state;
  e.title = line.problem;
  element("line-number").textContent = readable(line.number);
  element("line-state").textContent = lineText[line.state];
  if (line.state === "failed") complain(line.problem, "line");
  else if (line.state === "registered") complain("", "line");
}

function openTab(tab: string, ladder: LadderView): void {
  document.body.dataset["tab"] = tab;
  for (const b of element("tabs").querySelectorAll("button")) b.setAttribute("aria-pressed", String(b.dataset["tab"] === tab));
  if (tab === "messages") ladder.looked();
}

/** Reads the gateway's side of the ladder, while somebody looks: browsers allow
 * an origin six connections, which hidden tabs should not use up. Returns what
 * ends it. */
function feed(settings: Settings, login: Login, journal: Journal): () => void {
  const lamp = (on: boolean) => {
    element("feed").dataset["state"] = on ? "on" : "off";
    element("feed").textContent = on ? "live" : "";
    element("feed").title = on ? "The gateway's side of the ladder is live." : "Only this page's own messages are shown.";
  };
  let stream: EventStream | undefined;
  let lastEventId = "";
  const look = () => {
    if (document.hidden || !settings.ladderUrl) return close();
    if (stream) return;
    stream = new EventStream({
      url: settings.ladderUrl,
      token: (renew) => login.token(renew),
      lastEventId,
      onOpen: () => lamp(true),
      onDown: () => lamp(false),
      onGone: () => lamp(false),
      onMessage: (m) => {
        lastEventId = m.id || lastEventId;
        try {
          journal.feed({ ...(JSON.parse(m.data) as FeedEntry), id: m.id });
        } catch {
          // A line that cannot be read is left out; the next one will do.
        }
      },
    });
    void stream.run();
  };
  const close = () => {
    stream?.close();
    stream = undefined;
    lamp(false);
  };
  document.addEventListener("visibilitychange", look);
  look();
  return () => {
    document.removeEventListener("visibilitychange", look);
    close();
  };
}

/** Puts a notification on the ladder as it came. */
function notification(trace: Trace, kind: string, event: object, data: Record<string, unknown>): void {
  const session = data["mediaSessionId"];
  const text = prettyJson(event);
  trace({
    from: "gateway", to: "device", key: messageKey("gateway", text), text,
    title: [kind, data["status"] ?? data["terminationReason"], data["reason"] && `· ${String(data["reason"])}`].filter(Boolean).join(" "),
    ...(typeof session === "string" ? { session } : {}),
  });
}

async function main(): Promise<void> {
  const settings = await loadSettings();
  element("title").textContent = settings.title || "Isthmus";
  const ladder = new LadderView();
  const journal = (ladder.journal = new Journal(ladder));
  const trace: Trace = (r, time) => journal.report(r, time);
  const login = new Login(settings, trace);
  const sound = new Sound();
  const api = new Api(login, trace);
  const line = new Line(settings, api, login, trace);
  const phone = new Phone(settings, api, line, sound, trace);
  const view = new PhoneView(phone, complain);
  let endFeed = () => {};

  phone.onChange = () => {
    view.draw();
    if (phone.call?.state === "incoming") openTab("phone", ladder);
  };
  line.onChange = () => drawLine(line);
  line.onNotification = (kind, event) => notification(trace, kind, event, event.data);
  sound.onBlocked = (blocked) => complain(blocked ? "The browser keeps this page silent until you click or tap it." : "", "sound");
  login.onLost = (reason) => {
    endFeed();
    void phone.call?.hangUp();
    void line.stop();
    show("login");
    complain(reason);
  };

  element("problem").querySelector("button")!.addEventListener("click", () => (element("problem").hidden = true));
  element("login-button").addEventListener("click", () => {
    complain("");
    login.begin().catch((e: unknown) => complain(explain(e)));
  });
  element("logout").addEventListener("click", () => {
    void (async () => {
      await phone.call?.hangUp();
      phone.dismiss();
      await line.stop();
      endFeed();
      await login.end();
      show("login");
    })();
  });
  for (const b of element("tabs").querySelectorAll("button")) b.addEventListener("click", () => openTab(b.dataset["tab"]!, ladder));

  try {
    await login.complete();
  } catch (e) {
    complain(explain(e));
  }
  if (!login.signedIn) return show("login");
  show("phone");
  view.draw();
  endFeed = feed(settings, login, journal);
  void view.loadNumbers();
  await line.start();
  await phone.restore();
}

main().catch((e: unknown) => complain(`The softphone cannot start: ${explain(e)}`));
