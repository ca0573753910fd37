// Questions of handlers to people, and their answers.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Blobs } from "../blobs.js";
import type { QuestionSchema } from "../gen/consort/agent/v1/worker_service_pb.js";
import { duration } from "../time.js";
import { encode, type JsonValue } from "../values.js";

/** An answered question about the step. */
export interface Clarification {
  readonly title: string;
  readonly option: string;
  /** The filled form, or null. */
  readonly form: JsonValue;
  /** A name, or `deadline`. */
  readonly answeredBy: string;
}

/** What goes with a question. */
export interface AskOptions {
  /** More about it, in Markdown, at most 64 KiB. */
  description?: string;
  /** What can be chosen, at most 100; none means the single option `answer`, which makes sense with a form. */
  options?: readonly string[];
  /** JSON Schema of what goes with the answer. */
  form?: object;
  /** Seconds after which `defaultOption` is taken, or the step fails if there is none; left out, it waits for ever. */
  deadline?: number;
  /** One of the options. */
  defaultOption?: string;
}

const TITLE = 1000;
const DESCRIPTION = 64 * 1024;
const OPTIONS = 100;

/** Ends the handler that asked. Whatever becomes of it there, the question is asked. */
export class Asking extends Error {
  override name = "Asking";
  readonly #options: AskOptions;

  /** RangeError names what the mesh would refuse. */
  constructor(title: string, options: AskOptions) {
    super(title);
    const { description = "", options: choices = [], deadline, defaultOption } = options;
    const length = [...title].length;
    if (length < 1 || length > TITLE) throw new RangeError(`title: has ${length} characters; give 1 to ${TITLE}`);
    const size = Buffer.byteLength(description);
    if (size > DESCRIPTION) throw new RangeError(`description: has ${size} bytes; give at most ${DESCRIPTION}`);
    if (choices.length > OPTIONS) throw new RangeError(`options: there are ${choices.length}; give at most ${OPTIONS}`);
    if (defaultOption && !(choices.length > 0 ? choices : ["answer"]).includes(defaultOption)) {
      throw new RangeError(`defaultOption: '${defaultOption}' is none of the options; name one of them`);
    }
    if (deadline !== undefined && !(deadline > 0)) {
      throw new RangeError(`deadline: ${deadline} is not above 0; give the seconds to wait, or leave it out`);
    }
    this.#options = options;
  }

  /** The question as it is sent; a form of more than 64 KiB goes as a blob. */
  async pack(blobs: Blobs): Promise<MessageInitShape<typeof QuestionSchema>> {
    const { description = "", options = [], form, deadline, defaultOption = "" } = this.#options;
    return {
      title: this.message,
      description,
      options: [...options],
      form: form && (await blobs.payload(encode(form))),
      deadline: deadline === undefined ? undefined : duration(deadline),
      defaultOption,
    };
  }
}
