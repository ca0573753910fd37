// A plugin and its operations, as their author writes them.
import type { Static, TSchema } from "typebox";
import type { Context, Streamed } from "./context.js";
import type { Permissions } from "./gen/consort/plugin/v1/plugin_service_pb.js";
import { Schema } from "./schema.js";
import { serve, type ServeOptions } from "./serve.js";

/** What a repeated call does: nothing, the same once more, or twice as much. */
export type Effect = "read" | "idempotent_write" | "write";

/** Who a plugin is. */
export interface PluginOptions<C extends TSchema> {
  /** Its id, as in its manifest: 1 to 63 characters of a-z, 0-9 and `-`, from a letter on. */
  name: string;
  /** Semantic version. */
  version: string;
  /** What it is for, in a sentence. */
  description: string;
  /** Schema of its configuration, which handlers find as `ctx.config`. */
  config?: C;
  /** Called with the operator's configuration before the first call; a PluginError ends the start. */
  configure?: (config: Static<C>, permissions: Permissions | undefined) => void | Promise<void>;
  /** Called when the plugin ends, after all calls. */
  close?: () => void | Promise<void>;
}

/** What an operation is. */
export interface OperationOptions<I extends TSchema, O extends TSchema> {
  /** Unique in the plugin: 1 to 63 characters of a-z, 0-9, `_` and `-`, from a letter on. */
  name: string;
  /** What it does, for people and models that choose between operations. */
  description: string;
  /** Schema of its input, of type `object`; left out, any object is taken. */
  input?: I;
  /** Schema of its output; left out, it yields anything. */
  output?: O;
  /** What a repeated call does; `write` if it is left out. */
  effect?: Effect;
  /** Seconds that a call may take if its caller says nothing; 60 if it is left out. */
  timeout?: number;
  /** It knows `ctx.dryRun`. */
  dryRun?: boolean;
}

/** Does an operation. */
export type Handler<I extends TSchema, O extends TSchema, Config> = (
  input: Static<I>,
  ctx: Context<Config>,
) => Static<O> | Streamed | Promise<Static<O> | Streamed>;

/** An operation, ready for calls. */
export interface Operation {
  readonly name: string;
  readonly description: string;
  readonly input: Schema;
  readonly output: Schema | undefined;
  readonly effect: Effect;
  readonly timeout: number | undefined;
  readonly dryRun: boolean;
  readonly handler: (input: unknown, ctx: Context<unknown>) => unknown;
}

/** A plugin as it is served, whatever its configuration is. */
export interface Served {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly config: Schema | undefined;
  readonly operations: ReadonlyMap<string, Operation>;
  configured(config: unknown, permissions: Permissions | undefined): Promise<void>;
  closed(): Promise<void>;
}

const PLUGIN_NAME = /^[a-z][a-z0-9-]{0,62}$/;
const OPERATION_NAME = /^[a-z][a-z0-9_-]{0,62}$/;
const VERSION = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/;
const EFFECTS: readonly string[] = ["read", "idempotent_write", "write"];
const MAX_OPERATIONS = 1000;

/** A plugin: give it operations, then `serve` it. TypeError names what is wrong about it. */
export function definePlugin<const C extends TSchema = object>(options: PluginOptions<C>): Plugin<Static<C>> {
  return new Plugin<Static<C>>(options);
}

/** What `definePlugin` returns. */
export class Plugin<Config = unknown> implements Served {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  /** Schema of its configuration. */
  readonly config: Schema | undefined;
  /** Its operations by name. */
  readonly operations: ReadonlyMap<string, Operation>;
  readonly #operations = new Map<string, Operation>();
  readonly #options: PluginOptions<TSchema>;

  constructor(options: PluginOptions<TSchema>) {
    const { name, version, description } = options;
    if (!PLUGIN_NAME.test(name)) {
      throw new TypeError(`name: '${name}' is malformed; use 1 to 63 characters of a-z, 0-9 and '-', from a letter on`);
    }
    if (!VERSION.test(version)) {
      throw new TypeError(`version: '${version}' is no semantic version; write for example '1.4.0'`);
    }
    if (!description) throw new TypeError("description: empty; say in a sentence what the plugin is for");
    this.name = name;
    this.version = version;
    this.description = description;
    this.config = options.config && new Schema(options.config, "config");
    this.operations = this.#operations;
    this.#options = options;
  }

  /** Adds an operation and returns the plugin. TypeError names what is wrong about it. */
  operation<const I extends TSchema = { type: "object" }, const O extends TSchema = object>(
    options: OperationOptions<I, O>,
    handler: Handler<I, O, Config>,
  ): this {
    const { name, description, effect = "write", timeout, dryRun = false } = options;
    if (!OPERATION_NAME.test(name)) {
      const rule = "use 1 to 63 characters of a-z, 0-9, '_' and '-', from a letter on";
      throw new TypeError(`operation: '${name}' is malformed; ${rule}`);
    }
    const at = `operation '${name}'`;
    if (this.#operations.has(name)) throw new TypeError(`${at} is there twice; give each its own name`);
    if (this.#operations.size >= MAX_OPERATIONS) {
      throw new TypeError(`${at} is one too many; a plugin has at most ${MAX_OPERATIONS}`);
    }
    if (!description) throw new TypeError(`${at}, description: empty; say what it does`);
    if (!EFFECTS.includes(effect)) throw new TypeError(`${at}, effect: '${effect}' is none of ${EFFECTS.join(", ")}`);
    if (timeout !== undefined && !(timeout > 0))
      throw new TypeError(`${at}, timeout: ${timeout}; give seconds, more than 0`);
    const input = new Schema(options.input ?? { type: "object" }, `${at}, input`);
    if (input.json["type"] !== "object") {
      throw new TypeError(`${at}, input: of type ${JSON.stringify(input.json["type"])}; make it a Type.Object({...})`);
    }
    const output = options.output && new Schema(options.output, `${at}, output`);
    // What the schemas let through has the types that were inferred from them.
    const erased = handler as Operation["handler"];
    this.#operations.set(name, { name, description, input, output, effect, timeout, dryRun, handler: erased });
    return this;
  }

  /**
   * Serves the mesh that started this process, until it ends; then the process ends, with status 0. Started by hand it
   * says so and ends with status 2. Print nothing before.
   */
  serve(options: ServeOptions = {}): Promise<never> {
    if (this.#operations.size === 0) throw new TypeError("operations: none; add one with plugin.operation(...)");
    return serve(this, options);
  }

  /** Hands over a checked configuration. */
  async configured(config: unknown, permissions: Permissions | undefined): Promise<void> {
    await this.#options.configure?.(config, permissions);
  }

  /** Lets go of what the plugin holds. */
  async closed(): Promise<void> {
    await this.#options.close?.();
  }
}
