/** The contract: the messages, enums and services of restante.v1, as protos/restante/v1 explains them. */

export * from "./gen/restante/v1/admin_pb.js";
export * from "./gen/restante/v1/batch_pb.js";
export * from "./gen/restante/v1/checks_pb.js";
export * from "./gen/restante/v1/content_pb.js";
export * from "./gen/restante/v1/directory_pb.js";
export * from "./gen/restante/v1/errors_pb.js";
export * from "./gen/restante/v1/failure_reports_pb.js";
export * from "./gen/restante/v1/folder_pb.js";
export * from "./gen/restante/v1/forwarding_pb.js";
export * from "./gen/restante/v1/greylist_pb.js";
export * from "./gen/restante/v1/job_pb.js";
export * from "./gen/restante/v1/mailbox_pb.js";
export * from "./gen/restante/v1/message_pb.js";
export * from "./gen/restante/v1/outcomes_pb.js";
export * from "./gen/restante/v1/queue_pb.js";
export * from "./gen/restante/v1/reports_pb.js";
export * from "./gen/restante/v1/search_pb.js";
export * from "./gen/restante/v1/session_pb.js";
export * from "./gen/restante/v1/signing_pb.js";
export * from "./gen/restante/v1/submission_pb.js";
export * from "./gen/restante/v1/sync_pb.js";
export * from "./gen/restante/v1/tls_pb.js";
export * from "./gen/restante/v1/tls_reports_pb.js";
export * from "./gen/restante/v1/transport_pb.js";
export * from "./gen/restante/v1/types_pb.js";
