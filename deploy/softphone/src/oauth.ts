// Log-in by authorization code with PKCE (RFC 6749, RFC 7636, RFC 9207). Tokens
// live in sessionStorage: they survive a reload, and end with the tab.

import { shorten, prettyJson, type Report, type Trace } from "./journal";
import type { Settings } from "./settings";

interface Metadata {
  issuer: string;
  authorization_endpoint: string;
  token_endpoint: string;
  revocation_endpoint?: string;
}

interface Tokens {
  access: string;
  refresh: string;
  /** When the access token dies and how long it lives, milliseconds. */
  expires: number;
  life: number;
  number: string;
  name: string;
}

interface Pending {
  state: string;
  verifier: string;
  redirectUri: string;
  /** What was done before the page left for the server, for the ladder. */
  journal: { time: number; report: Report }[];
}

export class LoginError extends Error {}

const tokensKey = "isthmus.tokens";
const pendingKey = "isthmus.login";

export class Login {
  private tokens: Tokens | undefined;
  private metadata: Metadata | undefined;
  private refreshing: Promise<string> | undefined;
  private journal: { time: number; report: Report }[] = [];

  /** Called when the log-in ended without the user's wish. */
  onLost: (reason: string) => void = () => {};

  constructor(private readonly settings: Settings, private readonly trace: Trace) {
    this.tokens = read<Tokens>(tokensKey);
  }

  get signedIn(): boolean { return this.tokens !== undefined; }
  get number(): string { return this.tokens?.number ?? ""; }
  get name(): string { return this.tokens?.name ?? ""; }

  /** Leaves for the authorization server. */
  async begin(): Promise<void> {
    const m = await this.discover();
    const pending: Pending = {
      state: random(16), verifier: random(32), redirectUri: location.origin + location.pathname, journal: [],
    };
    const url = new URL(m.authorization_endpoint);
    url.search = new URLSearchParams({
      response_type: "code",
      client_id: this.settings.clientId,
      redirect_uri: pending.redirectUri,
      scope: this.settings.scopes.join(" "),
      state: pending.state,
      code_challenge: await challenge(pending.verifier),
      code_challenge_method: "S256",
      prompt: "select_account",
    }).toString();
    this.report({
      from: "device", to: "oauth", title: "GET authorize (PKCE)",
      text: `GET ${url.pathname}\n${[...url.searchParams].map(([k, v]) => `  ${k}=${v}`).join("\n")}`,
    });
    pending.journal = this.journal;
    sessionStorage.setItem(pendingKey, JSON.stringify(pending));
    location.assign(url);
  }

  /** Takes the authorization server's answer out of the page's address, if it
   * is there. Reports whether it was. */
  async complete(): Promise<boolean> {
    const query = new URLSearchParams(location.search);
    if (!query.has("state") || !(query.has("code") || query.has("error"))) return false;
    history.replaceState(null, "", location.pathname);
    const pending = read<Pending>(pendingKey);
    sessionStorage.removeItem(pendingKey);
    if (!pending || pending.state !== query.get("state")) {
      throw new LoginError("The log-in was not started here. Please try again.");
    }
    for (const j of pending.journal) this.report(j.report, j.time);
    const error = query.get("error");
    this.report({
      from: "oauth", to: "device", title: error ? `redirect: ${error}` : "redirect with code", failed: !!error,
      text: `302 Found\nLocation: ${pending.redirectUri}\n${[...query].map(([k, v]) => `  ${k}=${k === "code" ? shorten(v) : v}`).join("\n")}`,
    });
    if (error) {
      throw new LoginError(error === "access_denied" ? "The log-in was cancelled." : query.get("error_description") ?? error);
    }
    const m = await this.discover();
    const iss = query.get("iss");
    if (iss !== null && iss !== m.issuer) throw new LoginError(`The answer comes from ${iss}, not from ${m.issuer}.`);
    this.keep(await this.ask(m, {
      grant_type: "authorization_code",
      code: query.get("code") ?? "",
      redirect_uri: pending.redirectUri,
      client_id: this.settings.clientId,
      code_verifier: pending.verifier,
    }));
    return true;
  }

  /** An access token that is good for a while; renew asks for a new one. */
  async token(renew = false): Promise<string> {
    const t = this.tokens;
    if (!t) throw new LoginError("You are not logged in.");
    const left = t.expires - Date.now();
    if (!renew && left > Math.min(30_000, t.life / 4)) return t.access;
    if (!t.refresh) {
      if (!renew && left > 0) return t.access;
      this.lose("Your log-in has expired.");
      throw new LoginError("Your log-in has expired.");
    }
    this.refreshing ??= this.refresh(t).finally(() => (this.refreshing = undefined));
    return this.refreshing;
  }

