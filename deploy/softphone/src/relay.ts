// The notification relay: an inbox at the gateway that notifications are
// delivered to, and that this page reads as a stream.

import type { Api } from "./api";

export interface SinkCredential {
  credentialType: "ACCESSTOKEN";
  accessToken: string;
  accessTokenExpiresUtc: string;
  accessTokenType: "bearer";
}

export interface Channel {
  id: string;
  sinkUrl: string;
  streamUrl: string;
  sinkCredential: SinkCredential;
  /** STUN and TURN servers that the operator offers to devices. */
  iceServers?: RTCIceServer[];
  /** Where the channel is managed. */
  url: string;
}

export async function openChannel(api: Api, relayUrl: string): Promise<Channel> {
  const c = await api.post<Channel>(relayUrl, {});
  return { ...c, url: `${relayUrl}/${encodeURIComponent(c.id)}`, streamUrl: new URL(c.streamUrl, relayUrl).href };
}

/** Gets a new credential for the sink; the old one works for a while longer. */
export async function renewCredential(api: Api, c: Channel): Promise<Channel> {
  const a = await api.post<{ sinkCredential: SinkCredential }>(`${c.url}/credentials`, {});
  return { ...c, sinkCredential: a.sinkCredential };
}

export function closeChannel(api: Api, c: Channel): Promise<void> {
  return api.delete(c.url);
}
