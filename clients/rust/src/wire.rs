//! The messages of Execute, written and read by hand as far as they envelop requests and responses: a request is encoded
//! once, where it is called, the stream only joins octets, and a response is decoded where it is awaited.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
    skip_field,
};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use tonic_types::pb;

use crate::error::Error;

// Numbers of fields (protos/restante/v1/batch.proto).
const OPERATIONS: u32 = 1; // of ExecuteRequest
const CANCELS: u32 = 2;
const OPERATION_ID: u32 = 1; // of Operation
const TOKEN: u32 = 2;
const TIMEOUT: u32 = 3;
const INDEPENDENT: u32 = 4;
const RESULTS: u32 = 1; // of ExecuteResponse
const DRAINING: u32 = 2;
const RESULT_ID: u32 = 1; // of OperationResult
const STATUS: u32 = 2;

/// Enough for an operation but for its request, with a token of 64 octets.
const HEAD_OCTETS: usize = 112;
const MAX_TIMEOUT_MILLISECONDS: u64 = 600_000;

/// A request as a field of Operation.
pub(crate) fn encode_request(place: u32, request: &[u8]) -> Bytes {
    let mut octets = Vec::with_capacity(request.len() + 12);
    put_octets(place, request, &mut octets);
    octets.into()
}

/// The most that an operation takes of a message.
pub(crate) fn octets_of(request: &Bytes) -> usize {
    request.len() + HEAD_OCTETS
}

/// Adds an operation to the octets of an ExecuteRequest.
pub(crate) fn put_operation(
    id: i64,
    token: &[u8],
    milliseconds: u64,
    independent: bool,
    request: &Bytes,
    to: &mut Vec<u8>,
) {
    let timeout = milliseconds.clamp(1, MAX_TIMEOUT_MILLISECONDS);
    let mut size = varint_len(OPERATION_ID, id as u64) + varint_len(TIMEOUT, timeout) + request.len();
    if !token.is_empty() {
        size += key_len(TOKEN) + encoded_len_varint(token.len() as u64) + token.len();
    }
    if independent {
        size += varint_len(INDEPENDENT, 1);
    }
    encode_key(OPERATIONS, WireType::LengthDelimited, to);
    encode_varint(size as u64, to);
    put_varint(OPERATION_ID, id as u64, to);
    if !token.is_empty() {
        put_octets(TOKEN, token, to);
    }
    put_varint(TIMEOUT, timeout, to);
    if independent {
        put_varint(INDEPENDENT, 1, to);
    }
    to.put_slice(request);
}

/// Adds what is to be given up to the octets of an ExecuteRequest.
pub(crate) fn put_cancel(id: i64, to: &mut Vec<u8>) {
    put_varint(CANCELS, id as u64, to);
}

/// Adds a field of octets, which may be an encoded message.
pub(crate) fn put_octets(number: u32, octets: &[u8], to: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, to);
    encode_varint(octets.len() as u64, to);
    to.put_slice(octets);
}

fn put_varint(number: u32, value: u64, to: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, to);
    encode_varint(value, to);
}

fn varint_len(number: u32, value: u64) -> usize {
    key_len(number) + encoded_len_varint(value)
}

/// An ExecuteResponse. Its results share the octets that it was read from.
#[derive(Default)]
pub(crate) struct Answers {
    pub results: Vec<Answer>,
    pub draining: bool,
}

/// An OperationResult.
#[derive(Default)]
pub(crate) struct Answer {
    pub id: i64,
    status: Option<Bytes>,
    response: Option<(u32, Bytes)>, // with its place in the oneof
}

impl Answers {
    pub fn read(octets: Bytes) -> Result<Self, Error> {
        let mut read = Self::default();
        each_field(octets, |number, value| {
            match (number, value) {
                (RESULTS, Value::Octets(octets)) => read.results.push(Answer::read(octets)?),
                (DRAINING, Value::Integer(value)) => read.draining = value != 0,
                _ => {}
            }
            Ok(())
        })?;
        Ok(read)
    }
}

impl Answer {
    fn read(octets: Bytes) -> Result<Self, Error> {
        let mut read = Self::default();
        each_field(octets, |number, value| {
            match (number, value) {
                (RESULT_ID, Value::Integer(value)) => read.id = value as i64,
                (STATUS, Value::Octets(octets)) => read.status = Some(octets),
                (number, Value::Octets(octets)) => read.response = Some((number, octets)),
                _ => {}
            }
            Ok(())
        })?;
        Ok(read)
    }