  /** Logs out: revokes the tokens and forgets them. */
  async end(): Promise<void> {
    const t = this.tokens;
    this.forget();
    const endpoint = (await this.discover().catch(() => undefined))?.revocation_endpoint;
    if (!t || !endpoint) return;
    const token = t.refresh || t.access;
    this.report({ from: "device", to: "oauth", title: "POST revoke", text: `POST ${new URL(endpoint).pathname}\n\ntoken=${shorten(token)}` });
    await fetch(endpoint, {
      method: "POST", keepalive: true, body: new URLSearchParams({ token, client_id: this.settings.clientId }),
    }).catch(() => undefined);
  }

  forget(): void {
    this.tokens = undefined;
    sessionStorage.removeItem(tokensKey);
  }

  private lose(reason: string): void {
    this.forget();
    this.onLost(reason);
  }

  private async refresh(t: Tokens): Promise<string> {
    try {
      const m = await this.discover();
      this.keep(await this.ask(m, { grant_type: "refresh_token", refresh_token: t.refresh, client_id: this.settings.clientId }));
    } catch (e) {
      if (e instanceof LoginError) this.lose("Your log-in has ended. Please log in again.");
      else if (t.expires > Date.now()) return t.access; // the server is away; this one still works
      throw e;
    }
    return this.tokens!.access;
  }

  private async discover(): Promise<Metadata> {
    if (this.metadata) return this.metadata;
    const url = this.settings.discoveryUrl;
    this.report({ from: "device", to: "oauth", title: "GET discovery", text: `GET ${new URL(url).pathname}` });
    const response = await fetch(url).catch((e: unknown) => {
      throw new Error(`The OAuth server cannot be reached (${message(e)}).`);
    });
    if (!response.ok) throw new Error(`The OAuth server's discovery document answers HTTP ${response.status}.`);
    const m = (await response.json()) as Metadata;
    this.report({ from: "oauth", to: "device", title: `${response.status} metadata`, text: prettyJson(m) });
    if (m.issuer !== this.settings.issuer) throw new LoginError(`The OAuth server says it is ${m.issuer}, expected ${this.settings.issuer}.`);
    return (this.metadata = m);
  }

  private async ask(m: Metadata, params: Record<string, string>): Promise<Tokens> {
    const shown = Object.entries(params).map(([k, v]) => `${k}=${/code|token/.test(k) ? shorten(v) : v}`).join("\n&");
    this.report({
      from: "device", to: "oauth", title: `POST token (${params["grant_type"]})`,
      text: `POST ${new URL(m.token_endpoint).pathname}\nContent-Type: application/x-www-form-urlencoded\n\n${shown}`,
    });
    const response = await fetch(m.token_endpoint, { method: "POST", body: new URLSearchParams(params) });
    const body = (await response.json().catch(() => ({}))) as Record<string, unknown>;
    this.report({
      from: "oauth", to: "device", title: response.ok ? `${response.status} tokens` : `${response.status} ${String(body["error"] ?? "")}`,
      text: `HTTP ${response.status}\n\n${prettyJson(body)}`, failed: !response.ok,
    });
    if (response.status >= 500) throw new Error(`The OAuth server answers HTTP ${response.status}.`);
    if (!response.ok || typeof body["access_token"] !== "string") {
      throw new LoginError(String(body["error_description"] ?? body["error"] ?? `The OAuth server answers HTTP ${response.status}.`));
    }
    const access = body["access_token"];
    const claims = { ...payload(access), ...payload(String(body["id_token"] ?? "")) };
    const old = this.tokens;
    const life = Number(body["expires_in"] ?? 300) * 1000;
    return {
      access,
      refresh: String(body["refresh_token"] ?? old?.refresh ?? ""),
      expires: Date.now() + life,
      life,
      number: String(claims["phone_number"] ?? old?.number ?? ""),
      name: String(claims["name"] ?? old?.name ?? ""),
    };
  }

  private keep(t: Tokens): void {
    this.tokens = t;
    sessionStorage.setItem(tokensKey, JSON.stringify(t));
  }

  private report(report: Report, time = Date.now()): void {
    this.journal.push({ time, report });
    this.trace(report, time);
  }
}

function read<T>(key: string): T | undefined {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}

function random(bytes: number): string {
  return base64url(crypto.getRandomValues(new Uint8Array(bytes)));
}

async function challenge(verifier: string): Promise<string> {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
}

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** The claims of a JWT, for display only; nothing is decided by them. */
function payload(jwt: string): Record<string, unknown> {
  try {
    const part = jwt.split(".")[1] ?? "";
    const bytes = Uint8Array.from(atob(part.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function message(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}
