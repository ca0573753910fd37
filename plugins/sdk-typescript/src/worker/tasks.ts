// The tasks that a worker has in hand.
import type { Blobs } from "../blobs.js";
import { asStatusError, PluginError, StatusError, toStatus } from "../errors.js";
import type { Assignment } from "../gen/consort/agent/v1/worker_service_pb.js";
import { listed, type Schema } from "../schema.js";
import { cut } from "../text.js";
import { duration } from "../time.js";
import { encode, type JsonValue } from "../values.js";
import type { Lease, Outbox } from "./outbox.js";
import type { Asking } from "./question.js";
import { keyOf } from "./outbox.js";
import { canRetry, MAX_MESSAGE, Plan, Task, TaskError } from "./task.js";

/** An agent that the worker serves. */
export interface Agent {
  readonly id: string;
  readonly type: string;
  readonly description: string;
  readonly capabilities: readonly string[];
  readonly slot: string;
  readonly input: Schema | undefined;
  readonly output: Schema | undefined;
  readonly handler: (input: unknown, task: Task) => unknown;
}

/** Where the worker writes its own lines. */
export type Logger = (level: "info" | "warn" | "error", line: string) => void;

interface Held {
  readonly lease: Lease;
  readonly control: AbortController;
}

// Answers that may wait for their acknowledgement, beside two for each slot.
const MORE_ANSWERS = 1024;

/**
 * Starts tasks, stops them, and puts their answers into the outbox.
 *
 * At most two tasks for each slot are held: the mesh may hand out the next before the answer of the last has reached
 * it. What goes beyond is given back.
 */
export class Tasks {
  /** Handlers that have not returned, also of tasks that are over. */
  running = 0;
  readonly #agents: ReadonlyMap<string, Agent>;
  readonly #outbox: Outbox;
  readonly #blobs: Blobs;
  readonly #limit: number;
  readonly #log: Logger;
  readonly #held = new Map<string, Held>();

  constructor(agents: ReadonlyMap<string, Agent>, outbox: Outbox, blobs: Blobs, slots: number, log: Logger) {
    this.#agents = agents;
    this.#outbox = outbox;
    this.#blobs = blobs;
    this.#limit = 2 * slots;
    this.#log = log;
  }

  /** Tasks in hand. */
  get size(): number {
    return this.#held.size;
  }

  /** Begins a task, unless it is in hand or answered already; gives it back if there is no place for it. */
  start(assignment: Assignment, isDraining: boolean): void {
    const lease = { task: assignment.task, token: assignment.leaseToken };
    const key = keyOf(lease);
    const answered = this.#outbox.unacknowledged;
    if (this.#held.has(key) || answered.has(key)) return; // Handed out again after a reconnect.
    if (isDraining || this.#held.size >= this.#limit || answered.size >= this.#limit + MORE_ANSWERS) {
      this.#outbox.release(lease);
      return;
    }
    const control = new AbortController();
    this.#held.set(key, { lease, control });
    const task = new Task(assignment, control.signal, this.#outbox, this.#blobs);
    this.running += 1;
    void this.#perform(task, lease, assignment).finally(() => (this.running -= 1));
  }

  /** Stops a task whose answer no longer matters, and forgets its answer if there is one. */
  cancel(lease: Lease, reason: string): void {
    const key = keyOf(lease);
    const held = this.#held.get(key);
    if (held) {
      this.#log("info", `${lease.task} is stopped: ${reason || "no reason given"}`);
      this.#stop(key, held, reason);
    }
    this.#outbox.forget(key);
  }

  /** Makes what is in hand equal to the leases that the mesh still honours. */
  resume(leases: readonly Lease[]): void {
    const honoured = new Set(leases.map(keyOf));
    for (const [key, held] of this.#held) if (!honoured.has(key)) this.#stop(key, held, "the lease was lost");
    for (const lease of leases) {
      const key = keyOf(lease);
      // Handed out in a frame that never arrived.
      if (!this.#held.has(key) && !this.#outbox.unacknowledged.has(key)) this.#outbox.release(lease);
    }
  }

  /** Stops every task and releases its lease. */
  giveBack(): void {
    for (const [key, held] of this.#held) {
      this.#outbox.release(held.lease);
      this.#stop(key, held, "the worker ends");
    }
  }

  #stop(key: string, held: Held, reason: string): void {
    this.#held.delete(key);
    held.control.abort(new PluginError("CANCELLED", reason || "the task's answer no longer matters"));
    this.#outbox.poke();
  }

  async #perform(task: Task, lease: Lease, assignment: Assignment): Promise<void> {
    const wire = { task: lease.task, leaseToken: lease.token };
    try {
      const answer = await this.#answer(task, assignment);
      if (task.asking) throw task.asking; // The handler caught it and went on.
      const completed = answer instanceof Plan ? { plan: answer.text } : { output: answer };
      this.#finish(lease, { completed: [{ lease: wire, ...completed }] });
    } catch (error) {
      if (task.asking) {
        await this.#ask(lease, task.asking);
        return;
      }
      const problem = await this.#problem(task, error);
      const retryable = problem instanceof TaskError ? problem.retryable : canRetry(problem.code);
      const retryAfter = problem.retryAfter === undefined ? undefined : duration(problem.retryAfter);
      this.#finish(lease, {
        failed: [{ lease: wire, error: toStatus(problem, MAX_MESSAGE), retryable, retryAfter }],
      });
    }
  }

