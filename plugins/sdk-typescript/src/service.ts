// The service that the mesh calls: hello, configure, invoke, drain.
import { create } from "@bufbuild/protobuf";
import type { sendUnaryData, ServerUnaryCall, ServerWritableStream, UntypedServiceImplementation } from "@grpc/grpc-js";
import { asStatusError, PluginError, toServiceError } from "./errors.js";
import {
  ConfigureResponseSchema,
  DrainResponseSchema,
  Effect,
  HelloResponseSchema,
  OperationSchema,
  type ConfigureRequest,
  type ConfigureResponse,
  type DrainRequest,
  type DrainResponse,
  type HelloRequest,
  type HelloResponse,
  type InvokeRequest,
  type InvokeResponse,
  type Operation as Described,
  type Permissions,
} from "./gen/consort/plugin/v1/plugin_service_pb.js";
import type { MeshHost } from "./host.js";
import { perform } from "./perform.js";
import type { Operation, Served } from "./plugin.js";
import { listed } from "./schema.js";
import { duration, pause, seconds } from "./time.js";
import { decodeInline, inline } from "./values.js";
import { SDK } from "./version.js";
import { Writer } from "./writer.js";

/** Version of the plugin protocol. */
export const PROTOCOL = 1;
/** How long a cancelled call may take to notice, in milliseconds. */
const NOTICE = 1000;
/** How long before its own deadline Drain answers, in milliseconds. */
const ANSWER = 200;
const LONGEST_TIMER = 2 ** 31 - 1;
const EFFECTS = {
  read: Effect.READ,
  idempotent_write: Effect.IDEMPOTENT_WRITE,
  write: Effect.WRITE,
} as const;

/** A plugin as a service: its configuration, and its calls in work. */
export class Service {
  readonly #plugin: Served;
  readonly #host: MeshHost;
  readonly #limit: number;
  readonly #onDrain: () => void;
  readonly #calls = new Map<AbortController, Promise<void>>();
  #settings: { config: unknown; permissions: Permissions | undefined } | undefined;
  #isDraining = false;

  /** `limit` is how many calls may be in work at once; `onDrain` is told when no more are taken. */
  constructor(plugin: Served, host: MeshHost, limit: number, onDrain: () => void) {
    this.#plugin = plugin;
    this.#host = host;
    this.#limit = limit;
    this.#onDrain = onDrain;
  }

