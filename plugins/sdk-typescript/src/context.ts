// What the handler of an operation is given beside its input.
import type { Permissions } from "./gen/consort/plugin/v1/plugin_service_pb.js";
import type { Host } from "./host.js";

/** How much a line of a log matters. */
export type Level = "debug" | "info" | "warn" | "error";

/** On whose behalf a call is made; empty texts mean nobody's. */
export interface Origin {
  /** `namespaces/{namespace}`. */
  readonly namespace: string;
  /** `namespaces/{namespace}/runs/{uuid}/steps/{step}`. */
  readonly step: string;
  /** The agent that called. */
  readonly agent: string;
}

/** What a handler returns whose result left in chunks. */
export class Streamed {
  /** Media type of the chunks. */
  readonly mediaType: string;

  constructor(mediaType: string) {
    this.mediaType = mediaType;
  }
}

/** A call in work. */
export interface Context<Config = unknown> {
  /** The operator's configuration, with the defaults of its schema; `{}` if there is none. */
  readonly config: Config;
  /** What is granted. */
  readonly permissions: Permissions | undefined;
  /** Aborted when the caller cancelled, the deadline passed, or the plugin ends: stop as soon as you can. */
  readonly signal: AbortSignal;
  /** When the call's deadline passes; undefined if it has none. */
  readonly deadline: Date | undefined;
  /** Say with `would` what would be done, and do nothing. Only for operations with `dryRun: true`. */
  readonly dryRun: boolean;
  /** UUID of this call. */
  readonly callId: string;
  /** Equal for all tries of the same call: hand it to receivers that can tell repeats. */
  readonly idempotencyKey: string;
  /** On whose behalf. */
  readonly origin: Origin;
  /** The mesh: secrets, state and events, as far as they are granted. Its calls end with this one. */
  readonly host: Host;

  /**
   * Says how far the call is, from 0 to 1, negative if that is unknown. What was not sent yet is replaced.
   * RangeError beyond 1.
   */
  progress(fraction: number, message?: string): void;

  /**
   * Writes a line; what is longer than 8 KiB is cut. It may be awaited, which waits until the line has left; if 256
   * lines wait, further ones are left out.
   */
  log(level: Level, message: string): Promise<void>;

  /** Says what would be done to the world: one line an action, for dry runs. */
  would(action: string): void;

  /** Says what was done to the world: one line an action, for the audit log. */
  did(action: string): void;

  /** Does something to the world and says so; in a dry run it only says so and returns undefined. */
  act<T>(action: string, work: () => T | Promise<T>): Promise<T | undefined>;

  /**
   * Sends the next bytes of a result that is too large for one message, and resolves when there is room for more: await
   * it. Return what it resolves with, instead of a value.
   */
  chunk(bytes: Uint8Array | string, mediaType?: string): Promise<Streamed>;

  /**
   * Sends all bytes of a source, for example a file's stream, as they come: `return
   * ctx.stream(createReadStream(path))`.
   */
  stream(
    source: AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string>,
    mediaType?: string,
  ): Promise<Streamed>;
}
