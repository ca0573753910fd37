// Plugins, workers and a client for Consort.
export { Type, type Static, type TSchema } from "typebox";
export { Client, type ClientOptions, type RunResult, type RunState, type StartOptions } from "./client.js";
export type { Context, Level, Origin } from "./context.js";
export { Streamed } from "./context.js";
export { PluginError, RefusedError, RpcError, StatusError, type Code, type ErrorOptions } from "./errors.js";
export type { Permissions } from "./gen/consort/plugin/v1/plugin_service_pb.js";
export type { Host } from "./host.js";
export {
  definePlugin,
  Plugin,
  type Effect,
  type Handler,
  type OperationOptions,
  type PluginOptions,
} from "./plugin.js";
export type { ServeOptions } from "./serve.js";
export type { JsonValue } from "./values.js";
export type { AskOptions, Clarification } from "./worker/question.js";
export { Plan, TaskError, type Task } from "./worker/task.js";
export { Worker, type AgentOptions, type WorkerOptions } from "./worker/worker.js";
