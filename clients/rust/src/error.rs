//! The one kind of error.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tonic::Code;
use tonic_types::pb;

use crate::v1::ErrorReason;

const DOMAIN: &str = "restante";
const PREFIX: &str = "ERROR_REASON_";

/// What every failed call of this crate returns.
#[derive(Clone, Debug)]
pub struct Error(Box<Facts>);

/// One bad field of a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path in the request, such as `draft.attachments`.
    pub field: String,
    /// What is wrong with its value.
    pub problem: String,
}

#[derive(Clone, Debug)]
struct Facts {
    code: Code,
    reason: String,
    metadata: HashMap<String, String>,
    retry_delay: Option<Duration>,
    violations: Vec<FieldViolation>,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Facts {
            code,
            reason: String::new(),
            metadata: HashMap::new(),
            retry_delay: None,
            violations: Vec::new(),
            message: message.into(),
            source: None,
        }))
    }

    pub(crate) fn of_reason(code: Code, reason: ErrorReason, message: &str) -> Self {
        let mut made = Self::new(code, message);
        made.0.reason = reason.as_str_name().trim_start_matches(PREFIX).to_owned();
        made
    }

    /// The error with one more of the facts that its reason declares.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.0.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn caused(code: Code, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        let mut made = Self::new(code, cause.to_string());
        made.0.source = Some(Arc::new(cause));
        made
    }

    pub(crate) fn closed() -> Self {
        Self::new(Code::Cancelled, "The client was closed.")
    }

    pub(crate) fn too_late() -> Self {
        Self::new(Code::DeadlineExceeded, "The call's time ran out.")
    }

    pub(crate) fn unavailable(message: &str) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// No server at the address: what the operating system or TLS said, below what gRPC made of it.
    pub(crate) fn unreachable(address: &str, cause: &Error) -> Self {
        let mut deepest: &dyn std::error::Error = cause;
        while let Some(below) = deepest.source() {
            deepest = below;
        }
        let mut made = Self::unavailable(&format!("Cannot reach {address}: {deepest}"));
        made.0.source = Some(Arc::new(cause.clone()));
        made
    }

    /// The error that a `google.rpc.Status` tells of, such as that of one result of `ExecuteOnce`. `None` where the
    /// status is OK.
    pub fn from_status(status: &pb::Status) -> Option<Self> {
        let code = Code::from_i32(status.code);
        if code == Code::Ok {
            return None;
        }
        let mut found = Self::new(code, status.message.clone());
        for detail in &status.details {
            // Other kinds of details, and what cannot be read, are passed over: the code and the message stand.
            match detail.type_url.rsplit('/').next() {
                Some("google.rpc.ErrorInfo") => {
                    let info = pb::ErrorInfo::decode(detail.value.as_slice());
                    if let Some(info) = info.ok().filter(|info| info.domain == DOMAIN) {
                        found.0.reason = info.reason;
                        found.0.metadata = info.metadata;
                    }
                }
                Some("google.rpc.RetryInfo") => {
                    if let Ok(info) = pb::RetryInfo::decode(detail.value.as_slice()) {
                        found.0.retry_delay = info.retry_delay.and_then(|delay| delay.try_into().ok());
                    }
                }
                Some("google.rpc.BadRequest") => {
                    let bad = pb::BadRequest::decode(detail.value.as_slice()).unwrap_or_default();
                    found.0.violations = bad.field_violations.into_iter().map(FieldViolation::from).collect();
                }
                _ => {}
            }
        }
        Some(found)
    }

    /// The gRPC status code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The contract's reason. It is `Unspecified` where the failure was not the server's (a connection that was lost, a
    /// deadline that passed on this side), and for a reason that this version does not know; see
    /// [`reason_name`](Self::reason_name).
    pub fn reason(&self) -> ErrorReason {
        ErrorReason::from_str_name(&format!("{PREFIX}{}", self.0.reason)).unwrap_or(ErrorReason::Unspecified)
    }

    /// The reason's name, such as `FOLDER_NOT_FOUND`; empty where there is none.
    pub fn reason_name(&self) -> &str {
        &self.0.reason
    }

    /// The facts that the reason declares, such as `folder_id`.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.0.metadata
    }

    /// How long to wait before another attempt, where the server said so.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_delay
    }

    /// All bad fields of a refused request, the reason's field first; empty where no field is at fault.
    pub fn violations(&self) -> &[FieldViolation] {
        &self.0.violations
    }

    /// Whether the message does not name all bad fields: it names the only one when that is the reason's.
    fn has_unnamed_fields(&self) -> bool {
        match self.violations() {
            [] => false,
            [only] => self.0.metadata.get("field") != Some(&only.field),
            _ => true,
        }
    }

    /// A sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed a little later, on another connection.
    pub(crate) fn is_temporary(&self) -> bool {
        self.code() == Code::Unavailable
    }

    /// Whether the session is no good any more.
    pub(crate) fn is_over(&self) -> bool {
        self.code() == Code::Unauthenticated
    }

    /// Whether a stream ended in a way that another may not.
    pub(crate) fn is_loss(&self) -> bool {
        match self.code() {
            Code::Unavailable => true,
            Code::Cancelled | Code::Unknown | Code::Internal => self.0.reason.is_empty(),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.reason.is_empty() {
            write!(to, "{:?}", self.0.code)?;
        } else {
            to.write_str(&self.0.reason)?;
        }
        if !self.0.message.is_empty() {
            write!(to, ": {}", self.0.message)?;
        }
        if self.has_unnamed_fields() {
            for (number, FieldViolation { field, problem }) in self.violations().iter().enumerate() {
                write!(to, "{}{field} ({problem})", if number == 0 { " Bad fields: " } else { "; " })?;
            }
            to.write_str(".")?;
        }
        Ok(())
    }
}

