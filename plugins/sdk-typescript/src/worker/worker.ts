// Workers: processes that perform tasks for the mesh.
import type { Static, TSchema } from "typebox";
import { RefusedError } from "../errors.js";
import { resolve } from "../net.js";
import { Schema } from "../schema.js";
import { Session, type SessionOptions } from "./session.js";
import type { Plan, Task } from "./task.js";
import type { Agent, Logger } from "./tasks.js";

/** How a worker is set up. */
export interface WorkerOptions {
  /** `host:port`, or with `https://` before it; left out, CONSORT_ADDR or 127.0.0.1:7420. */
  address?: string;
  /** `default` if it is left out. */
  namespace?: string;
  /** Tasks at once, as a number or by slot type; 16 if it is left out. */
  slots?: number | Record<string, number>;
  /** Seconds that a stop waits for what is in hand; 300 if it is left out. */
  drainTimeout?: number;
  /** Called each time the mesh welcomed the worker. */
  onReady?: () => void;
  /** Where the worker's own lines go; standard error if it is left out. */
  log?: Logger;
}

/** What an agent is. */
export interface AgentOptions<I extends TSchema, O extends TSchema> {
  /** What it is for, in a sentence. */
  description?: string;
  /** What kind of agent it is. */
  type?: string;
  /** What it can do. */
  capabilities?: readonly string[];
  /** Slot type its tasks take; `default` if it is left out. */
  slot?: string;
  /** Schema of its input: what does not match fails with INVALID_ARGUMENT. */
  input?: I;
  /** Schema of its output. */
  output?: O;
}

/** Performs a task: returns its output, any JSON value, or a Plan; throws a TaskError. */
export type TaskHandler<I extends TSchema, O extends TSchema> = (
  input: Static<I>,
  task: Task,
) => Static<O> | Plan | Promise<Static<O> | Plan>;

const NAME = /^[a-z0-9._-]{1,63}$/;
const MAX_AGENTS = 100;
const MAX_SLOTS = 10_000;
const REFUSED = 2;

/** Serves agents: register handlers with `agent`, then `run`. */
export class Worker {
  readonly #options: SessionOptions;
  readonly #agents = new Map<string, Agent>();
  #session: Session | undefined;

  /**
   * `name` is the worker's stable name, unique in its namespace; the environment's CONSORT_WORKER_ID goes before it, so
   * that one program can run more than once. TypeError names what is wrong about any of the options.
   */
  constructor(name: string, options: WorkerOptions = {}) {
    const { slots = 16, drainTimeout = 300 } = options;
    const byType = new Map(Object.entries(typeof slots === "number" ? { default: slots } : slots));
    if (byType.size === 0) throw new TypeError("slots: none; give at least one");
    for (const [slot, count] of byType) {
      if (!(Number.isInteger(count) && count >= 1 && count <= MAX_SLOTS)) {
        throw new TypeError(`slots: ${count} of type '${slot}'; give 1 to ${MAX_SLOTS}`);
      }
    }
    if (!(drainTimeout >= 0)) throw new TypeError(`drainTimeout: ${drainTimeout} is no time; give the seconds to wait`);
    this.#options = {
      workerId: checked("name", process.env["CONSORT_WORKER_ID"] || name),
      address: resolve(options.address),
      namespace: checked("namespace", options.namespace ?? "default"),
      slots: byType,
      drainTimeout,
      onReady: options.onReady,
      log:
        options.log ?? ((level, line) => void process.stderr.write(`${new Date().toISOString()} ${level} ${line}\n`)),
    };
  }

  /** Registers the handler of an agent and returns the worker. TypeError names what is wrong about it. */
  agent<const I extends TSchema = object, const O extends TSchema = object>(
    id: string,
    options: AgentOptions<I, O>,
    handler: TaskHandler<I, O>,
  ): this {
    checked("agent", id);
    const { type = "", description = "", capabilities = [], slot = "default" } = options;
    if (this.#agents.has(id)) throw new TypeError(`agent: '${id}' is registered twice; give each handler its own`);
    if (this.#agents.size >= MAX_AGENTS) {
      throw new TypeError(`agent: '${id}' is one too many; a worker serves at most ${MAX_AGENTS}`);
    }
    if (!this.#options.slots.has(slot)) {
      const offered = [...this.#options.slots.keys()].join(", ");
      throw new TypeError(`slot: no slots of type '${slot}'; the worker offers ${offered}`);
    }
    const input = options.input && new Schema(options.input, `agent '${id}', input`);
    const output = options.output && new Schema(options.output, `agent '${id}', output`);
    // What the schemas let through has the types that were inferred from them.
    const erased = handler as Agent["handler"];
    this.#agents.set(id, { id, type, description, capabilities, slot, input, output, handler: erased });
    return this;
  }

  /**
   * Serves until SIGTERM or SIGINT, finishes what is in hand, and resolves. A second signal exits at once. Leaves the
   * process with status 2 and one line on standard error if the mesh will never take this worker.
   */
  async run(): Promise<void> {
    const end = (signal: NodeJS.Signals): void => {
      if (this.#isStopped) process.exit(signal === "SIGINT" ? 130 : 143);
      this.stop();
    };
    process.on("SIGTERM", end).on("SIGINT", end);
    try {
      await this.serve();
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      this.#options.log("error", error.message);
      process.exit(REFUSED);
    } finally {
      process.off("SIGTERM", end).off("SIGINT", end);
    }
    if (this.#session && this.#session.tasks.running > 0) {
      this.#options.log("warn", `${this.#session.tasks.running} handlers did not stop when told; leaving them`);
      process.exit(0);
    }
  }

  /** Serves until `stop`. RefusedError if the mesh will never take this worker. */
  async serve(): Promise<void> {
    if (this.#agents.size === 0) throw new TypeError("agents: none; register a handler with worker.agent(...)");
    this.#session = new Session(this.#options, this.#agents);
    if (this.#isStopped) this.#session.stop();
    await this.#session.run();
  }

  /** Takes nothing new; `serve` resolves when what is in hand is done. */
  stop(): void {
    this.#isStopped = true;
    this.#session?.stop();
  }

  #isStopped = false;
}

function checked(field: string, name: string): string {
  if (!NAME.test(name)) {
    throw new TypeError(`${field}: '${name}' is malformed; use 1 to 63 characters of a-z, 0-9, '-', '_' and '.'`);
  }
  return name;
}
