// One life of a worker: its stream to the mesh, its tasks and its answers.
import { randomUUID } from "node:crypto";
import { Metadata, status, type ClientDuplexStream, type ServiceError } from "@grpc/grpc-js";
import { create, toBinary } from "@bufbuild/protobuf";
import { Blobs } from "../blobs.js";
import { fromServiceError, isServiceError, RefusedError, type Code } from "../errors.js";
import { AgentService } from "../gen/consort/agent/v1/agent_service_pb.js";
import {
  ConnectRequestSchema,
  WorkerService,
  type ConnectResponse,
  type Welcome,
} from "../gen/consort/agent/v1/worker_service_pb.js";
import { connect, pauses } from "../net.js";
import { frames, unary } from "../rpc.js";
import { pause, seconds } from "../time.js";
import { SDK } from "../version.js";
import { keyOf, Outbox } from "./outbox.js";
import { Tasks, type Agent, type Logger } from "./tasks.js";

/** What a session is made from. */
export interface SessionOptions {
  workerId: string;
  address: string;
  namespace: string;
  /** Tasks at once, by slot type. */
  slots: ReadonlyMap<string, number>;
  /** Seconds that a stop waits for what is in hand. */
  drainTimeout: number;
  onReady: (() => void) | undefined;
  log: Logger;
}

type Stream = ClientDuplexStream<Buffer, ConnectResponse>;

const PROTOCOL = 1;
const WELCOME = 20_000;
const CLOSE = 5_000;
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 5_000;
// What these say about a Hello will be said again.
const REFUSALS: readonly Code[] = [
  "INVALID_ARGUMENT",
  "ALREADY_EXISTS",
  "FAILED_PRECONDITION",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
  "UNIMPLEMENTED",
  "OUT_OF_RANGE",
];

/**
 * Serves the agents until it is drained. The pauses between attempts to reach the mesh lie between 0.1 s and 5 s. While
 * it is away the tasks in hand go on; their answers are sent when it is back.
 */
export class Session {
  readonly tasks: Tasks;
  readonly #options: SessionOptions;
  readonly #agents: ReadonlyMap<string, Agent>;
  readonly #outbox = new Outbox();
  readonly #blobs: Blobs;
  readonly #sessionId = randomUUID();
  readonly #stopping = new AbortController();
  #meshDrains = false;
  #attached: boolean | undefined;
  #isClosing = false;
  #stream: Stream | undefined;
  #ttl = 1000;
  #clock = { at: performance.now(), used: process.cpuUsage() };

