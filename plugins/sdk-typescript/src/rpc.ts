// Joins the generated messages with grpc-js.
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type DescService,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  Client,
  Metadata,
  type CallOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientWritableStream,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { fromServiceError, isServiceError } from "./errors.js";

/** A method whose request and answer have these types. */
export type Method<I extends DescMessage, O extends DescMessage> = DescMethod & { input: I; output: O };

/** How a call is made, beside what grpc-js knows: `timeout` in milliseconds, and what ends it. */
export interface CallSettings {
  timeout?: number;
  signal?: AbortSignal | undefined;
  metadata?: Metadata;
}

/** A service as grpc-js serves it. */
export function definition(service: DescService): ServiceDefinition {
  return Object.fromEntries(
    service.methods.map((method) => [
      method.localName,
      {
        path: path(method),
        requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
        responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
        requestSerialize: writer(method.input),
        requestDeserialize: reader(method.input),
        responseSerialize: writer(method.output),
        responseDeserialize: reader(method.output),
      },
    ]),
  );
}

/** Makes a call with one request and one answer; RpcError if it fails. */
export async function unary<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: Method<I, O>,
  request: MessageInitShape<I>,
  settings: CallSettings = {},
): Promise<MessageShape<O>> {
  let stop = (): void => undefined;
  try {
    return await new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest(
        path(method),
        writer(method.input),
        reader(method.output),
        create(method.input, request),
        settings.metadata ?? new Metadata(),
        options(settings),
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      );
      stop = cancelOn(settings.signal, call);
    });
  } catch (error) {
    // Made here, it knows who called.
    throw isServiceError(error) ? fromServiceError(error) : error;
  } finally {
    stop();
  }
}

/** Makes a call whose answer is a stream. Errors of the stream are those of grpc-js. */
export function serverStream<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: Method<I, O>,
  request: MessageInitShape<I>,
  settings: CallSettings = {},
): ClientReadableStream<MessageShape<O>> {
  const call = client.makeServerStreamRequest(
    path(method),
    writer(method.input),
    reader(method.output),
    create(method.input, request),
    settings.metadata ?? new Metadata(),
    options(settings),
  );
  call.once("close", cancelOn(settings.signal, call));
  return call;
}

/** Makes a call whose request is a stream; `answer` has its one answer, or RpcError. */
export function clientStream<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: Method<I, O>,
  settings: CallSettings = {},
): { call: ClientWritableStream<MessageShape<I>>; answer: Promise<MessageShape<O>> } {
  let call!: ClientWritableStream<MessageShape<I>>;
  const answer = new Promise<MessageShape<O>>((resolve, reject) => {
    call = client.makeClientStreamRequest(
      path(method),
      writer(method.input),
      reader(method.output),
      settings.metadata ?? new Metadata(),
      options(settings),
      (error, message) => (error ? reject(fromServiceError(error)) : resolve(message!)),
    );
  });
  return { call, answer };
}

/** Opens a stream in both directions, whose frames are written as bytes. */
export function frames<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: Method<I, O>,
): ClientDuplexStream<Buffer, MessageShape<O>> {
  return client.makeBidiStreamRequest(path(method), (frame: Buffer) => frame, reader(method.output), new Metadata());
}

function path(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function writer<D extends DescMessage>(type: D): (message: MessageShape<D>) => Buffer {
  return (message) => {
    // What is a message already stays as it is.
    const bytes = toBinary(type, create(type, message as MessageInitShape<D>));
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

function reader<D extends DescMessage>(type: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(type, bytes);
}

function options(settings: CallSettings): CallOptions {
  return settings.timeout === undefined ? {} : { deadline: Date.now() + settings.timeout };
}

function cancelOn(signal: AbortSignal | undefined, call: { cancel(): void }): () => void {
  const cancel = (): void => call.cancel();
  if (signal?.aborted) cancel();
  signal?.addEventListener("abort", cancel);
  return () => signal?.removeEventListener("abort", cancel);
}
