// Does a call: checks its input, calls the handler, checks and sends the output. Knows no wire.
import { Call, CHUNK, type CallRequest, type Sink } from "./call.js";
import { Streamed } from "./context.js";
import { asStatusError, PluginError, type StatusError } from "./errors.js";
import type { Operation, Served } from "./plugin.js";
import { listed } from "./schema.js";
import { encode } from "./values.js";

const JSON_TYPE = "application/json";

/** What an operation yielded. */
export interface Outcome {
  /** Text of the output; undefined if it left in chunks. */
  json: string | undefined;
  /** Media type of the chunks; empty if there were none. */
  mediaType: string;
  would: string[];
  actions: string[];
}

/** Does a call; StatusError says why it failed. */
export async function perform(plugin: Served, request: CallRequest, sink: Sink): Promise<Outcome> {
  const operation = checked(plugin, request);
  const call = new Call(request, sink);
  try {
    const value: unknown = await operation.handler(request.input, call);
    await call.flushed();
    // A handler that stopped because it was told to may return anything; nobody waits for it.
    request.signal.throwIfAborted();
    const json = await output(operation, call, value);
    return { json, mediaType: call.mediaType ?? "", would: call.wouldDo, actions: call.done };
  } catch (error) {
    throw asStatusError(error, request.signal);
  }
}

function checked(plugin: Served, request: CallRequest): Operation {
  const operation = plugin.operations.get(request.operation);
  if (!operation) {
    const names = [...plugin.operations.keys()].slice(0, 16).join(", ");
    throw new PluginError("NOT_FOUND", `no operation '${request.operation}'; '${plugin.name}' has ${names}`, {
      reason: "OPERATION_UNKNOWN",
    });
  }
  if (request.dryRun && !operation.dryRun) {
    throw new PluginError("FAILED_PRECONDITION", `operation '${operation.name}' knows no dry run; call it without`, {
      reason: "DRY_RUN_UNKNOWN",
    });
  }
  const mistakes = operation.input.mistakes(request.input, request.size);
  if (mistakes) {
    throw new PluginError("INVALID_ARGUMENT", `input of '${operation.name}': ${listed(mistakes)}`, {
      reason: "INPUT_INVALID",
      fields: mistakes,
    });
  }
  return operation;
}

/** The output's text, or undefined after it was sent in chunks. */
async function output(operation: Operation, call: Call, value: unknown): Promise<string | undefined> {
  if (value instanceof Streamed && call.mediaType === undefined) call.mediaType = value.mediaType;
  if (call.mediaType !== undefined) {
    if (value === undefined || value instanceof Streamed) return undefined;
    throw invalid(operation, "is there as chunks and as a value; return what ctx.chunk or ctx.stream resolves with");
  }
  let json: string;
  try {
    json = encode(value);
  } catch (error) {
    throw invalid(operation, `is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (operation.output) {
    // The text is what arrives: dates have become strings by then, and what is undefined is gone.
    const mistakes = operation.output.mistakes(JSON.parse(json), json.length);
    if (mistakes) throw invalid(operation, `does not match its schema: ${listed(mistakes)}`);
  }
  if (json.length * 3 <= CHUNK) return json;
  const bytes = Buffer.from(json);
  if (bytes.length <= CHUNK) return json;
  await call.chunk(bytes, JSON_TYPE);
  return undefined;
}

function invalid(operation: Operation, problem: string): StatusError {
  return new PluginError("INTERNAL", `output of '${operation.name}' ${problem}`, { reason: "OUTPUT_INVALID" });
}
