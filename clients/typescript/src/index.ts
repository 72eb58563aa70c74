/** Client for Restante. Begin with `Client.connect`; the messages and services are in `@restante/client/v1`. */

export { Calls, requestId } from "./calls.js";
export {
  Client,
  type ClientOptions,
  type Credentials,
  type FolderEvent,
  type MailboxEvent,
  type ReadOptions,
} from "./client.js";
export { Connection } from "./connection.js";
export type { Source } from "./content.js";
export {
  errorFromStatus,
  type FieldViolation,
  isRestanteError,
  type Reason,
  RestanteError,
  type StatusCode,
} from "./errors.js";
export type { OperationOptions } from "./execute.js";
export type { CallOptions, ServerStream, ServiceClient, Unary, UnaryOptions } from "./methods.js";
export { attachments, findPart, partsOf } from "./parts.js";
export { isSeen, LISTING, messages, type Row } from "./rows.js";
export { UserSession } from "./session.js";
export type { Target } from "./target.js";

/** The version of this package. */
export const VERSION = "0.1.0";
