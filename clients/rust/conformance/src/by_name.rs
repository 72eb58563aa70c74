//! RPCs by their names: requests and responses are encoded messages.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use prost::{DecodeError, Message};
use restante::rpc::{ListVisitor, RpcVisitor};
use restante::{Client, Error, ExecuteOptions, List, Rpc};

/// What comes of a call.
pub type Outcome<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// Makes a call.
pub struct Call<'a> {
    pub client: &'a Client,
    pub request: Vec<u8>,
    pub timeout: Duration,
}

impl RpcVisitor for Call<'_> {
    type Output = Result<Outcome<Bytes>, DecodeError>;

    fn visit<R: Rpc>(self) -> Self::Output {
        let call = self.client.call(R::decode(self.request.as_slice())?).timeout(self.timeout);
        Ok(Box::pin(async { Ok(call.await?.encode_to_vec().into()) }))
    }
}

/// Hands over an operation.
pub struct Execute<'a> {
    pub client: &'a Client,
    pub request: Vec<u8>,
    pub options: ExecuteOptions,
}

impl RpcVisitor for Execute<'_> {
    type Output = Result<Outcome<Bytes>, DecodeError>;

    fn visit<R: Rpc>(self) -> Self::Output {
        let operation = self.client.execute(R::decode(self.request.as_slice())?, self.options);
        Ok(Box::pin(async { Ok(operation.await?.encode_to_vec().into()) }))
    }
}

/// Reads all pages of a list.
pub struct Pages<'a> {
    pub client: &'a Client,
    pub request: Vec<u8>,
}

impl ListVisitor for Pages<'_> {
    type Output = Result<Outcome<Vec<Bytes>>, DecodeError>;

    fn visit<R: List>(self) -> Self::Output {
        let mut pages = self.client.pages(R::decode(self.request.as_slice())?);
        Ok(Box::pin(async move {
            let mut found = Vec::new();
            while let Some(page) = pages.next().await {
                found.push(page?.encode_to_vec().into());
            }
            Ok(found)
        }))
    }
}

/// The number of an RPC's field in Operation and OperationResult.
pub struct Place;

impl RpcVisitor for Place {
    type Output = Option<u32>;

    fn visit<R: Rpc>(self) -> Option<u32> {
        R::PLACE
    }
}
