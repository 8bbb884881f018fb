// The words for what a media session's status means to the person at the phone.

export type Status =
  | "Initial" | "InProgress" | "Ringing" | "Proceeding" | "Waiting" | "Connected" | "Hold" | "Resume"
  | "Terminated" | "SessionCancelled" | "Declined" | "Failed" | "NoAnswer" | "NotReachable" | "Busy";

/**
 * What the phone is doing:
 *
 *   outgoing   dialing -> forwarded | waiting | ringing | early-media -> connected
 *   incoming   incoming -> answering -> connected
 *   connected <-> held (by this side) | remote-held
 *   any -> ended
 */
export type CallState =
  | "dialing" | "forwarded" | "waiting" | "ringing" | "early-media" | "incoming" | "answering"
  | "connected" | "held" | "remote-held" | "restoring" | "ended";

export type Outcome =
  | "ended" | "busy" | "declined" | "unknown" | "not-reachable" | "no-answer" | "cancelled" | "elsewhere" | "missed" | "failed";

export const stateText: Record<CallState, string> = {
  dialing: "Calling…",
  forwarded: "Being forwarded…",
  waiting: "Waiting in a queue",
  ringing: "Ringing",
  "early-media": "Early media",
  incoming: "Incoming call",
  answering: "Answering…",
  connected: "Connected",
  held: "On hold",
  "remote-held": "Held by the other side",
  restoring: "Finding your call again…",
  ended: "Ended",
};

export const outcomeText: Record<Outcome, string> = {
  ended: "Call ended",
  busy: "Busy",
  declined: "Declined",
  unknown: "Unknown number",
  "not-reachable": "Not reachable",
  "no-answer": "No answer",
  cancelled: "Cancelled",
  elsewhere: "Answered elsewhere",
  missed: "Missed call",
  failed: "Failed",
};

const final = new Set<Status>(["Terminated", "SessionCancelled", "Declined", "Failed", "NoAnswer", "NotReachable", "Busy"]);

export function isFinal(s: Status): boolean { return final.has(s); }

/** How a call ended, from its last status and the SIP reason given with it. */
export function outcomeOf(s: Status, reason: string, incoming: boolean): Outcome {
  switch (s) {
    case "Busy": return "busy";
    case "Declined": return "declined";
    case "NoAnswer": return incoming ? "missed" : "no-answer";
    case "NotReachable": return /\b(404|410|604)\b/.test(reason) ? "unknown" : "not-reachable";
    case "SessionCancelled":
      if (/elsewhere/i.test(reason)) return "elsewhere";
      return incoming ? "missed" : "cancelled";
    case "Failed": return "failed";
    default: return "ended";
  }
}

/** An address as a person would write it. */
export function display(address: string): string {
  if (!address || address.startsWith("sip:anonymous@")) return "Anonymous";
  return address.replace(/^(tel|sip):/, "").replace(/;.*$/, "").replace(/@.*$/, (host) => (/^\+?\d+@/.test(address.slice(4)) ? "" : host));
}

/** The address that a dialled string stands for; undefined if it is none. */
export function address(dialled: string, phoneContext: string): string | undefined {
  const text = dialled.trim();
  if (/^(sip|tel|urn):\S+$/i.test(text)) return text;
  if (/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(text)) return `sip:${text}`;
  const digits = text.replace(/[\s().\-/]/g, "").replace(/^00/, "+");
  if (/^\+[1-9]\d{4,14}$/.test(digits)) return `tel:${digits}`;
  if (!/^[\d*#]{1,15}$/.test(digits)) return undefined;
  if (phoneContext) return `tel:${digits};phone-context=${phoneContext}`;
  return /^[1-9]\d{4,14}$/.test(digits) ? `tel:+${digits}` : undefined;
}

/** "+1 555 0100" for reading; the digits stay as they are. */
export function readable(number: string): string {
  const m = /^\+1(\d{3})(\d{4})$/.exec(number) ?? /^\+1(\d{3})(\d{3})(\d{4})$/.exec(number);
  return m ? `+1 ${m.slice(1).join(" ")}` : number;
}