impl From<pb::bad_request::FieldViolation> for FieldViolation {
    fn from(told: pb::bad_request::FieldViolation) -> Self {
        Self { field: told.field, problem: told.description }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|cause| cause.as_ref() as _)
    }
}

/// The error of what a generated stub on a plain channel returned.
impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        // A status that was not the server's has the cause of the trouble as its source.
        if let Some(cause) = std::error::Error::source(&status) {
            let late = has_cause::<tonic::TimeoutExpired>(cause);
            let mut made = if late { Self::too_late() } else { Self::new(Code::Unavailable, status.message()) };
            made.0.source = Some(Arc::new(status));
            return made;
        }
        // Octets that are no google.rpc.Status are as good as none: the status itself says what there is to know.
        let told = pb::Status::decode(status.details()).ok().filter(|told| told.code == status.code() as i32);
        told.and_then(|told| Self::from_status(&told)).unwrap_or_else(|| Self::new(status.code(), status.message()))
    }
}

fn has_cause<E: std::error::Error + 'static>(first: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(first), |cause| cause.source()).any(|cause| cause.is::<E>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, domain: &str) -> pb::Status {
        let info = pb::ErrorInfo {
            reason: "QUOTA_EXCEEDED".into(),
            domain: domain.into(),
            metadata: [("limit_octets".to_owned(), "5".to_owned())].into(),
        };
        let retry = pb::RetryInfo { retry_delay: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }) };
        let any =
            |name: &str, value: Vec<u8>| prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value };
        pb::Status {
            code: code as i32,
            message: "Too much.".into(),
            details: vec![
                any("google.rpc.ErrorInfo", info.encode_to_vec()),
                any("google.rpc.RetryInfo", retry.encode_to_vec()),
                any("google.rpc.Unheard", vec![1, 2, 3]),
            ],
        }
    }

    #[test]
    fn a_status_tells_reason_metadata_and_delay() {
        let error = Error::from_status(&status(Code::ResourceExhausted, DOMAIN)).unwrap();
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(error.reason(), ErrorReason::QuotaExceeded);
        assert_eq!(error.reason_name(), "QUOTA_EXCEEDED");
        assert_eq!(error.metadata()["limit_octets"], "5");
        assert_eq!(error.retry_delay(), Some(Duration::from_millis(1500)));
        assert_eq!(error.to_string(), "QUOTA_EXCEEDED: Too much.");
    }

    #[test]
    fn an_error_names_all_bad_fields() {
        for (fields, text) in [
            (vec![("columns", "not known")], "INVALID_ARGUMENT: No."),
            (vec![("password", "too short")], "INVALID_ARGUMENT: No. Bad fields: password (too short)."),
            (
                vec![("columns", "not known"), ("page_size", "negative")],
                "INVALID_ARGUMENT: No. Bad fields: columns (not known); page_size (negative).",
            ),
        ] {
            let violation = |&(field, problem): &(&str, &str)| pb::bad_request::FieldViolation {
                field: field.into(),
                description: problem.into(),
                ..Default::default()
            };
            let bad = pb::BadRequest { field_violations: fields.iter().map(violation).collect() };
            let info = pb::ErrorInfo {
                reason: "INVALID_ARGUMENT".into(),
                domain: DOMAIN.into(),
                metadata: [("field".to_owned(), "columns".to_owned())].into(),
            };
            let any = |name: &str, value: Vec<u8>| prost_types::Any {
                type_url: format!("type.googleapis.com/{name}"),
                value,
            };
            let told = pb::Status {
                code: Code::InvalidArgument as i32,
                message: "No.".into(),
                details: vec![
                    any("google.rpc.ErrorInfo", info.encode_to_vec()),
                    any("google.rpc.BadRequest", bad.encode_to_vec()),
                ],
            };
            let in_call = tonic::Status::with_details(Code::InvalidArgument, "No.", told.encode_to_vec().into());
            for error in [Error::from_status(&told).unwrap(), in_call.into()] {
                let found = error.violations().iter().map(|each| (each.field.as_str(), each.problem.as_str()));
                assert_eq!(found.collect::<Vec<_>>(), fields);
                assert_eq!(error.to_string(), text);
            }
        }
    }

    #[test]
    fn an_ok_status_is_no_error() {
        assert!(Error::from_status(&status(Code::Ok, DOMAIN)).is_none());
    }

    #[test]
    fn the_reason_of_another_domain_is_none_of_ours() {
        let error = Error::from_status(&status(Code::ResourceExhausted, "elsewhere")).unwrap();
        assert_eq!((error.reason(), error.reason_name()), (ErrorReason::Unspecified, ""));
    }

    #[test]
    fn the_trailers_of_a_call_tell_the_same() {
        let details = status(Code::ResourceExhausted, DOMAIN).encode_to_vec();
        let error = Error::from(tonic::Status::with_details(Code::ResourceExhausted, "Too much.", details.into()));
        assert_eq!(error.reason(), ErrorReason::QuotaExceeded);
        let error = Error::from(tonic::Status::with_details(Code::NotFound, "No.", vec![255].into()));
        assert_eq!((error.code(), error.message()), (Code::NotFound, "No."));
    }

    #[test]
    fn what_broke_on_this_side_is_unavailable_and_keeps_its_cause() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = Error::from(tonic::Status::from_error(Box::new(broken)));
        assert_eq!(error.code(), Code::Unavailable);
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn a_timeout_of_the_channel_is_a_deadline() {
        let error = Error::from(tonic::Status::from_error(Box::new(tonic::TimeoutExpired(()))));
        assert_eq!(error.code(), Code::DeadlineExceeded);
    }
}