  constructor(options: SessionOptions, agents: ReadonlyMap<string, Agent>) {
    this.#options = options;
    this.#agents = agents;
    this.#blobs = new Blobs(options.address);
    const slots = [...options.slots.values()].reduce((sum, count) => sum + count, 0);
    this.tasks = new Tasks(agents, this.#outbox, this.#blobs, slots, options.log);
  }

  /**
   * Serves until `stop`, or until the mesh drained this worker, and all is finished. RefusedError if it will never be
   * taken.
   */
  async run(): Promise<void> {
    let waits = pauses(FIRST_PAUSE, LONGEST_PAUSE);
    try {
      while (!this.#isOver) {
        const began = performance.now();
        try {
          await this.#attach();
        } catch (error) {
          if (!isServiceError(error)) throw error;
          this.#noteAbsence(error);
        }
        if (this.#meshDrains && this.#isClosing && !this.#isStopping && (await this.#meshStays())) {
          this.#options.log("info", "drained by the mesh");
          return;
        }
        // It held for a while, so this is a new trouble.
        if (performance.now() - began > LONGEST_PAUSE) waits = pauses(FIRST_PAUSE, LONGEST_PAUSE);
        // When stopping, answers still wait to be delivered, so the mesh is tried further.
        if (!this.#isOver) await pause(waits.next().value, this.#isStopping ? undefined : this.#stopping.signal);
      }
    } finally {
      this.tasks.giveBack();
      this.#blobs.close();
    }
  }

  /** Takes nothing new, and ends when what is in hand is done and acknowledged, or after the drain's time. */
  stop(): void {
    if (this.#isStopping) return;
    this.#options.log("info", `draining: ${this.tasks.size} tasks in hand`);
    this.#stopping.abort();
    this.#outbox.drain();
    setTimeout(() => this.#giveUp(), this.#options.drainTimeout * 1000).unref();
    this.#hangUpIfIdle();
  }

  get #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  get #isEmpty(): boolean {
    return this.tasks.size === 0 && this.#outbox.unacknowledged.size === 0;
  }

  get #isOver(): boolean {
    return this.#isStopping && this.#isEmpty;
  }

  #giveUp(): void {
    if (!this.#isEmpty) {
      const { size } = this.#outbox.unacknowledged;
      const what = `${this.tasks.size} tasks are given back, ${size} answers were not acknowledged`;
      this.#options.log("error", `not drained after ${this.#options.drainTimeout} s: ${what}`);
    }
    this.tasks.giveBack();
    this.#outbox.unacknowledged.clear();
    this.#outbox.poke();
    this.#hangUpIfIdle();
  }

  /** A mesh that still answers wants this worker gone; one that does not is going away itself, and will come back. */
  async #meshStays(): Promise<boolean> {
    const client = connect(this.#options.address);
    try {
      const request = { parent: `namespaces/${this.#options.namespace}` };
      await unary(client, AgentService.method.listWorkers, request, { timeout: CLOSE });
      return true;
    } catch {
      return false;
    } finally {
      client.close();
    }
  }

  /** Ends an attempt to reach the mesh that nothing needs any more. */
  #hangUpIfIdle(): void {
    if (this.#stream && this.#attached !== true && this.#isEmpty) {
      this.#isClosing = true;
      this.#stream.cancel();
    }
  }

  /** Opens a stream and serves it until it ends. ServiceError says why it broke, RefusedError that it is final. */
  async #attach(): Promise<void> {
    this.#meshDrains = this.#isClosing = false;
    const client = connect(this.#options.address);
    const stream = frames(client, WorkerService.method.connect);
    this.#stream = stream;
    const over = new AbortController();
    const { signal } = over;
    const patience = setTimeout(() => stream.cancel(), WELCOME);
    let isWelcome = false;
    try {
      stream.write(this.#hello(), () => undefined);
      for await (const frame of stream as AsyncIterable<ConnectResponse>) {
        if (!isWelcome) {
          clearTimeout(patience);
          this.#welcome(frame.welcome);
          isWelcome = true;
          void this.#write(stream, signal);
          void this.#renew(signal);
        }
        this.#take(frame);
      }
      if (!isWelcome || !(this.#meshDrains || this.#isOver)) {
        throw broken("the mesh closed the stream");
      }
    } catch (cause) {
      const error = isPrematureClose(cause) ? broken("the stream was cut") : cause;
      // Otherwise it was this side that hung up.
      if (!(this.#isClosing && isServiceError(error))) {
        if (!isWelcome && isServiceError(error)) this.#checkRefusal(error);
        throw error;
      }
    } finally {
      clearTimeout(patience);
      this.#stream = undefined;
      over.abort();
      this.#outbox.poke();
      stream.on("error", () => undefined);
      stream.cancel();
      client.close();
    }
  }

  #checkRefusal(error: ServiceError): void {
    const problem = fromServiceError(error);
    if (!REFUSALS.includes(problem.code)) return;
    const why = `${problem.code}: ${problem.message}`;
    throw new RefusedError(`${this.#options.address} refuses worker '${this.#options.workerId}': ${why}`);
  }

  #hello(): Buffer {
    const { workerId, namespace, slots } = this.#options;
    const agents = [...this.#agents.values()].map(({ id, type, description, capabilities, slot }) => {
      return { agent: id, type, description, capabilities: [...capabilities], slot };
    });
    const hello = {
      workerId,
      sessionId: this.#sessionId,
      parent: `namespaces/${namespace}`,
      minProtocol: PROTOCOL,
      maxProtocol: PROTOCOL,
      agents,
      slots: [...slots].map(([slot, credits]) => ({ slot, credits })),
      sdk: SDK,
    };
    return Buffer.from(toBinary(ConnectRequestSchema, create(ConnectRequestSchema, { hello })));
  }

