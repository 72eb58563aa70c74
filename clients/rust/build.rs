//! Makes the contract's half of this crate: messages and stubs from the protos by prost and tonic, and for each unary
//! RPC what the layer by hand needs to know of it (`Rpc` in src/rpc.rs), from the same descriptors.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto};

const PACKAGE: &str = "restante.v1";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("protos");
    let folder = root.join("restante/v1"); // reached by a link, so that a package of this crate has them
    let mut protos: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    protos.retain(|path| path.extension().is_some_and(|ending| ending == "proto"));
    protos.sort();
    for path in protos.iter().chain([&folder, &root.join("google/rpc/status.proto")]) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-env-changed=PROTOC");

    let known_types = protoc_bin_vendored::include_path()?;
    let mut config = tonic_prost_build::Config::new();
    if std::env::var_os("PROTOC").is_none() {
        config.protoc_executable(protoc_bin_vendored::protoc_bin_path()?);
    }
    let set = config.load_fds(&protos, &[root, known_types])?;

    let output = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(output.join("rpc.rs"), rpcs(&set)?)?;
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(set)?;
    Ok(())
}

/// An implementation of `Rpc` for the request of each unary RPC, and of `List` for those that page.
fn rpcs(set: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let files = || set.file.iter().filter(|file| file.package() == PACKAGE);
    let messages: BTreeMap<String, &DescriptorProto> =
        files().flat_map(|file| &file.message_type).map(|message| (full_name(message.name()), message)).collect();
    let places = |holder: &str| -> HashMap<&str, i32> {
        let fields = messages[&full_name(holder)].field.iter();
        let chosen = fields.filter(|field| field.oneof_index.is_some() && field.r#type() == Type::Message);
        chosen.map(|field| (field.type_name(), field.number())).collect()
    };
    let (requests, responses) = (places("Operation"), places("OperationResult"));

    let mut made = String::new();
    let (mut named, mut lists) = (String::new(), String::new());
    for file in files() {
        for service in &file.service {
            for method in
                service.method.iter().filter(|method| !method.client_streaming() && !method.server_streaming())
            {
                let path = format!("/{PACKAGE}.{}/{}", service.name(), method.name());
                let place = match (requests.get(method.input_type()), responses.get(method.output_type())) {
                    (Some(request), Some(response)) if request == response => Some(*request),
                    (None, None) => None,
                    _ => return Err(format!("{path} has no place of its own in Operation and OperationResult").into()),
                };
                rpc(&mut made, &path, place, method, &messages)?;
                let input = messages[method.input_type()];
                let arm = format!(
                    "\"{}/{}\" => Some(visitor.visit::<v1::{}>()),",
                    service.name(),
                    method.name(),
                    input.name()
                );
                writeln!(named, "        {arm}")?;
                if field(input, "page_token").is_some() {
                    writeln!(lists, "        {arm}")?;
                }
            }
        }
    }
    let (doc, of) = ("/// Shows a visitor the RPC of a name such as", "`None`: the contract has no such");
    for (function, visitor, arms, kind) in
        [("visit", "RpcVisitor", named, "unary RPC"), ("visit_list", "ListVisitor", lists, "list")]
    {
        writeln!(made, "{doc} `FolderService/ListFolders`, without the package. {of} {kind}.")?;
        writeln!(made, "pub fn {function}<V: {visitor}>(name: &str, visitor: V) -> Option<V::Output> {{")?;
        writeln!(made, "    match name {{\n{arms}        _ => None,\n    }}\n}}")?;
    }
    Ok(made)
}

fn full_name(name: &str) -> String {
    format!(".{PACKAGE}.{name}")
}

fn field<'a>(message: &'a DescriptorProto, name: &str) -> Option<&'a FieldDescriptorProto> {
    message.field.iter().find(|field| field.name() == name)
}

fn rpc(
    made: &mut String,
    path: &str,
    place: Option<i32>,
    method: &MethodDescriptorProto,
    messages: &BTreeMap<String, &DescriptorProto>,
) -> Result<(), Box<dyn Error>> {
    let (input, output) = (messages[method.input_type()], messages[method.output_type()]);
    let has = |message: &DescriptorProto, name: &str| field(message, name).is_some();
    let (request, response) = (input.name(), output.name());

    writeln!(made, "impl Sealed for v1::{request} {{}}")?;
    writeln!(made, "impl Rpc for v1::{request} {{")?;
    writeln!(made, "    type Response = v1::{response};")?;
    writeln!(made, "    const PATH: &'static str = \"{path}\";")?;
    writeln!(made, "    const PLACE: Option<u32> = {place:?};")?;
    if has(input, "request_id") {
        writeln!(made, "    fn request_id(&mut self) -> Option<&mut Vec<u8>> {{ Some(&mut self.request_id) }}")?;
    }
    if let Some(field) = field(input, "min_commit") {
        let number = field.number();
        writeln!(made, "    fn min_commit(&self) -> Option<(u32, i64)> {{")?;
        writeln!(made, "        self.min_commit.is_none().then_some(({number}, self.mailbox_id))")?;
        writeln!(made, "    }}")?;
    }
    match method.name() {
        // A later step of a SASL exchange is good once.
        "Authenticate" => writeln!(made, "    fn is_repeatable(&self) -> bool {{ self.exchange.is_empty() }}")?,
        // A repetition would be answered by a complaint about the old password.
        "ChangePassword" => writeln!(made, "    fn is_repeatable(&self) -> bool {{ false }}")?,
        _ => {}
    }
    if has(output, "commit") {
        writeln!(
            made,
            "    fn commit(response: &Self::Response) -> Option<&v1::CommitToken> {{ response.commit.as_ref() }}"
        )?;
    }
    writeln!(made, "}}")?;

    if has(input, "page_token") {
        writeln!(made, "impl List for v1::{request} {{")?;
        writeln!(made, "    fn page_token(&mut self) -> &mut String {{ &mut self.page_token }}")?;
        writeln!(made, "    fn next_page_token(page: &Self::Response) -> &str {{ &page.next_page_token }}")?;
        writeln!(made, "}}")?;
    }
    Ok(())
}
