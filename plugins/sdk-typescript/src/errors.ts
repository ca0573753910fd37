// The errors of the SDK, and how they look on the wire.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import { Metadata, status as codes, type ServiceError } from "@grpc/grpc-js";
import {
  BadRequestSchema,
  DebugInfoSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema, type Status } from "./gen/google/rpc/status_pb.js";
import { duration, seconds } from "./time.js";
import { cut } from "./text.js";

/** Name of a gRPC status code. */
export type Code = Exclude<keyof typeof codes, "OK">;

/** Who gives the reasons of this SDK, and of those who name no other, their meaning. */
export const DOMAIN = "consort.dev";
const DETAILS_KEY = "grpc-status-details-bin";
// Clients take 8 to 16 KiB of trailers, in which the message stands twice and the details in base64.
const TRAILER_MESSAGE = 1536;
const TRAILER_DETAILS = 4096;
const STACK = 2048;
const VIOLATIONS = 16;
const VIOLATION = 128;

/** What can be said about an error beside its code and message. */
export interface ErrorOptions {
  /** The word for machines, such as `FILE_TOO_LARGE`: A-Z, 0-9 and `_`. */
  reason?: string;
  /** More for machines, sent with the reason. */
  metadata?: Record<string, string>;
  /** The field of the input that is to blame; the message says what is wrong about it. */
  field?: string;
  /** Several of them, each with what is wrong about it. */
  fields?: Record<string, string>;
  /** Seconds after which another try makes sense. */
  retryAfter?: number;
  /** What led to it. */
  cause?: unknown;
}

/** An error with a gRPC status code: the base of all that the SDK throws and understands. */
export class StatusError extends Error {
  override name = "StatusError";
  /** Name of the status code. */
  readonly code: Code;
  /** The word for machines, or empty. */
  readonly reason: string;
  /** More for machines. */
  readonly metadata: Record<string, string>;
  /** Fields that were wrong, each with what is wrong about it. */
  readonly fields: Record<string, string>;
  /** Seconds after which another try makes sense. */
  readonly retryAfter: number | undefined;

  constructor(code: Code, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    if (!isCode(code)) {
      throw new TypeError(`code: '${String(code)}' is no gRPC status code of a failure; write for example 'NOT_FOUND'`);
    }
    if (options.retryAfter !== undefined && !(options.retryAfter >= 0)) {
      throw new RangeError(`retryAfter: ${options.retryAfter} is no time; give seconds, or leave it out`);
    }
    this.code = code;
    this.reason = options.reason ?? "";
    this.metadata = options.metadata ?? {};
    this.fields = { ...options.fields, ...(options.field === undefined ? {} : { [options.field]: message }) };
    this.retryAfter = options.retryAfter;
  }
}

/** How an operation of a plugin says that it failed; code, message and details reach the caller as they are. */
export class PluginError extends StatusError {
  override name = "PluginError";
}

/** A call to the mesh that failed. When it leaves a handler, the handler fails with the same. */
export class RpcError extends StatusError {
  override name = "RpcError";
}

/** The mesh refused the worker, and trying again cannot help. */
export class RefusedError extends Error {
  override name = "RefusedError";
}

/** Whether a word names a status code other than OK. */
export function isCode(word: unknown): word is Code {
  return typeof word === "string" && word !== "OK" && /^[A-Z_]+$/.test(word) && word in codes;
}

/** Name of a code by its number; UNKNOWN if it has none. */
export function codeName(number: number): Code {
  const name = codes[number];
  return isCode(name) ? name : "UNKNOWN";
}

/** The error as google.rpc.Status, its message cut to `limit` bytes. */
export function toStatus(error: StatusError, limit: number): Status {
  const details = [];
  if (error.reason || Object.keys(error.metadata).length > 0) {
    const metadata = Object.fromEntries(
      Object.entries(error.metadata).map(([key, text]) => [key.toWellFormed(), cut(String(text), 1024)]),
    );
    const info = { reason: (error.reason || error.code).toWellFormed(), domain: DOMAIN, metadata };
    details.push(anyPack(ErrorInfoSchema, create(ErrorInfoSchema, info)));
  }
  const fields = Object.entries(error.fields);
  if (fields.length > 0) {
    const fieldViolations = fields
      .slice(0, VIOLATIONS)
      .map(([field, text]) => ({ field: cut(field, VIOLATION), description: cut(text, VIOLATION) }));
    details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations })));
  }
  if (error.retryAfter !== undefined) {
    const retry = create(RetryInfoSchema, { retryDelay: duration(error.retryAfter) });
    details.push(anyPack(RetryInfoSchema, retry));
  }
  return create(StatusSchema, { code: codes[error.code], message: cut(error.message, limit), details });
}

/** The error as the end of a call that the SDK serves, small enough for any client. */
export function toServiceError(error: StatusError): Partial<ServiceError> {
  const status = toStatus(error, TRAILER_MESSAGE);
  if (error.code === "INTERNAL" && error.cause instanceof Error && error.cause.stack) {
    const stackEntries = cut(error.cause.stack, STACK)
      .split("\n")
      .slice(1)
      .map((line) => line.trim());
    const debug = create(DebugInfoSchema, { stackEntries, detail: cut(String(error.cause), VIOLATION) });
    status.details.push(anyPack(DebugInfoSchema, debug));
  }
  // What says least goes first.
  while (toBinary(StatusSchema, status).length > TRAILER_MESSAGE + TRAILER_DETAILS) status.details.pop();
  const metadata = new Metadata();
  metadata.set(DETAILS_KEY, Buffer.from(toBinary(StatusSchema, status)));
  return { code: status.code, details: status.message, metadata };
}

/** Reads the end of a call that failed. */
export function fromServiceError(error: ServiceError): RpcError {
  const options: ErrorOptions & { metadata: Record<string, string>; fields: Record<string, string> } = {
    metadata: {},
    fields: {},
  };
  for (const value of error.metadata?.get(DETAILS_KEY) ?? []) {
    if (typeof value !== "string") readDetails(value, options);
  }
  return new RpcError(codeName(error.code), error.details || error.message, options);
}

function readDetails(
  bytes: Uint8Array,
  options: ErrorOptions & { metadata: Record<string, string>; fields: Record<string, string> },
): void {
  try {
    for (const detail of fromBinary(StatusSchema, bytes).details) {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info) {
        options.reason = info.reason;
        options.metadata = info.metadata;
      }
      for (const violation of anyUnpack(detail, BadRequestSchema)?.fieldViolations ?? []) {
        options.fields[violation.field] = violation.description;
      }
      const retry = anyUnpack(detail, RetryInfoSchema);
      if (retry?.retryDelay) options.retryAfter = Math.max(0, seconds(retry.retryDelay));
    }
  } catch {
    // Unreadable details are no reason to hide the error itself.
  }
}

/** Whatever was thrown, as an error with a code: its own, that of the ended call, or INTERNAL with the message. */
export function asStatusError(error: unknown, signal?: AbortSignal): StatusError {
  if (error instanceof StatusError) return error;
  if (signal?.aborted && signal.reason instanceof StatusError) return signal.reason;
  if (isServiceError(error)) return fromServiceError(error);
  const message = error instanceof Error ? error.message || error.name : String(error);
  return new PluginError("INTERNAL", message, { cause: error instanceof Error ? error : new Error(message) });
}

/** Whether it is how grpc-js ends a call. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "details" in error && "code" in error && typeof error.code === "number";
}
