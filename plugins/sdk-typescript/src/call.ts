// A call in work: what its handler sees, and what becomes of it.
import type { Context, Level, Origin } from "./context.js";
import { Streamed } from "./context.js";
import { PluginError } from "./errors.js";
import type { Permissions } from "./gen/consort/plugin/v1/plugin_service_pb.js";
import type { Host } from "./host.js";
import { cut } from "./text.js";

/** Bytes that a message carries at most of a result. */
export const CHUNK = 1024 * 1024;
const OCTETS = "application/octet-stream";
/** Chunks that may wait: handlers await each, so more than a few mean that one does not. */
const CHUNKS = 8;
const LEVELS: readonly string[] = ["debug", "info", "warn", "error"];
const LINE = 8 * 1024;
const PROGRESS_TEXT = 1024;
const ACTIONS = 1000;
const ACTION = 1024;

/** Where a call's messages go, in order. */
export interface Sink {
  /** Takes the place of progress that has not left. */
  progress(fraction: number, message: string): void;
  /** Resolves when the line has left, or was left out. */
  log(level: Level, message: string): Promise<void>;
  /** At most 1 MiB; resolves when there is room for more. Rejects when the call is over. */
  chunk(bytes: Uint8Array): Promise<void>;
}

/** What a call is made from. */
export interface CallRequest {
  operation: string;
  input: unknown;
  /** Length of the input's text. */
  size: number;
  callId: string;
  idempotencyKey: string;
  dryRun: boolean;
  origin: Origin;
  signal: AbortSignal;
  deadline: Date | undefined;
  config: unknown;
  permissions: Permissions | undefined;
  host: Host;
}

/** A call in work. */
export class Call implements Context<unknown> {
  readonly config: unknown;
  readonly permissions: Permissions | undefined;
  readonly signal: AbortSignal;
  readonly deadline: Date | undefined;
  readonly dryRun: boolean;
  readonly callId: string;
  readonly idempotencyKey: string;
  readonly origin: Origin;
  readonly host: Host;
  /** What would be done. */
  readonly wouldDo: string[] = [];
  /** What was done. */
  readonly done: string[] = [];
  /** Media type of the chunks that left; undefined if there were none. */
  mediaType: string | undefined;
  readonly #sink: Sink;
  #sent: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #failure: { error: unknown } | undefined;

  constructor(request: CallRequest, sink: Sink) {
    this.config = request.config;
    this.permissions = request.permissions;
    this.signal = request.signal;
    this.deadline = request.deadline;
    this.dryRun = request.dryRun;
    this.callId = request.callId;
    this.idempotencyKey = request.idempotencyKey;
    this.origin = request.origin;
    this.host = request.host;
    this.#sink = sink;
  }

  progress(fraction: number, message = ""): void {
    if (!(fraction <= 1))
      throw new RangeError(`fraction: ${fraction} is more than 1; give 0 to 1, or -1 if it is unknown`);
    if (!this.signal.aborted) this.#sink.progress(fraction, cut(message, PROGRESS_TEXT));
  }

  async log(level: Level, message: string): Promise<void> {
    if (!LEVELS.includes(level)) throw new RangeError(`level: '${level}' is none of ${LEVELS.join(", ")}`);
    if (!this.signal.aborted) await this.#sink.log(level, cut(message, LINE));
  }

  would(action: string): void {
    note(this.wouldDo, action);
  }

  did(action: string): void {
    note(this.done, action);
  }

  async act<T>(action: string, work: () => T | Promise<T>): Promise<T | undefined> {
    if (this.dryRun) {
      this.would(action);
      return undefined;
    }
    const result = await work();
    this.did(action);
    return result;
  }

  chunk(bytes: Uint8Array | string, mediaType = this.mediaType ?? OCTETS): Promise<Streamed> {
    // In the order of the calls, also for those who do not await them.
    const sent = this.#sent.then(() => this.#send(bytes, mediaType));
    this.#waiting += 1;
    // A result that lacks a part must not pass for whole, whether the handler looked at this promise or not.
    this.#sent = sent.catch((error: unknown) => (this.#failure ??= { error })).finally(() => (this.#waiting -= 1));
    return sent;
  }

  /** Resolves when all chunks have left; rejects if one did not. */
  async flushed(): Promise<void> {
    await this.#sent;
    if (this.#failure) throw this.#failure.error;
  }

  async #send(bytes: Uint8Array | string, mediaType: string): Promise<Streamed> {
    if (this.#failure) throw this.#failure.error;
    if (this.#waiting > CHUNKS) {
      throw new PluginError("RESOURCE_EXHAUSTED", `${this.#waiting} chunks wait to be sent; await each ctx.chunk(...)`);
    }
    if (this.mediaType !== undefined && this.mediaType !== mediaType) {
      throw new TypeError(`mediaType: '${mediaType}' after '${this.mediaType}'; all chunks of a result have the same`);
    }
    this.mediaType = mediaType;
    const data = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
    for (let start = 0; start < data.length; start += CHUNK) {
      await this.#sink.chunk(data.subarray(start, start + CHUNK));
    }
    return new Streamed(mediaType);
  }

  async stream(
    source: AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string>,
    mediaType = OCTETS,
  ): Promise<Streamed> {
    this.mediaType ??= mediaType;
    for await (const bytes of source) {
      // A source that nobody waits for must not be read to its end.
      if (this.signal.aborted) throw this.signal.reason;
      await this.chunk(bytes, mediaType);
    }
    return new Streamed(mediaType);
  }
}

function note(actions: string[], action: string): void {
  if (actions.length === ACTIONS) {
    throw new PluginError("RESOURCE_EXHAUSTED", `more than ${ACTIONS} actions in one call; say them in fewer lines`);
  }
  actions.push(cut(action, ACTION));
}
