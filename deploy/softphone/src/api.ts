// Requests to the gateway's APIs: the token, the correlator, errors in CAMARA
// form, and every message on the ladder.

import { prettyJson, shorten, type Trace } from "./journal";
import type { Login } from "./oauth";

export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }

  /** The resource is not there (any more). */
  get gone(): boolean { return this.status === 404 || this.status === 410; }
}

export interface Options {
  body?: unknown;
  headers?: Record<string, string>;
  /** The media session that the request concerns, for the ladder. */
  session?: string;
  /** Said after the title on the ladder. */
  note?: string;
  /** Finds the media session in the answer. */
  sessionOf?: (answer: unknown) => string | undefined;
  /** Set for requests that are sent while the page goes away. */
  keepalive?: boolean;
}

const patience = 20_000; // ms

export class Api {
  constructor(private readonly login: Login, private readonly trace: Trace) {}

  get<T>(url: string, o: Options = {}): Promise<T> { return this.call<T>("GET", url, o); }
  post<T>(url: string, body: unknown, o: Options = {}): Promise<T> { return this.call<T>("POST", url, { ...o, body }); }
  put<T>(url: string, body: unknown, o: Options = {}): Promise<T> { return this.call<T>("PUT", url, { ...o, body }); }
  delete(url: string, o: Options = {}): Promise<void> { return this.call<void>("DELETE", url, o); }

  /** Sends a request; a refused token is renewed once. Throws an ApiError. */
  private async call<T>(method: string, url: string, o: Options): Promise<T> {
    const first = await this.send(method, url, o, await this.login.token());
    const response = first.status === 401 ? await this.send(method, url, o, await this.login.token(true)) : first;
    if (response.status >= 200 && response.status < 300) return response.body as T;
    const b = (response.body ?? {}) as { code?: string; message?: string; error?: string };
    throw new ApiError(response.status, b.code ?? `HTTP ${response.status}`, b.message ?? b.error ?? "The gateway gave no reason.");
  }

  private async send(method: string, url: string, o: Options, token: string): Promise<{ status: number; body: unknown }> {
    const correlator = crypto.randomUUID();
    const headers: Record<string, string> = { ...o.headers, "x-correlator": correlator, Authorization: `Bearer ${token}` };
    if (o.body !== undefined) headers["Content-Type"] = "application/json";
    const name = shortName(url);
    this.trace({
      from: "device", to: "gateway", title: `${method} ${name}${o.note ? ` · ${o.note}` : ""}`, key: `request ${correlator}`,
      text: requestText(method, url, headers, token, o.body), ...(o.session ? { session: o.session } : {}),
    });
    let response: Response;
    let text: string;
    try {
      response = await fetch(url, {
        method, headers, cache: "no-store", signal: AbortSignal.timeout(patience), keepalive: o.keepalive ?? false,
        ...(o.body === undefined ? {} : { body: JSON.stringify(o.body) }),
      });
      text = await response.text();
    } catch (e) {
      const why = e instanceof DOMException && e.name === "TimeoutError" ? "no answer in time" : "not reachable";
      this.trace({
        from: "gateway", to: "device", title: `no answer to ${method} ${name}`, text: String(e), failed: true,
        ...(o.session ? { session: o.session } : {}),
      });
      throw new ApiError(0, "NETWORK", `The gateway is ${why}.`);
    }
    const body = parse(text);
    const session = o.session ?? o.sessionOf?.(body);
    this.trace({
      from: "gateway", to: "device", title: `${response.status} ${statusNote(response.status, body)}`, key: `response ${correlator}`,
      text: responseText(response, body, text), failed: !response.ok, ...(session ? { session } : {}),
    });
    return { status: response.status, body };
  }
}

/** What is shown to people. */
export function explain(e: unknown): string {
  if (!(e instanceof ApiError)) return e instanceof Error ? e.message : String(e);
  switch (e.code) {
    case "NETWORK": return e.message;
    case "UNAUTHENTICATED": return "The gateway does not accept this log-in. (UNAUTHENTICATED)";
    case "PERMISSION_DENIED": return `This is not allowed for your number. (PERMISSION_DENIED: ${e.message})`;
    case "TOO_MANY_REQUESTS":
    case "QUOTA_EXCEEDED": return `Too many requests; wait a moment. (${e.code})`;
    case "UNAVAILABLE":
    case "TIMEOUT": return `The telephone network cannot be reached at the moment. (${e.code}: ${e.message})`;
    default: return `${e.message} (${e.code})`;
  }
}

function parse(text: string): unknown {
  if (!text) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** "call-handling/sessions/0191a2b3…/status" of a request's URL. */
function shortName(url: string): string {
  const parts = new URL(url).pathname.split("/").filter(Boolean).map((p) => (/^[0-9a-f-]{30,}$/i.test(p) || p.length > 32 ? `${p.slice(0, 8)}…` : p));
  return parts.filter((p) => !/^v(\d|wip)/.test(p)).map((p) => p.replace(/^webrtc-/, "").replace(/^events-subscriptions$/, "events")).join("/");
}

function statusNote(status: number, body: unknown): string {
  const b = (body ?? {}) as { status?: unknown; code?: unknown; regInfo?: { regStatus?: string } };
  if (status >= 400) return typeof b.code === "string" ? b.code : "error";
  if (b.regInfo?.regStatus) return b.regInfo.regStatus;
  if (typeof b.status === "string") return b.status;
  return { 200: "OK", 201: "Created", 202: "Accepted", 204: "No Content" }[status] ?? "";
}

function requestText(method: string, url: string, headers: Record<string, string>, token: string, body: unknown): string {
  const u = new URL(url);
  const lines = Object.entries(headers).map(([k, v]) => `${k}: ${v.replace(token, shorten(token))}`);
  return [`${method} ${u.pathname}${u.search} HTTP/1.1`, `Host: ${u.host}`, ...lines, "", body === undefined ? "" : prettyJson(body)].join("\n").trimEnd();
}

function responseText(response: Response, body: unknown, text: string): string {
  const lines = [...response.headers].map(([k, v]) => `${k}: ${v}`);
  return [`HTTP ${response.status} ${response.statusText}`.trimEnd(), ...lines, "", body === undefined ? text : prettyJson(body)].join("\n").trimEnd();
}
