// JSON values and the payloads they travel in.
import { create, toJson, type JsonValue } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { PayloadSchema, type BlobRef, type Payload } from "./gen/consort/blob/v1/payload_pb.js";

export type { JsonValue } from "@bufbuild/protobuf";

/** A payload of JSON text. */
export function inline(json: string): Payload {
  return create(PayloadSchema, { kind: { case: "json", value: json } });
}

/** A payload that names a blob. */
export function reference(blob: BlobRef): Payload {
  return create(PayloadSchema, { kind: { case: "blob", value: blob } });
}

/** The value of a payload that is not a blob; SyntaxError if its text is no JSON. */
export function decodeInline(payload: Payload | undefined): JsonValue {
  switch (payload?.kind.case) {
    case "json":
      return JSON.parse(payload.kind.value) as JsonValue;
    case "value":
      return toJson(ValueSchema, payload.kind.value);
    default:
      return null;
  }
}

/**
 * The value as JSON text; nothing is `null`. TypeError for what JSON cannot say: functions, symbols, big integers,
 * cycles.
 */
export function encode(value: unknown): string {
  const text: string | undefined = JSON.stringify(value === undefined ? null : value);
  if (text === undefined) throw new TypeError(`a ${typeof value} has no JSON form`);
  return text;
}
