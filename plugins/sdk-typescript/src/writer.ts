// Sends the messages of one call, in order, as fast as its caller takes them.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { Sink } from "./call.js";
import type { Level } from "./context.js";
import {
  InvokeResponseSchema,
  type InvokeRequest,
  type InvokeResponse,
} from "./gen/consort/plugin/v1/plugin_service_pb.js";
import { now } from "./time.js";

type Kind = NonNullable<MessageInitShape<typeof InvokeResponseSchema>["kind"]>;
interface Item {
  kind: Kind;
  sent: () => void;
  lost: (reason: unknown) => void;
}

/** Lines that may wait. */
const LINES = 256;

/** The caller of an operation, as its handler reaches it. */
export class Writer implements Sink {
  readonly #stream: ServerWritableStream<InvokeRequest, InvokeResponse>;
  readonly #signal: AbortSignal;
  readonly #queue: Item[] = [];
  #lines = 0;
  #leftOut = 0;
  #isPumping = false;
  #release: () => void = () => undefined;

  constructor(stream: ServerWritableStream<InvokeRequest, InvokeResponse>, signal: AbortSignal) {
    this.#stream = stream;
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#drop(), { once: true });
  }

  progress(fraction: number, message: string): void {
    const last = this.#queue.at(-1);
    const kind: Kind = { case: "progress", value: { fraction, message } };
    if (last?.kind.case === "progress") last.kind = kind;
    else this.#push(kind).catch(() => undefined);
  }

  async log(level: Level, message: string): Promise<void> {
    if (this.#lines >= LINES) {
      this.#leftOut += 1;
      return;
    }
    this.#lines += 1;
    // Who does not await a line must not be ended by its loss.
    const wrote = this.#push({ case: "log", value: { time: now(), level, message } }).catch(() => undefined);
    await wrote;
    this.#lines -= 1;
    if (this.#leftOut > 0 && this.#lines < LINES / 2) {
      const lines = this.#leftOut;
      this.#leftOut = 0;
      void this.log("warn", `${lines} lines were left out: they came faster than they were taken`);
    }
  }

  async chunk(bytes: Uint8Array): Promise<void> {
    await this.#push({ case: "chunk", value: bytes });
  }

  /** Sends the result and ends the call. */
  async result(value: Extract<Kind, { case: "result" }>["value"]): Promise<void> {
    await this.#push({ case: "result", value });
    this.#stream.end();
  }

  #push(kind: Kind): Promise<void> {
    if (this.#signal.aborted) return Promise.reject(this.#signal.reason);
    return new Promise((sent, lost) => {
      this.#queue.push({ kind, sent, lost });
      if (!this.#isPumping) void this.#pump();
    });
  }

  async #pump(): Promise<void> {
    this.#isPumping = true;
    for (let item = this.#queue.shift(); item; item = this.#queue.shift()) {
      const message = create(InvokeResponseSchema, { kind: item.kind });
      // Called when the bytes are on their way, and never when the call is over: then #drop ends the wait.
      await new Promise<void>((resolve) => {
        this.#release = resolve;
        this.#stream.write(message, () => resolve());
      });
      if (this.#signal.aborted) item.lost(this.#signal.reason);
      else item.sent();
    }
    this.#isPumping = false;
  }

  #drop(): void {
    for (const item of this.#queue.splice(0)) item.lost(this.#signal.reason);
    this.#release();
  }
}
