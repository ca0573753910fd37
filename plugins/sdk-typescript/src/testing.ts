// Helpers for the tests of plugin authors: a plugin without a process, and a mesh of memory.
import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Sink } from "./call.js";
import type { Level, Origin } from "./context.js";
import { PluginError } from "./errors.js";
import { PermissionsSchema } from "./gen/consort/plugin/v1/plugin_service_pb.js";
import type { Host } from "./host.js";
import { perform } from "./perform.js";
import type { Plugin } from "./plugin.js";
import { listed } from "./schema.js";
import { encode, type JsonValue } from "./values.js";

/** What the plugin is tested with. */
export interface TestOptions {
  /** The operator's configuration. */
  config?: unknown;
  /** What is granted. */
  permissions?: MessageInitShape<typeof PermissionsSchema>;
  /** What it finds as `ctx.host`; a FakeHost without secrets if it is left out. */
  host?: Host;
}

/** How a call is made. */
export interface InvokeOptions {
  dryRun?: boolean;
  idempotencyKey?: string;
  origin?: Partial<Origin>;
  /** Cancels the call. */
  signal?: AbortSignal;
  /** Milliseconds after which its deadline passes. */
  timeout?: number;
}

/** What a call led to. */
export interface Invoked<Output = JsonValue> {
  /** The output as its caller gets it; undefined if it left as bytes. */
  output: Output;
  /** Bytes of the chunks, if there were any. */
  bytes: Buffer | undefined;
  /** Media type of the chunks, or empty. */
  mediaType: string;
  progress: { fraction: number; message: string }[];
  logs: { level: Level; message: string }[];
  would: string[];
  actions: string[];
}

/** A plugin in this process. `invoke` rejects with the StatusError that a caller would see. */
export interface TestPlugin {
  invoke<Output = JsonValue>(operation: string, input?: unknown, options?: InvokeOptions): Promise<Invoked<Output>>;
}

/** Calls the operations of a plugin as the mesh would, with all checks, but without a process. */
export async function testPlugin<Config>(plugin: Plugin<Config>, options: TestOptions = {}): Promise<TestPlugin> {
  const config = copied(options.config ?? {});
  const permissions = options.permissions && create(PermissionsSchema, options.permissions);
  const mistakes = plugin.config?.mistakes(config, 0);
  if (mistakes) throw new PluginError("INVALID_ARGUMENT", `configuration: ${listed(mistakes)}`, { fields: mistakes });
  await plugin.configured(config, permissions);
  const host = options.host ?? new FakeHost();
  return {
    invoke: async <Output>(operation: string, input: unknown = {}, how: InvokeOptions = {}) => {
      const recorder = new Recorder();
      const control = new AbortController();
      const cancel = (): void => control.abort(new PluginError("CANCELLED", "the caller cancelled"));
      if (how.signal?.aborted) cancel();
      how.signal?.addEventListener("abort", cancel);
      const late = (): void => control.abort(new PluginError("DEADLINE_EXCEEDED", "the call's deadline passed"));
      const timer = how.timeout === undefined ? undefined : setTimeout(late, how.timeout);
      try {
        const text = encode(input);
        const request = {
          operation,
          input: JSON.parse(text) as unknown,
          size: text.length,
          callId: randomUUID(),
          idempotencyKey: how.idempotencyKey ?? randomUUID(),
          dryRun: how.dryRun ?? false,
          origin: { namespace: "namespaces/default", step: "", agent: "", ...how.origin },
          signal: control.signal,
          deadline: how.timeout === undefined ? undefined : new Date(Date.now() + how.timeout),
          config,
          permissions,
          host,
        };
        const { json, mediaType, would, actions } = await perform(plugin, request, recorder);
        const bytes = mediaType ? Buffer.concat(recorder.chunks) : undefined;
        const whole = mediaType === "application/json" ? bytes?.toString() : json;
        const output = (whole === undefined ? undefined : JSON.parse(whole)) as Output;
        return { output, bytes, mediaType, progress: recorder.lines, logs: recorder.logs, would, actions };
      } finally {
        clearTimeout(timer);
        how.signal?.removeEventListener("abort", cancel);
      }
    },
  };
}

/** A mesh of memory, for tests: what the plugin asked for and said can be looked at. */
export class FakeHost implements Host {
  readonly state = new Map<string, Uint8Array>();
  readonly events: { name: string; data: unknown }[] = [];
  readonly #secrets: Record<string, string>;

  /** `secrets` are those that are granted. */
  constructor(secrets: Record<string, string> = {}) {
    this.#secrets = secrets;
  }

  async getSecret(name: string): Promise<string> {
    const value = this.#secrets[name];
    if (value === undefined) throw new PluginError("PERMISSION_DENIED", `secret '${name}' is not granted`);
    return value;
  }

  async getState(key: string): Promise<Uint8Array | undefined> {
    return this.state.get(key);
  }

  async putState(key: string, value: Uint8Array | string): Promise<void> {
    const bytes = new Uint8Array(Buffer.from(value));
    if (bytes.length > 0) this.state.set(key, bytes);
    else this.state.delete(key);
  }

  async publishEvent(name: string, data: unknown = null): Promise<string> {
    this.events.push({ name, data });
    return randomUUID();
  }
}

class Recorder implements Sink {
  readonly lines: { fraction: number; message: string }[] = [];
  readonly logs: { level: Level; message: string }[] = [];
  readonly chunks: Uint8Array[] = [];

  progress(fraction: number, message: string): void {
    this.lines.push({ fraction, message });
  }

  async log(level: Level, message: string): Promise<void> {
    this.logs.push({ level, message });
  }

  async chunk(bytes: Uint8Array): Promise<void> {
    // The handler may use its buffer again.
    this.chunks.push(Uint8Array.from(bytes));
  }
}

function copied(value: unknown): unknown {
  return JSON.parse(encode(value)) as unknown;
}
