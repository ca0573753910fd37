// JSON Schemas of inputs, outputs and configurations.
import type { JsonObject } from "@bufbuild/protobuf";
import { Ajv2020, type ErrorObject, type ValidateFunction } from "ajv/dist/2020.js";
import type { TSchema } from "typebox";

// As 2020-12 has it, `format` only annotates. Values that say nothing get the `default` of their schema.
const SETTINGS = {
  strict: false,
  validateFormats: false,
  useDefaults: true,
  logger: false,
  // Schemas of different operations may have the same `$id`.
  addUsedSchema: false,
} as const;
// One of each for all schemas: making one compiles the whole language of schemas.
const FIRST = new Ajv2020(SETTINGS);
const ALL = new Ajv2020({ ...SETTINGS, allErrors: true });
// Values with more text than this are checked up to their first mistake: a list of half a million is of no use.
const ALL_MISTAKES = 64 * 1024;

/** Wrong places in a value, each with what is wrong about it; `value` if it is the whole. */
export type Mistakes = Record<string, string>;

/** A compiled schema. */
export class Schema {
  /** The schema as plain JSON. */
  readonly json: JsonObject;
  readonly #first: ValidateFunction;
  #all: ValidateFunction | undefined;

  /** TypeError if it is no schema; `what` names it there. */
  constructor(source: TSchema, what: string) {
    if (typeof source !== "object" || source === null || Array.isArray(source)) {
      throw new TypeError(`${what}: a schema is an object; write Type.Object({...}) or JSON Schema`);
    }
    this.json = JSON.parse(JSON.stringify(source)) as JsonObject;
    try {
      this.#first = FIRST.compile(this.json);
    } catch (error) {
      throw new TypeError(
        `${what}: no JSON Schema (2020-12): ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  /** What is wrong about a value, or undefined; `size` is the length of its text. Defaults are filled in. */
  mistakes(value: unknown, size: number): Mistakes | undefined {
    if (this.#first(value)) return undefined;
    let errors = this.#first.errors;
    if (size <= ALL_MISTAKES) {
      this.#all ??= ALL.compile(this.json);
      this.#all(value);
      errors = this.#all.errors;
    }
    const found = new Map<string, string>();
    for (const error of errors ?? []) {
      const field = place(error);
      if (!found.has(field)) found.set(field, text(error));
    }
    return Object.fromEntries(found);
  }
}

/** Mistakes in a line. */
export function listed(mistakes: Mistakes): string {
  const all = Object.entries(mistakes).map(([field, problem]) => `${field} ${problem}`);
  return all.length > 4 ? `${all.slice(0, 4).join("; ")}; and ${all.length - 4} more` : all.join("; ");
}

/** Path of the wrong field, for example `items[2].name`. */
function place(error: ErrorObject): string {
  const parts = error.instancePath
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  const { missingProperty, additionalProperty, unevaluatedProperty } = error.params as Record<string, unknown>;
  const named = missingProperty ?? additionalProperty ?? unevaluatedProperty;
  if (typeof named === "string") parts.push(named);
  const path = parts.map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part}`)).join("");
  return path.replace(/^\./, "") || "value";
}

function text(error: ErrorObject): string {
  switch (error.keyword) {
    case "required":
      return "is missing";
    case "additionalProperties":
    case "unevaluatedProperties":
      return "is not known";
    case "enum":
      return `must be one of ${JSON.stringify((error.params as { allowedValues: unknown }).allowedValues)}`;
    case "const":
      return `must be ${JSON.stringify((error.params as { allowedValue: unknown }).allowedValue)}`;
    default:
      return error.message ?? `fails '${error.keyword}'`;
  }
}
