// A task, as its handler sees it.
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Blobs } from "../blobs.js";
import type { Level } from "../context.js";
import { StatusError, type Code, type ErrorOptions } from "../errors.js";
import { LogLevel, type StepReportSchema } from "../gen/consort/agent/v1/agent_service_pb.js";
import type { Assignment } from "../gen/consort/agent/v1/worker_service_pb.js";
import { cut } from "../text.js";
import { now } from "../time.js";
import { encode } from "../values.js";
import type { Lease, Outbox } from "./outbox.js";
import { Asking, type AskOptions, type Clarification } from "./question.js";

/** Bytes of a message or a line at most. */
export const MAX_MESSAGE = 8 * 1024;
const PROGRESS_TEXT = 1024;
const MAX_PLAN = 1024 * 1024;
const LEVELS = { debug: LogLevel.DEBUG, info: LogLevel.INFO, warn: LogLevel.WARN, error: LogLevel.ERROR } as const;
// Codes that blame the request: trying again cannot help.
const FINAL: readonly Code[] = [
  "INVALID_ARGUMENT",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
  "FAILED_PRECONDITION",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "DATA_LOSS",
];

/** How a handler says that its task failed. */
export class TaskError extends StatusError {
  override name = "TaskError";
  /** Whether another attempt can help; left out, it follows from the code: those that blame the request are final. */
  readonly retryable: boolean;

  constructor(code: Code, message: string, options: ErrorOptions & { retryable?: boolean } = {}) {
    super(code, message, options);
    this.retryable = options.retryable ?? canRetry(code);
  }
}

/** Whether another attempt can help after this code. */
export function canRetry(code: Code): boolean {
  return !FINAL.includes(code);
}

/** What a handler returns to answer with a workflow, which is run as a child; the step must say `plan: true`. */
export class Plan {
  /** The definition, in YAML or JSON. */
  readonly text: string;

  /** `definition` is YAML, or a value that becomes JSON; RangeError if it has more than 1 MiB. */
  constructor(definition: string | object) {
    this.text = typeof definition === "string" ? definition : encode(definition);
    if (Buffer.byteLength(this.text) > MAX_PLAN) throw new RangeError("plan: more than 1 MiB; split the workflow");
  }
}

/** One attempt of one step. Its reports do nothing once it is over. */
export class Task {
  /** `namespaces/{namespace}/runs/{uuid}/steps/{step}/attempts/{n}`. */
  readonly name: string;
  readonly agent: string;
  /** Id of the workflow, for logs. */
  readonly workflow: string;
  /** Which attempt this is, from 1; lost leases do not count. */
  readonly attempt: number;
  /** Equal for all attempts of the step: hand it to receivers that can tell repeats. */
  readonly idempotencyKey: string;
  /** When the attempt is taken as failed; undefined if never. */
  readonly deadline: Date | undefined;
  /** What people have answered to questions about this step, in their order: those of `ask`, and that of `clarify`. */
  clarifications: readonly Clarification[] = [];
  /** Aborted when the answer no longer matters: stop as soon as you can. */
  readonly signal: AbortSignal;
  /** The question that ended the handler. */
  asking: Asking | undefined;
  readonly #told = new Set<Clarification>();
  readonly #lease: Lease;
  readonly #outbox: Outbox;
  readonly #blobs: Blobs;

  /** Made by the worker. */
  constructor(assignment: Assignment, signal: AbortSignal, outbox: Outbox, blobs: Blobs) {
    this.name = assignment.task;
    this.agent = assignment.agent;
    this.workflow = assignment.workflow;
    this.attempt = assignment.attempt;
    this.idempotencyKey = assignment.idempotencyKey;
    this.deadline = assignment.deadline && timestampDate(assignment.deadline);
    this.signal = signal;
    this.#lease = { task: assignment.task, token: assignment.leaseToken };
    this.#outbox = outbox;
    this.#blobs = blobs;
  }

  /** Says how far the task is, from 0 to 1. RangeError outside of that. */
  progress(fraction: number, text = ""): void {
    if (!(fraction >= 0 && fraction <= 1)) throw new RangeError(`fraction: ${fraction} is not between 0 and 1`);
    if (this.signal.aborted) return;
    const value = { fraction, text: cut(text, PROGRESS_TEXT) };
    this.#outbox.progress(this.#lease, this.#stamped({ kind: { case: "progress", value } }));
  }

  /**
   * Writes a line into the run's history; what is longer than 8 KiB is cut. Waits while 4 MiB of reports are queued.
   */
  async log(level: Level, text: string): Promise<void> {
    if (!(level in LEVELS)) throw new RangeError(`level: '${level}' is none of ${Object.keys(LEVELS).join(", ")}`);
    await this.#report({ kind: { case: "log", value: { level: LEVELS[level], text: cut(text, MAX_MESSAGE) } } });
  }

  /** Writes a named fact, such as a tool call and its result, into the run's history. */
  async note(name: string, value: unknown): Promise<void> {
    await this.#report({
      kind: { case: "note", value: { name, value: await this.#blobs.payload(encode(value)) } },
    });
  }

  /**
   * Asks a person, and ends the handler until somebody has answered.
   *
   * The first time it throws what should leave the handler: the question goes to the mesh, the step is BLOCKED, and this
   * attempt is over without a failure, whatever the handler does from here on. When the question is answered the step is
   * handed out again, to any worker of the agent; the handler begins anew, and now this call returns the answer. So what
   * a handler does before it asks is done again, and a question is known by its title: the second call with the same
   * title returns the second answer to it, or asks again. RangeError names what the mesh would refuse.
   */
  ask(title: string, options: AskOptions = {}): Clarification {
    const known = this.clarifications.find((each) => each.title === title && !this.#told.has(each));
    if (known) {
      this.#told.add(known);
      return known;
    }
    throw (this.asking ??= new Asking(title, options));
  }

  async #report(report: MessageInitShape<typeof StepReportSchema>): Promise<void> {
    if (!this.signal.aborted) await this.#outbox.report(this.#stamped(report), this.signal);
  }

  #stamped(report: MessageInitShape<typeof StepReportSchema>) {
    const lease = { task: this.#lease.task, leaseToken: this.#lease.token };
    return { reports: [{ lease, report, time: now() }] };
  }
}