  #welcome(welcome: Welcome | undefined): void {
    const { address, log, onReady } = this.#options;
    if (!welcome) throw new RefusedError(`${address} did not begin with a welcome; is it a Consort mesh?`);
    if (welcome.protocol !== PROTOCOL) {
      throw new RefusedError(`${address} speaks protocol ${welcome.protocol}, this worker ${PROTOCOL}`);
    }
    this.tasks.resume(welcome.resumed.map(({ task, leaseToken }) => ({ task, token: leaseToken })));
    this.#outbox.rewind(this.#isStopping);
    this.#attached = true;
    this.#ttl = Math.max(welcome.leaseTtl ? seconds(welcome.leaseTtl) * 1000 : 0, 300);
    const agents = [...this.#agents.keys()].join(", ");
    log("info", `attached to ${welcome.server || "the mesh"} at ${address}: agents ${agents}`);
    onReady?.();
  }

  #noteAbsence(error: ServiceError): void {
    const problem = fromServiceError(error);
    const { address, workerId, log } = this.#options;
    if (problem.reason === "SESSION_REPLACED") {
      throw new RefusedError(`another worker took the name '${workerId}'; give each its own`);
    }
    if (this.#attached !== false) {
      const what = this.#attached ? "lost the mesh" : "no mesh";
      log("warn", `${what} at ${address} (${problem.code}: ${problem.message}); trying again until it answers`);
    }
    this.#attached = false;
  }

  /** Writes what waits, a frame at a time, and half-closes when there is nothing left to do. */
  async #write(stream: Stream, over: AbortSignal): Promise<void> {
    // A stream that has failed never takes what it was given.
    let release = (): void => undefined;
    over.addEventListener("abort", () => release(), { once: true });
    while (!over.aborted) {
      const frame = this.#outbox.take();
      if (frame) {
        await new Promise<void>((resolve) => {
          release = resolve;
          stream.write(frame, () => resolve());
        });
      } else if ((this.#isStopping || this.#meshDrains) && this.#isEmpty) {
        this.#isClosing = true;
        stream.end();
        await pause(CLOSE, over);
        stream.cancel();
        return;
      } else {
        await this.#outbox.wait();
      }
    }
  }

  async #renew(over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      const passed = Math.max(performance.now() - this.#clock.at, 1);
      const used = process.cpuUsage(this.#clock.used);
      this.#clock = { at: performance.now(), used: process.cpuUsage() };
      this.#outbox.renew((used.user + used.system) / 1000 / passed, process.memoryUsage.rss());
      await pause(this.#ttl / 3, over);
    }
  }

  #take(frame: ConnectResponse): void {
    const isDraining = this.#isStopping || this.#meshDrains;
    for (const assignment of frame.assignments) this.tasks.start(assignment, isDraining);
    for (const { lease, reason } of frame.cancels) {
      if (lease) this.tasks.cancel({ task: lease.task, token: lease.leaseToken }, reason);
    }
    for (const { lease, error } of frame.acks) {
      if (!lease) continue;
      if (error) this.#options.log("warn", `the answer of ${lease.task} was refused: ${error.message}`);
      this.#outbox.acknowledge(keyOf({ task: lease.task, token: lease.leaseToken }));
    }
    if (frame.drain && !this.#meshDrains) {
      this.#options.log("info", `the mesh asks to drain: ${this.tasks.size} tasks in hand`);
      this.#meshDrains = true;
      this.#outbox.drain();
    }
  }
}

function broken(details: string): ServiceError {
  return Object.assign(new Error(details), { code: status.UNAVAILABLE, details, metadata: new Metadata() });
}

function isPrematureClose(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ERR_STREAM_PREMATURE_CLOSE";
}
