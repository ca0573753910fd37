// A thin client: apply a workflow, start runs of it, wait for them, stop them.
import type { Client as Connection } from "@grpc/grpc-js";
import { codeName, RpcError } from "./errors.js";
import { Blobs } from "./blobs.js";
import { OrchestratorService } from "./gen/consort/orchestrator/v1/orchestrator_service_pb.js";
import { RunState as WireState, type Run } from "./gen/consort/orchestrator/v1/run_pb.js";
import { connect, resolve } from "./net.js";
import { unary } from "./rpc.js";
import { duration } from "./time.js";
import { encode, type JsonValue } from "./values.js";

/** How the mesh is reached. */
export interface ClientOptions {
  /** `host:port`, or with `https://` before it; left out, CONSORT_ADDR or 127.0.0.1:7420. */
  address?: string;
  /** `default` if it is left out. */
  namespace?: string;
}

/** How a run is started. */
export interface StartOptions {
  /** Any unique text: a call that is repeated with it starts nothing again. */
  requestId?: string;
  labels?: Record<string, string>;
}

/** State of a run. */
export type RunState = Exclude<keyof typeof WireState, "UNSPECIFIED">;

/** A run, as it was when the mesh answered. */
export interface RunResult {
  /** `namespaces/{namespace}/runs/{uuid}`. */
  name: string;
  state: RunState;
  /** Its output, `null` until it succeeded. */
  output: JsonValue;
  /** Why it failed. */
  error: RpcError | undefined;
}

const TIMEOUT = 30_000;
const LONGEST_WAIT = 20_000;
const OVER: readonly RunState[] = ["SUCCEEDED", "FAILED", "CANCELLED"];

/** Calls the mesh. Every method rejects with RpcError if it refuses. */
export class Client {
  readonly #connection: Connection;
  readonly #blobs: Blobs;
  readonly #parent: string;

  constructor(options: ClientOptions = {}) {
    const address = resolve(options.address);
    this.#connection = connect(address);
    this.#blobs = new Blobs(address);
    this.#parent = `namespaces/${options.namespace ?? "default"}`;
  }

  /**
   * Stores a definition, in YAML or JSON, and returns its revision. `fields` of the error has every mistake by its
   * place.
   */
  async applyWorkflow(source: string): Promise<number> {
    const request = { parent: this.#parent, source };
    const { applyWorkflow } = OrchestratorService.method;
    return Number((await unary(this.#connection, applyWorkflow, request, { timeout: TIMEOUT })).revision);
  }

  /** Starts a run of a workflow, by its id, and returns the run's name. */
  async startRun(workflow: string, inputs: unknown = {}, options: StartOptions = {}): Promise<string> {
    const request = {
      workflow: `${this.#parent}/workflows/${workflow}`,
      inputs: await this.#blobs.payload(encode(inputs)),
      requestId: options.requestId ?? "",
      labels: options.labels ?? {},
    };
    return (await unary(this.#connection, OrchestratorService.method.startRun, request, { timeout: TIMEOUT })).name;
  }

  /** Waits until the run is over, at most so many seconds: the state tells. */
  async waitRun(name: string, timeout = 60): Promise<RunResult> {
    const end = Date.now() + timeout * 1000;
    for (;;) {
      const wait = Math.max(0, Math.min(end - Date.now(), LONGEST_WAIT));
      const request = { name, wait: duration(wait / 1000) };
      const settings = { timeout: wait + TIMEOUT };
      const run = await this.#result(
        await unary(this.#connection, OrchestratorService.method.waitRun, request, settings),
      );
      if (OVER.includes(run.state) || Date.now() >= end) return run;
    }
  }

  /** Stops a run; its workers are told to stop its tasks. */
  async cancelRun(name: string, reason = ""): Promise<void> {
    await unary(this.#connection, OrchestratorService.method.cancelRun, { name, reason }, { timeout: TIMEOUT });
  }

  /** Hangs up. */
  close(): void {
    this.#connection.close();
    this.#blobs.close();
  }

  async #result(run: Run): Promise<RunResult> {
    const { name, error } = run;
    return {
      name,
      state: (WireState[run.state] ?? "PENDING") as RunState,
      output: await this.#blobs.value(run.output),
      error: error && new RpcError(codeName(error.code), error.message),
    };
  }
}