  async #ask(lease: Lease, asking: Asking): Promise<void> {
    const wire = { task: lease.task, leaseToken: lease.token };
    try {
      this.#finish(lease, { asked: [{ lease: wire, question: await asking.pack(this.#blobs) }] });
    } catch (error) {
      const problem = asStatusError(error);
      this.#finish(lease, { failed: [{ lease: wire, error: toStatus(problem, MAX_MESSAGE), retryable: true }] });
    }
  }

  /** Reads the input, calls the handler and writes the output. */
  async #answer(task: Task, assignment: Assignment) {
    const agent = this.#agents.get(assignment.agent);
    if (!agent) {
      throw new TaskError("UNIMPLEMENTED", `this worker does not serve agent '${assignment.agent}'`, {
        retryable: true,
      });
    }
    const input = await this.#read(task, assignment);
    const wrong = agent.input?.mistakes(input, 0);
    if (wrong) {
      throw new TaskError("INVALID_ARGUMENT", `input of '${agent.id}': ${listed(wrong)}`, {
        reason: "INPUT_INVALID",
        fields: wrong,
      });
    }
    const value: unknown = await agent.handler(input, task);
    if (value instanceof Plan) return value;
    let json: string;
    try {
      json = encode(value);
    } catch (error) {
      throw new TaskError("INTERNAL", `the answer of '${agent.id}' is no JSON: ${String(error)}`, {
        retryable: false,
      });
    }
    const bad = agent.output?.mistakes(JSON.parse(json), json.length);
    if (bad) {
      throw new TaskError("INTERNAL", `the answer of '${agent.id}' does not match its schema: ${listed(bad)}`, {
        reason: "OUTPUT_INVALID",
        retryable: false,
      });
    }
    return this.#blobs.payload(json);
  }

  async #read(task: Task, assignment: Assignment): Promise<JsonValue> {
    try {
      const given = assignment.clarifications.map(async ({ title, option, form, answeredBy }) => {
        return { title, option, form: await this.#blobs.value(form), answeredBy };
      });
      task.clarifications = await Promise.all(given);
      return await this.#blobs.value(assignment.input);
    } catch (error) {
      if (error instanceof StatusError) throw error;
      const problem = asStatusError(error);
      if (problem.code !== "INTERNAL") throw problem;
      throw new TaskError("INVALID_ARGUMENT", `the input cannot be read: ${problem.message}`, {
        retryable: false,
      });
    }
  }

  /** What the handler threw, with its stack on record if it was no error with a code. */
  async #problem(task: Task, error: unknown): Promise<StatusError> {
    if (error instanceof StatusError || task.signal.aborted) return asStatusError(error, task.signal);
    const known = asStatusError(error);
    if (known.code !== "INTERNAL") return known;
    const stack = error instanceof Error ? (error.stack ?? String(error)) : String(error);
    await task.log("error", cut(stack, MAX_MESSAGE));
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    return new TaskError("UNKNOWN", message, { retryable: true });
  }

  #finish(lease: Lease, answer: Parameters<Outbox["answer"]>[1]): void {
    if (this.#held.delete(keyOf(lease))) this.#outbox.answer(lease, answer);
  }
}
