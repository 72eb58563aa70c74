/** Where the server is, and how to trust it. */

import * as grpc from "@grpc/grpc-js";

/** Messages above this are refused, with RESOURCE_EXHAUSTED. */
export const MAX_MESSAGE_OCTETS = 4 << 20;

/** A server to talk to. Connections are always TLS. */
export interface Target {
  /** `"HOST:PORT"`. */
  readonly target: string;
  /** Certificates (PEM) to trust instead of Node's own roots. */
  readonly ca?: string | Uint8Array;
  /** Name to look for in the server's certificate, where it is not the host of `target`. */
  readonly serverName?: string;
  /** Entries that go with every call, for processes with an identity of their own. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** A channel with a connection of its own, so that a fresh one may reach another core. */
export function openChannel(target: Target): grpc.Client {
  const ca = target.ca === undefined ? null : Buffer.from(target.ca);
  return new grpc.Client(target.target, grpc.credentials.createSsl(ca), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.max_receive_message_length": MAX_MESSAGE_OCTETS,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.enable_retries": 0, // what may be repeated is decided here, not below
    ...(target.serverName === undefined
      ? {}
      : { "grpc.ssl_target_name_override": target.serverName, "grpc.default_authority": target.serverName }),
  });
}
