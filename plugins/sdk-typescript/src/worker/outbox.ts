// What waits to be sent to the mesh.
import { toBinary, create, type MessageInitShape } from "@bufbuild/protobuf";
import { ConnectRequestSchema } from "../gen/consort/agent/v1/worker_service_pb.js";

/** A task's name and its fencing token. */
export interface Lease {
  readonly task: string;
  readonly token: bigint;
}

/** A lease as a key of maps. */
export function keyOf(lease: Lease): string {
  return `${lease.task}#${lease.token}`;
}

const FRAME = 1024 * 1024;
const REPORTS = 4 * 1024 * 1024;

/**
 * Collects pieces and hands them out in frames.
 *
 * A piece is a serialised ConnectRequest with one thing in it. Serialised messages that are strung together parse as
 * one message with all their lists joined, so a frame costs no second encoding. What is added while a frame is being
 * written goes out in the next one, all at once, in the order it was added.
 *
 * Answers are kept until they are acknowledged and are few: the mesh hands out no more tasks than there are slots.
 * Reports wait for room once 4 MiB are queued. Of a task's progress only the last is kept.
 */
export class Outbox {
  /** Answers that are not on record yet, by lease. */
  readonly unacknowledged = new Map<string, Uint8Array>();
  #queue: Uint8Array[] = [];
  #queued = 0;
  readonly #progress = new Map<string, Uint8Array>();
  #renewal: Uint8Array | undefined;
  #draining: Uint8Array | undefined;
  #wake: () => void = () => undefined;
  #room: (() => void)[] = [];
  #hasNews = false;
  readonly #makeRoom = (): void => {
    for (const go of this.#room.splice(0)) go();
  };

  /** Queues the answer of a task and keeps it until `acknowledge`. */
  answer(lease: Lease, answer: MessageInitShape<typeof ConnectRequestSchema>): void {
    const key = keyOf(lease);
    const progress = this.#progress.get(key);
    this.#progress.delete(key);
    if (progress) this.#push(progress);
    const bytes = piece(answer);
    this.unacknowledged.set(key, bytes);
    this.#push(bytes);
  }

  /** Forgets an answer. */
  acknowledge(key: string): void {
    this.unacknowledged.delete(key);
    this.poke();
  }

  /** Queues a lease that is given back; if it is ours again after a reconnect, it is given back again. */
  release(lease: Lease): void {
    this.#progress.delete(keyOf(lease));
    this.#push(piece({ released: [{ lease: { task: lease.task, leaseToken: lease.token } }] }));
  }

  /** Drops what waits for a lease that is gone. */
  forget(key: string): void {
    this.#progress.delete(key);
    this.acknowledge(key);
  }

  /** Queues progress in place of earlier progress of the same task that has not left yet. */
  progress(lease: Lease, report: MessageInitShape<typeof ConnectRequestSchema>): void {
    this.#progress.set(keyOf(lease), piece(report));
    this.poke();
  }

  /** Queues a report, when there is room. */
  async report(report: MessageInitShape<typeof ConnectRequestSchema>, signal: AbortSignal): Promise<void> {
    while (this.#queued >= REPORTS && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#room.push(resolve);
        signal.addEventListener("abort", this.#makeRoom, { once: true });
      });
      signal.removeEventListener("abort", this.#makeRoom);
    }
    if (!signal.aborted) this.#push(piece(report));
  }

  /** Puts a sign of life into the next frame. */
  renew(cpu: number, memory: number): void {
    this.#renewal = piece({ renew: { cpu, memoryBytes: BigInt(memory) } });
    this.poke();
  }

  /** Tells the mesh, in the next frame, that nothing new is taken. */
  drain(): void {
    this.#draining = piece({ draining: true });
    this.poke();
  }

  /** Makes ready for a new stream: unacknowledged answers that had left are queued again, first. */
  rewind(isDraining: boolean): void {
    const waiting = new Set(this.#queue);
    const again = [...this.unacknowledged.values()].filter((bytes) => !waiting.has(bytes));
    this.#queue = [...again, ...this.#queue];
    this.#queued += again.reduce((sum, bytes) => sum + bytes.length, 0);
    this.#draining = isDraining ? piece({ draining: true }) : undefined;
    this.poke();
  }

  /** The next frame, of about 1 MiB at most; undefined if nothing waits. */
  take(): Buffer | undefined {
    const pieces: Uint8Array[] = [];
    if (this.#renewal) pieces.push(this.#renewal);
    if (this.#draining) pieces.push(this.#draining);
    this.#renewal = this.#draining = undefined;
    let size = 0;
    let taken = 0;
    while (taken < this.#queue.length && size < FRAME) {
      const next = this.#queue[taken]!;
      taken += 1;
      size += next.length;
      pieces.push(next);
    }
    this.#queue.splice(0, taken);
    this.#queued -= size;
    for (const [key, bytes] of this.#progress) {
      if (size >= FRAME) break;
      this.#progress.delete(key);
      size += bytes.length;
      pieces.push(bytes);
    }
    if (this.#queued < REPORTS) this.#makeRoom();
    this.#hasNews = false;
    return pieces.length > 0 ? Buffer.concat(pieces) : undefined;
  }

  /** Waits until something was added, or `poke` was called, since the last `take`. */
  wait(): Promise<void> {
    if (this.#hasNews) return Promise.resolve();
    return new Promise((resolve) => (this.#wake = resolve));
  }

  /** Wakes who waits. */
  poke(): void {
    this.#hasNews = true;
    this.#wake();
  }

  #push(bytes: Uint8Array): void {
    this.#queue.push(bytes);
    this.#queued += bytes.length;
    this.poke();
  }
}

function piece(request: MessageInitShape<typeof ConnectRequestSchema>): Uint8Array {
  return toBinary(ConnectRequestSchema, create(ConnectRequestSchema, request));
}
