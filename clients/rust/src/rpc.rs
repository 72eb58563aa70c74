//! What there is to know of each unary RPC, by its request; build.rs writes it from the contract's descriptors.

use prost::Message;

use crate::v1;

/// Keeps others from implementing the traits of this module.
pub trait Sealed {}

/// The request of a unary RPC. Each unary RPC of the contract has a request of its own, so that a request says what is
/// called and what is answered.
pub trait Rpc: Message + Default + Clone + Sealed + 'static {
    /// What is answered.
    type Response: Message + Default + 'static;
    /// Of gRPC, such as `/restante.v1.FolderService/GetFolder`.
    const PATH: &'static str;
    /// The number of its field in `Operation`, and of the response's in `OperationResult`; `None`: it is no operation
    /// of a batch.
    const PLACE: Option<u32>;

    /// The request's id, where the RPC takes one.
    fn request_id(&mut self) -> Option<&mut Vec<u8>> {
        None
    }

    /// The number of the field `min_commit`, and the mailbox, where the RPC takes one and it is not set.
    fn min_commit(&self) -> Option<(u32, i64)> {
        None
    }

    /// Whether the call may be sent again when its answer was lost. Whatever must not happen twice carries a request
    /// id; what remains is what is good once.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// The commit of a write, in its response.
    fn commit(_response: &Self::Response) -> Option<&v1::CommitToken> {
        None
    }
}

/// The request of a list, which is answered page by page.
pub trait List: Rpc {
    /// Where the page begins.
    fn page_token(&mut self) -> &mut String;
    /// Where the next page begins; empty: this was the last.
    fn next_page_token(page: &Self::Response) -> &str;
}

/// Something to do with an RPC whose type is only known by its name; see [`visit`].
pub trait RpcVisitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<R: Rpc>(self) -> Self::Output;
}

/// Something to do with a list whose type is only known by its name; see [`visit_list`].
pub trait ListVisitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<R: List>(self) -> Self::Output;
}

include!(concat!(env!("OUT_DIR"), "/rpc.rs"));
