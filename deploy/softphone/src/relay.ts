// The notification relay: an inbox at the gateway that notifications are
// delivered to, and that this page reads as a stream.

import { ApiError, type Api } from "./api";

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
  /** Where the channel is managed. */
  url: string;
}

interface ChannelAnswer {
  id?: string;
  channelId?: string;
  sinkUrl: string;
  streamUrl: string;
  sinkCredential: SinkCredential;
}

export async function openChannel(api: Api, relayUrl: string): Promise<Channel> {
  const a = await api.post<ChannelAnswer>(relayUrl, {});
  const id = a.id ?? a.channelId ?? "";
  const url = `${relayUrl}/${encodeURIComponent(id)}`;
  return { id, url, sinkUrl: a.sinkUrl, streamUrl: new URL(a.streamUrl, relayUrl).href, sinkCredential: a.sinkCredential };
}

/** Gets a new credential for the sink; the old one works until it expires. */
export async function renewCredential(api: Api, c: Channel): Promise<Channel> {
  const a = await api.post<Partial<ChannelAnswer> & Partial<SinkCredential>>(`${c.url}/credentials`, {});
  const sinkCredential = a.sinkCredential ?? (a.accessToken ? (a as SinkCredential) : undefined);
  if (!sinkCredential) throw new ApiError(200, "INTERNAL", "The relay's answer has no credential.");
  return { ...c, sinkCredential };
}

export function closeChannel(api: Api, c: Channel): Promise<void> {
  return api.delete(c.url);
}
