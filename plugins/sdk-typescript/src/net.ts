// Addresses, connections and the pauses between attempts.
import { Client, credentials } from "@grpc/grpc-js";

const DEFAULT_ADDRESS = "127.0.0.1:7420";
const MAX_FRAME = 16 * 1024 * 1024;
// A peer that vanished without a word is noticed after 30 s; a pool of its own per owner keeps back-offs apart.
const SETTINGS = {
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 5_000,
  "grpc.max_receive_message_length": MAX_FRAME,
  "grpc.use_local_subchannel_pool": 1,
};

/** The given address, else CONSORT_ADDR, else 127.0.0.1:7420. TypeError if it is none. */
export function resolve(address: string | undefined): string {
  const source = address ? "address" : "CONSORT_ADDR";
  const found = address || process.env["CONSORT_ADDR"] || DEFAULT_ADDRESS;
  const plain = bare(found);
  if (plain.startsWith("unix:")) return found;
  const port = Number(/^.+:(\d{1,5})$/.exec(plain)?.[1]);
  if (!(port > 0 && port < 65536)) {
    throw new TypeError(`${source}: '${found}' is no address; write host:port, for example ${DEFAULT_ADDRESS}`);
  }
  return found;
}

/** A connection to the address: TLS with the known roots for `https://`, otherwise plain text. */
export function connect(address: string): Client {
  const security = address.startsWith("https://") ? credentials.createSsl() : credentials.createInsecure();
  return new Client(bare(address), security, SETTINGS);
}

/**
 * Endless pauses in milliseconds, doubling from `first` to `longest`. Each is drawn from its upper half, so that
 * workers which lost the mesh together do not return together.
 */
export function* pauses(first: number, longest: number): Generator<number, never> {
  for (let most = first; ; most = Math.min(most * 2, longest)) yield most * (0.5 + Math.random() / 2);
}

function bare(address: string): string {
  return address.replace(/^https?:\/\//, "").replace(/\/+$/, "");
}
