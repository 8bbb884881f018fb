// The page's configuration, served beside it as settings.json.

export interface Settings {
  title: string;
  issuer: string;
  discoveryUrl: string;
  clientId: string;
  scopes: string[];
  registrationUrl: string;
  callHandlingUrl: string;
  eventsUrl: string;
  relayUrl: string;
  ladderUrl: string;
  networkUrl: string;
  phoneContext: string;
  iceServers: RTCIceServer[];
  rawAudio: boolean;
}

/** Reads settings.json; URLs in it may be relative to the page. */
export async function loadSettings(): Promise<Settings> {
  const response = await fetch("settings.json", { cache: "no-store" });
  if (!response.ok) throw new Error(`settings.json: HTTP ${response.status}`);
  const s = (await response.json()) as Settings;
  const absolute = (url: string) => (url ? new URL(url, document.baseURI).href.replace(/\/$/, "") : "");
  return {
    ...s,
    discoveryUrl: absolute(s.discoveryUrl || `${s.issuer}/.well-known/openid-configuration`),
    registrationUrl: absolute(s.registrationUrl),
    callHandlingUrl: absolute(s.callHandlingUrl),
    eventsUrl: absolute(s.eventsUrl),
    relayUrl: absolute(s.relayUrl),
    ladderUrl: absolute(s.ladderUrl),
    networkUrl: absolute(s.networkUrl),
    scopes: s.scopes ?? [],
    iceServers: s.iceServers ?? [],
  };
}