  /** The methods, for grpc-js. */
  methods(): UntypedServiceImplementation {
    return {
      hello: answered<HelloRequest, HelloResponse>((request) => this.#hello(request)),
      configure: answered<ConfigureRequest, ConfigureResponse>((request) => this.#configure(request)),
      drain: answered<DrainRequest, DrainResponse>((request, call) => this.#drain(request, call.getDeadline())),
      invoke: (call: ServerWritableStream<InvokeRequest, InvokeResponse>) => void this.#invoke(call),
    };
  }

  /** Takes nothing new, waits for the calls in work, cancels those that take longer, and tells how many these were. */
  async drain(grace: number): Promise<number> {
    this.#isDraining = true;
    this.#onDrain();
    const timeUp = new AbortController();
    await Promise.race([this.#idle(), pause(Math.min(grace, LONGEST_TIMER), timeUp.signal)]);
    timeUp.abort();
    const late = [...this.#calls.keys()];
    for (const call of late) call.abort(new PluginError("CANCELLED", "the plugin ends", { reason: "PLUGIN_DRAINED" }));
    if (late.length > 0) await Promise.race([this.#idle(), pause(NOTICE)]);
    return late.length;
  }

  async #idle(): Promise<void> {
    while (this.#calls.size > 0) await Promise.all(this.#calls.values());
  }

  #hello(request: HelloRequest): HelloResponse {
    if (request.protocol !== PROTOCOL) {
      throw new PluginError("FAILED_PRECONDITION", `protocol ${request.protocol}: this plugin speaks ${PROTOCOL}`);
    }
    const { name, version, description, config, operations } = this.#plugin;
    const described = [...operations.values()].map(describe);
    const configSchema = config?.json;
    return create(HelloResponseSchema, {
      name,
      version,
      description,
      operations: described,
      configSchema,
      sdk: SDK,
    });
  }

  async #configure(request: ConfigureRequest): Promise<ConfigureResponse> {
    const config = request.config ?? {};
    const mistakes = this.#plugin.config?.mistakes(config, 0);
    if (mistakes) {
      throw new PluginError("INVALID_ARGUMENT", `configuration of '${this.#plugin.name}': ${listed(mistakes)}`, {
        reason: "CONFIG_INVALID",
        fields: mistakes,
      });
    }
    await this.#plugin.configured(config, request.permissions);
    this.#settings = { config, permissions: request.permissions };
    return create(ConfigureResponseSchema);
  }

  async #drain(request: DrainRequest, deadline: Date | number): Promise<DrainResponse> {
    const left = Number(deadline) - Date.now() - ANSWER - NOTICE;
    const grace = request.grace ? seconds(request.grace) * 1000 : Infinity;
    const cancelled = await this.drain(Math.max(0, Math.min(grace, left)));
    return create(DrainResponseSchema, { cancelled });
  }

  async #invoke(stream: ServerWritableStream<InvokeRequest, InvokeResponse>): Promise<void> {
    const control = new AbortController();
    let finished: () => void = () => undefined;
    const timer = this.#watch(stream, control);
    try {
      const settings = this.#admit();
      this.#calls.set(control, new Promise((resolve) => (finished = resolve)));
      await this.#perform(stream, control.signal, settings);
    } catch (error) {
      // A call that is over by itself takes no status any more; one that the plugin cancels does.
      if (!stream.cancelled) stream.emit("error", toServiceError(asStatusError(error, control.signal)));
    } finally {
      clearTimeout(timer);
      this.#calls.delete(control);
      finished();
    }
  }

  async #perform(
    stream: ServerWritableStream<InvokeRequest, InvokeResponse>,
    signal: AbortSignal,
    settings: { config: unknown; permissions: Permissions | undefined },
  ): Promise<void> {
    const { operation, input, callId, idempotencyKey, dryRun, origin } = stream.request;
    const writer = new Writer(stream, signal);
    const value = readInput(stream.request);
    const at = Number(stream.getDeadline());
    const outcome = await perform(
      this.#plugin,
      {
        ...settings,
        operation,
        input: value,
        size: input?.kind.case === "json" ? input.kind.value.length : 0,
        callId,
        idempotencyKey,
        dryRun,
        origin: { namespace: origin?.namespace ?? "", step: origin?.step ?? "", agent: origin?.agent ?? "" },
        signal,
        deadline: Number.isFinite(at) ? new Date(at) : undefined,
        host: this.#host.within(signal),
      },
      writer,
    );
    await writer.result({
      output: outcome.json === undefined ? undefined : inline(outcome.json),
      mediaType: outcome.mediaType,
      would: outcome.would,
      actions: outcome.actions,
    });
  }

  #admit(): { config: unknown; permissions: Permissions | undefined } {
    if (this.#isDraining)
      throw new PluginError("UNAVAILABLE", "the plugin ends; ask its successor", { reason: "DRAINING" });
    if (!this.#settings) throw new PluginError("FAILED_PRECONDITION", "not configured yet; call Configure first");
    if (this.#calls.size >= this.#limit) {
      throw new PluginError("RESOURCE_EXHAUSTED", `${this.#limit} calls are in work; try again later`, {
        reason: "IN_FLIGHT_LIMIT",
        retryAfter: 0.1,
      });
    }
    return this.#settings;
  }

  /** Tells the handler that its call is over: cancelled, or late. */
  #watch(
    stream: ServerWritableStream<InvokeRequest, InvokeResponse>,
    control: AbortController,
  ): NodeJS.Timeout | undefined {
    const left = Number(stream.getDeadline()) - Date.now();
    const late = (): void => control.abort(new PluginError("DEADLINE_EXCEEDED", "the call's deadline passed"));
    stream.on("cancelled", () => {
      if (Number(stream.getDeadline()) <= Date.now()) late();
      else control.abort(new PluginError("CANCELLED", "the caller cancelled"));
    });
    // Not left to grpc-js: it tells only after everything that waits was taken.
    return Number.isFinite(left) && left < LONGEST_TIMER ? setTimeout(late, Math.max(0, left)) : undefined;
  }
}

function readInput(request: InvokeRequest): unknown {
  if (!request.input) return {};
  if (request.input.kind.case === "blob") {
    throw new PluginError("INVALID_ARGUMENT", "the input is a blob; an operation's input travels inline, up to 1 MiB", {
      reason: "INPUT_NOT_INLINE",
    });
  }
  try {
    return decodeInline(request.input);
  } catch (error) {
    throw new PluginError("INVALID_ARGUMENT", `the input is no JSON: ${(error as Error).message}`, {
      reason: "INPUT_INVALID",
    });
  }
}

function describe(operation: Operation): Described {
  const { name, description, input, output, effect, timeout, dryRun } = operation;
  return create(OperationSchema, {
    name,
    description,
    inputSchema: input.json,
    outputSchema: output?.json,
    effect: EFFECTS[effect],
    timeout: timeout === undefined ? undefined : duration(timeout),
    dryRun,
  });
}

function answered<I, O>(work: (request: I, call: ServerUnaryCall<I, O>) => O | Promise<O>) {
  return (call: ServerUnaryCall<I, O>, done: sendUnaryData<O>): void => {
    Promise.resolve()
      .then(() => work(call.request, call))
      .then(
        (answer) => done(null, answer),
        (error: unknown) => done(toServiceError(asStatusError(error))),
      );
  };
}
