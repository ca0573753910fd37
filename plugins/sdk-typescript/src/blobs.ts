// Values that are too large to travel, by way of the blob store.
import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { Client } from "@grpc/grpc-js";
import { asStatusError, StatusError } from "./errors.js";
import { BlobService, UploadRequestSchema } from "./gen/consort/blob/v1/blob_service_pb.js";
import type { BlobRef, Payload } from "./gen/consort/blob/v1/payload_pb.js";
import { connect, pauses } from "./net.js";
import { clientStream, serverStream } from "./rpc.js";
import { pause } from "./time.js";
import { decodeInline, inline, reference, type JsonValue } from "./values.js";

const INLINE = 64 * 1024;
const MAX_BLOB = 256 * 1024 * 1024;
const PART = 256 * 1024;
const ATTEMPTS = 6;
const AT_ONCE = 4;
const TIMEOUT = 120_000;

/**
 * Turns values into payloads and back. It dials the mesh at the first large value. At most four transfers run at once;
 * each is tried again for as long as the mesh is merely unavailable, six times at most.
 */
export class Blobs {
  readonly #address: string;
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #client: Client | undefined;

  constructor(address: string) {
    this.#address = address;
  }

  /** A payload of JSON text: inline up to 64 KiB, else uploaded and sent as a reference. */
  async payload(json: string): Promise<Payload> {
    if (json.length * 3 <= INLINE || Buffer.byteLength(json) <= INLINE) return inline(json);
    return reference(await this.#patiently(() => this.#put(Buffer.from(json))));
  }

  /** The value of any payload. Throws if it is no JSON, is larger than 256 MiB or does not match its name. */
  async value(payload: Payload | undefined): Promise<JsonValue> {
    if (payload?.kind.case !== "blob") return decodeInline(payload);
    const blob = payload.kind.value;
    if (blob.sizeBytes > MAX_BLOB)
      throw new RangeError(`blob ${blob.sha256} has ${blob.sizeBytes} bytes; ${MAX_BLOB} are taken`);
    const parts: Buffer[] = [];
    await this.#patiently(() => this.#get(blob, parts));
    const bytes = Buffer.concat(parts);
    if (createHash("sha256").update(bytes).digest("hex") !== blob.sha256) {
      throw new TypeError(`blob ${blob.sha256} arrived with other bytes than its name says`);
    }
    return JSON.parse(bytes.toString("utf8")) as JsonValue;
  }

  /** Hangs up. */
  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  async #put(bytes: Buffer): Promise<BlobRef> {
    const { call, answer } = clientStream(this.#dial(), BlobService.method.upload, { timeout: TIMEOUT });
    const over = answer.then(
      () => undefined,
      () => undefined,
    );
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    for (let start = 0; start < bytes.length; start += PART) {
      const first = start === 0 ? { mediaType: "application/json", sha256 } : {};
      const message = create(UploadRequestSchema, { chunk: bytes.subarray(start, start + PART), ...first });
      // A call that has failed never takes what it was given.
      await Promise.race([new Promise<void>((resolve) => call.write(message, () => resolve())), over]);
    }
    call.end();
    const { blob } = await answer;
    if (!blob) throw new StatusError("INTERNAL", "the mesh stored a blob and did not name it");
    return blob;
  }

  /** Appends what is missing: a broken download goes on where it broke. */
  async #get(blob: BlobRef, parts: Buffer[]): Promise<void> {
    let size = parts.reduce((sum, part) => sum + part.length, 0);
    const request = { name: `blobs/${blob.sha256}`, offset: BigInt(size) };
    const call = serverStream(this.#dial(), BlobService.method.download, request, { timeout: TIMEOUT });
    for await (const part of call) {
      const { chunk } = part as { chunk: Uint8Array };
      parts.push(Buffer.from(chunk));
      size += chunk.length;
      if (size > MAX_BLOB) {
        call.cancel();
        throw new RangeError(`blob ${blob.sha256} has more than ${MAX_BLOB} bytes`);
      }
    }
  }

  async #patiently<T>(transfer: () => Promise<T>): Promise<T> {
    while (this.#running >= AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running += 1;
    try {
      const waits = pauses(100, 5_000);
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await transfer();
        } catch (error) {
          const problem = asStatusError(error);
          const passes = problem.code === "UNAVAILABLE" || problem.code === "ABORTED";
          if (!passes || attempt === ATTEMPTS) throw error;
          await pause(waits.next().value);
        }
      }
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }

  #dial(): Client {
    return (this.#client ??= connect(this.#address));
  }
}