    /// The response, which is that of a place, or the error of the status.
    pub fn outcome(self, place: u32) -> Result<Bytes, Error> {
        if let Some(octets) = self.status {
            let status = pb::Status::decode(octets).map_err(malformed)?;
            if let Some(error) = Error::from_status(&status) {
                return Err(error);
            }
        }
        match self.response {
            Some((number, octets)) if number == place => Ok(octets),
            _ => Err(Error::new(Code::Internal, "The result holds no response of the kind that was asked for.")),
        }
    }
}

enum Value {
    Integer(u64),
    Octets(Bytes),
}

/// Tells the fields of a message. Those of other types are passed over.
fn each_field(mut octets: Bytes, mut told: impl FnMut(u32, Value) -> Result<(), Error>) -> Result<(), Error> {
    while octets.has_remaining() {
        let (number, kind) = decode_key(&mut octets).map_err(malformed)?;
        match kind {
            WireType::Varint => told(number, Value::Integer(decode_varint(&mut octets).map_err(malformed)?))?,
            WireType::LengthDelimited => {
                let length = decode_varint(&mut octets).map_err(malformed)?;
                match usize::try_from(length) {
                    Ok(length) if length <= octets.len() => told(number, Value::Octets(octets.split_to(length)))?,
                    _ => return Err(Error::new(Code::Internal, "A field is longer than its message.")),
                }
            }
            _ => skip_field(kind, number, &mut octets, DecodeContext::default()).map_err(malformed)?,
        }
    }
    Ok(())
}

pub(crate) fn malformed(cause: prost::DecodeError) -> Error {
    Error::caused(Code::Internal, cause)
}

/// Lets gRPC carry messages that are encoded already, for programs that pass them on without knowing their types:
/// `tonic::client::Grpc::new(channel).unary(request, path, OctetsCodec)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct OctetsCodec;

impl Codec for OctetsCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for OctetsCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for OctetsCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rpc;
    use crate::v1;
    use crate::v1::{operation, operation_result};

    #[test]
    fn what_is_written_is_what_the_contract_says() {
        let request = v1::GetFolderRequest { folder_id: 7, ..Default::default() };
        let body = encode_request(v1::GetFolderRequest::PLACE.unwrap(), &request.encode_to_vec());
        let mut octets = Vec::new();
        put_operation(300, b"token", 1_500, true, &body, &mut octets);
        put_operation(301, b"", 3_600_000, false, &body, &mut octets);
        put_cancel(299, &mut octets);
        assert!(octets.len() <= 2 * octets_of(&body) + 10);
        let read = v1::ExecuteRequest::decode(octets.as_slice()).unwrap();
        let operation = |id, token: &[u8], timeout, independent| v1::Operation {
            operation_id: id,
            session_token: token.to_vec(),
            timeout_milliseconds: timeout,
            independent,
            request: Some(operation::Request::GetFolder(request.clone())),
            ..Default::default()
        };
        let wanted = vec![operation(300, b"token", 1_500, true), operation(301, b"", 600_000, false)];
        assert_eq!(read, v1::ExecuteRequest { operations: wanted, cancel_operation_ids: vec![299] });
    }

    #[test]
    fn what_is_read_is_what_the_contract_says() {
        let answer = v1::LogoffResponse {};
        let status = pb::Status { code: Code::NotFound as i32, message: "No.".into(), details: vec![] };
        let response = Some(operation_result::Response::Logoff(answer));
        let results = vec![
            v1::OperationResult { operation_id: 1, response: response.clone(), ..Default::default() },
            v1::OperationResult { operation_id: 2, status: Some(status), ..Default::default() },
            v1::OperationResult { operation_id: 3, response, followed_change_number: 9, ..Default::default() },
        ];
        let octets = v1::ExecuteResponse { results, draining: true }.encode_to_vec();
        let mut read = Answers::read(octets.into()).unwrap();
        assert!(read.draining);
        assert_eq!(read.results.iter().map(|each| each.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(read.results.pop().unwrap().outcome(23).unwrap_err().code(), Code::Internal);
        assert_eq!(read.results.pop().unwrap().outcome(22).unwrap_err().code(), Code::NotFound);
        assert_eq!(read.results.pop().unwrap().outcome(22).unwrap(), Bytes::new());
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let whole = v1::ExecuteResponse {
            results: vec![v1::OperationResult { operation_id: 1, ..Default::default() }],
            draining: true,
        };
        let octets = whole.encode_to_vec();
        assert!(Answers::read(Bytes::from(octets[..octets.len() - 1].to_vec())).is_err());
        assert!(Answers::read(Bytes::from(octets[..2].to_vec())).is_err());
    }
}
