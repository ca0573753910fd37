// Starts a plugin as the mesh does, and calls it; for tests.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { Client, credentials, Server, ServerCredentials, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { asStatusError } from "../src/errors.js";
import { PluginHostService } from "../src/gen/consort/plugin/v1/plugin_host_service_pb.js";
import {
  PluginService,
  type InvokeRequestSchema,
  type InvokeResponse,
} from "../src/gen/consort/plugin/v1/plugin_service_pb.js";
import { definition, serverStream, unary, type CallSettings } from "../src/rpc.js";
import { decodeInline, inline } from "../src/values.js";

/** The example, compiled. */
export const WORDS = fileURLToPath(new URL("../examples/words/src/main.js", import.meta.url));

/** What a call led to. */
export interface Seen {
  progress: { fraction: number; message: string }[];
  logs: string[];
  /** Bytes of the chunks, and the largest of them. */
  bytes: number;
  largest: number;
  parts: Buffer[];
  output: unknown;
  mediaType: string;
  would: string[];
  actions: string[];
}

/** A started plugin. */
export class Started {
  readonly folder = mkdtempSync(join(tmpdir(), "consort-ts-"));
  readonly socket = join(this.folder, "plugin.sock");
  readonly child: ChildProcess;
  readonly client: Client;
  readonly ended: Promise<number | null>;
  stderr = "";
  line = "";
  #callbacks: Server | undefined;

  private constructor(program: string, env: Record<string, string>) {
    this.child = spawn(process.execPath, [program], {
      cwd: this.folder,
      env: {
        PATH: process.env["PATH"],
        CONSORT_PLUGIN_COOKIE: "consort-plugin-host",
        CONSORT_PLUGIN_PROTOCOLS: "1-1",
        CONSORT_PLUGIN_SOCKET: this.socket,
        CONSORT_PLUGIN_DATA: this.folder,
        CONSORT_HOST_SOCKET: join(this.folder, "host.sock"),
        CONSORT_PLUGIN_TOKEN: "secret-token",
        ...env,
      },
    });
    this.ended = new Promise((resolve) => this.child.once("exit", (code) => resolve(code)));
    this.child.stderr!.on("data", (text: Buffer) => (this.stderr += text.toString()));
    this.client = new Client(`unix:${this.socket}`, credentials.createInsecure(), {
      "grpc.default_authority": "localhost",
    });
  }

  /** Starts a program and reads its handshake, or its end. */
  static async start(program = WORDS, env: Record<string, string> = {}): Promise<Started> {
    const started = new Started(program, env);
    const lines = createInterface(started.child.stdout!);
    const first = new Promise<string>((resolve) => lines.once("line", resolve));
    started.line = await Promise.race([first, started.ended.then(() => "")]);
    return started;
  }

  /** Says hello and hands over a configuration. */
  async greet(config?: JsonObject) {
    const hello = await unary(this.client, PluginService.method.hello, { protocol: 1, meshVersion: "test" });
    await unary(this.client, PluginService.method.configure, { config });
    return hello;
  }

  /** Calls an operation; rejects with the RpcError. */
  async invoke(
    operation: string,
    input: unknown = {},
    settings: CallSettings & { dryRun?: boolean; keep?: boolean; slowly?: (seen: Seen) => Promise<void> } = {},
  ): Promise<Seen> {
    const request: MessageInitShape<typeof InvokeRequestSchema> = {
      operation,
      input: inline(JSON.stringify(input)),
      callId: "call",
      idempotencyKey: "key",
      dryRun: settings.dryRun ?? false,
    };
    const stream = serverStream(this.client, PluginService.method.invoke, request, settings);
    const none = { progress: [], logs: [], parts: [], would: [], actions: [] };
    const seen: Seen = { ...none, bytes: 0, largest: 0, output: undefined, mediaType: "" };
    try {
      for await (const { kind } of stream as AsyncIterable<InvokeResponse>) {
        take(seen, kind, settings.keep ?? false);
        await settings.slowly?.(seen);
      }
    } catch (error) {
      throw asStatusError(error);
    }
    return seen;
  }

  /** Serves callbacks, as the mesh does. */
  async callbacks(methods: UntypedServiceImplementation): Promise<void> {
    this.#callbacks = new Server();
    this.#callbacks.addService(definition(PluginHostService), methods);
    await new Promise<void>((resolve, reject) => {
      const address = `unix:${join(this.folder, "host.sock")}`;
      this.#callbacks!.bindAsync(address, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      );
    });
  }

  /** Ends what is left of it. */
  stop(): void {
    this.client.close();
    this.#callbacks?.forceShutdown();
    this.child.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function take(seen: Seen, kind: InvokeResponse["kind"], keep: boolean): void {
  switch (kind.case) {
    case "progress":
      seen.progress.push({ fraction: kind.value.fraction, message: kind.value.message });
      break;
    case "log":
      seen.logs.push(`${kind.value.level}: ${kind.value.message}`);
      break;
    case "chunk":
      seen.bytes += kind.value.length;
      seen.largest = Math.max(seen.largest, kind.value.length);
      if (keep) seen.parts.push(Buffer.from(kind.value));
      break;
    case "result":
      seen.mediaType = kind.value.mediaType;
      seen.would = kind.value.would;
      seen.actions = kind.value.actions;
      if (kind.value.output) seen.output = decodeInline(kind.value.output);
      break;
  }
}
