// What a plugin may ask of the mesh.
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { PluginError, RpcError } from "./errors.js";
import { PluginHostService } from "./gen/consort/plugin/v1/plugin_host_service_pb.js";
import { unary } from "./rpc.js";
import { encode, inline } from "./values.js";

const TIMEOUT = 30_000;
const MAX_MESSAGE = 4 * 1024 * 1024;

/** Services of the mesh, as far as they are granted; RpcError with PERMISSION_DENIED otherwise. */
export interface Host {
  /** A secret, by name. Log it nowhere. */
  getSecret(name: string): Promise<string>;
  /** What the plugin kept under a key, or undefined. It survives restarts of both. */
  getState(key: string): Promise<Uint8Array | undefined>;
  /** Keeps a value of at most 1 MiB; on disk when it resolves. An empty one forgets the key. */
  putState(key: string, value: Uint8Array | string): Promise<void>;
  /** Publishes an event of type `PLUGIN.{ID}.{NAME}` with any JSON value, and returns its id. */
  publishEvent(name: string, data?: unknown): Promise<string>;
}

/** The mesh behind the socket that it named; dialled when it is first needed. */
export class MeshHost {
  readonly #socket: string;
  readonly #metadata = new Metadata();
  #client: Client | undefined;

  constructor(socket: string, token: string) {
    this.#socket = socket;
    this.#metadata.set("authorization", `Bearer ${token}`);
  }

  /** The mesh for one call, which ends all that it asks. */
  within(signal: AbortSignal): Host {
    const settings = (): { timeout: number; signal: AbortSignal; metadata: Metadata } => ({
      timeout: TIMEOUT,
      signal,
      metadata: this.#metadata,
    });
    const { getSecret, getState, putState, publishEvent } = PluginHostService.method;
    return {
      getSecret: async (name) => (await unary(this.#dial(), getSecret, { name }, settings())).value,
      getState: async (key) => {
        try {
          return (await unary(this.#dial(), getState, { key }, settings())).value;
        } catch (error) {
          if (error instanceof RpcError && error.code === "NOT_FOUND") return undefined;
          throw error;
        }
      },
      putState: async (key, value) => {
        const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
        await unary(this.#dial(), putState, { key, value: bytes }, settings());
      },
      publishEvent: async (event, data) => {
        const request = { event, data: inline(encode(data)) };
        return (await unary(this.#dial(), publishEvent, request, settings())).eventId;
      },
    };
  }

  /** Hangs up. */
  close(): void {
    this.#client?.close();
  }

  #dial(): Client {
    if (!this.#socket) {
      throw new PluginError("FAILED_PRECONDITION", "the mesh named no CONSORT_HOST_SOCKET: it offers nothing to ask");
    }
    this.#client ??= new Client(`unix:${this.#socket}`, credentials.createInsecure(), {
      "grpc.max_receive_message_length": MAX_MESSAGE,
      // A socket's path is no host name.
      "grpc.default_authority": "localhost",
    });
    return this.#client;
  }
}
