//! Endpoints whose bodies are read and written by hand, described: what hosts and clients post, what admins do, who the
//! server is. Nothing in here runs; that it is so is what the fuzzing of the running server is for (tests/openapi).

#![allow(dead_code, clippy::unused_async, reason = "these functions and types only describe")]

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

use crate::moment::Moment;

#[derive(OpenApi)]
#[openapi(paths(server, openapi, post_artifacts, create_token, list_tokens, revoke_token, list_enrolments, approve))]
pub(super) struct Described;

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "server",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
fn openapi() {}

/// Who the server is, for verifying receipts.
#[derive(Serialize, ToSchema)]
struct Server {
    /// Its name: the principal of its key.
    name: String,
    /// Its version.
    version: String,
    /// The key that signs receipts and the server's own ledger, as OpenSSH writes it.
    public_key: String,
    /// The same as a line of an allowed_signers file (ssh-keygen(1)).
    allowed_signers: String,
    /// The keys before it, oldest first: what they signed verifies with them.
    former_keys: Vec<FormerKey>,
}

/// A key that this server signed with.
#[derive(Serialize, ToSchema)]
struct FormerKey {
    /// As OpenSSH writes it.
    public_key: String,
    /// When it began to sign.
    since: Moment,
    /// When another took its place.
    until: Moment,
}

/// Who the server is: the key that its receipts verify with.
#[utoipa::path(get, path = "/v1/server", tag = "server",
    responses((status = 200, description = "The server", body = Server)))]
fn server() {}

/// One artifact: a CloudEvent 1.0.
#[derive(Deserialize, ToSchema)]
struct Event {
    /// Always `1.0`.
    #[schema(pattern = "^1\\.0$", example = "1.0")]
    specversion: String,
    /// A host: `LEDGER/SEQ`. A client or person: an id of its own, by which the same is never stored twice.
    #[schema(min_length = 1, max_length = 128, example = "login-2026-11-23-0001")]
    id: String,
    /// `/stacks/STACK/hosts/HOST`, `/clients/NAME` or `/people/PERSON`.
    #[schema(example = "/clients/portal")]
    source: String,
    /// The artifact type.
    #[serde(rename = "type")]
    #[schema(max_length = 64, example = "app.authentication")]
    kind: String,
    /// RFC 3339. Without it: when it was received.
    #[schema(format = DateTime, example = "2026-11-23T12:00:00Z")]
    time: Option<String>,
    /// Where it is given: `application/json`.
    #[schema(example = "application/json")]
    datacontenttype: Option<String>,
    /// A host: the record's line, byte by byte, without its newline. Else any JSON object on one line.
    #[schema(value_type = Object, example = json!({"user": "u-1027", "result": "accepted"}))]
    data: Value,
}

/// Where a chain stands.
#[derive(Serialize, ToSchema)]
struct Head {
    /// The chain.
    ledger: String,
    /// The last record's number.
    #[schema(minimum = 0)]
    seq: u64,
    /// SHA-256 of its line, in hex.
    hash: String,
}

/// The server's signed word that all of a ledger up to `seq` is stored: docs/RECORDS.md, "Receipts".
#[derive(Serialize, ToSchema)]
struct Receipt {
    /// Always 1.
    v: u64,
    /// The chain.
    ledger: String,
    /// The last record that is stored.
    #[schema(minimum = 1)]
    seq: u64,
    /// SHA-256 of its line, in hex.
    hash: String,
    /// When it was stored.
    received: Moment,
    /// The fingerprint of the host's key that signs the ledger there; absent for a chain that the server keeps itself.
    signer: Option<String>,
    /// Armored SSHSIG, namespace ssh-access-receipt, over the canonical object without `signature`.
    signature: String,
}

/// What was taken.
#[derive(Serialize, ToSchema)]
struct Taken {
    /// Events that are stored now, those that were before included.
    accepted: u64,
    /// Those of them that were not before.
    stored: u64,
    /// `pending`: stored, and no evidence until an admin approves the ledger.
    enrolment: Enrolled,
    /// Where the chain stands now.
    head: Option<Head>,
    /// The receipt over that head.
    receipt: Option<Receipt>,
}

/// Whether a ledger counts.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Enrolled {
    /// It does.
    Enrolled,
    /// An admin has yet to approve it.
    Pending,
}

/// Takes what a host, a client or a person states.
///
/// One batch is of one source, in order. The longest valid prefix is stored, durably, before any answer, a refusal
/// included. A host that is enrolled sends no token: its signatures are the proof. A new host sends its stack's enrolment
/// token; a client its client token; a person's review carries its signature.
#[utoipa::path(post, path = "/v1/artifacts", tag = "stating",
    request_body(content = Vec<Event>, content_type = "application/cloudevents-batch+json"),
    responses((status = 200, description = "All of it is stored", body = Taken)),
    security((), ("bearer" = [])))]
fn post_artifacts() {}

/// What a token lets its bearer do.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TokenRole {
    /// Bind the key of a new host of one stack.
    Enrol,
    /// Post artifacts of its own, under one name.
    Client,
    /// Read evidence.
    Auditor,
    /// All that an auditor may; tokens, enrolments and reviewers.
    Admin,
}

/// A token that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    /// What it lets its bearer do.
    role: TokenRole,
    /// A client's name (`/clients/NAME`), which it needs; else what it is for.
    #[schema(pattern = "^[A-Za-z0-9._@-]{1,64}$", example = "portal")]
    name: Option<String>,
    /// Role enrol, which needs it: of this stack's hosts.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    stack: Option<String>,
    /// Role client: the only types that it may post.
    #[schema(min_items = 1, max_items = 64)]
    types: Option<Vec<String>>,
    /// Role enrol: how many hosts it binds.
    #[schema(minimum = 1)]
    uses: Option<u64>,
    /// When it ends.
    #[schema(format = DateTime)]
    expires: Option<String>,
}

/// A token as kept: everything but its text.
#[derive(Serialize, ToSchema)]
struct Token {
    /// Names it; no secret.
    id: String,
    /// What it lets its bearer do.
    role: TokenRole,
    /// A client's name; else what it is for.
    name: String,
    /// Of this stack's hosts.
    stack: Option<String>,
    /// The only types that it may post.
    types: Option<Vec<String>>,
    /// How many hosts it may yet bind.
    uses: Option<u64>,
    /// When it was made.
    created: Moment,
    /// When it ends.
    expires: Option<Moment>,
    /// When it was revoked.
    revoked: Option<Moment>,
}

/// A token that was just made.
#[derive(Serialize, ToSchema)]
struct MadeToken {
    /// As kept.
    #[serde(flatten)]
    kept: Token,
    /// Its text, shown this once.
    token: String,
}

/// Every token.
#[derive(Serialize, ToSchema)]
struct Tokens {
    /// Newest first.
    tokens: Vec<Token>,
}

/// Makes a token. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", tag = "admin", request_body = NewToken,
    responses((status = 201, description = "It is made", body = MadeToken)), security(("bearer" = [])))]
fn create_token() {}

/// Every token there ever was, without its text.
#[utoipa::path(get, path = "/v1/tokens", tag = "admin",
    responses((status = 200, description = "Tokens", body = Tokens)), security(("bearer" = [])))]
fn list_tokens() {}

/// Revokes a token: at once, and for good.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "admin",
    params(("id" = String, Path, description = "Its id, as listed", max_length = 64)),
    responses((status = 204, description = "It is revoked")), security(("bearer" = [])))]
fn revoke_token() {}

/// A host's ledger, for whoever approves.
#[derive(Serialize, ToSchema)]
struct Enrolment {
    /// Its id.
    ledger: String,
    /// Its host.
    host: String,
    /// The stack of its newest record.
    stack: String,
    /// Whether it counts.
    enrolment: Enrolled,
    /// When it came.
    created: Moment,
    /// When it was approved, if that was needed.
    approved: Option<Moment>,
    /// The key that it came with.
    public_key: String,
    /// How many records are stored.
    #[schema(minimum = 0)]
    records: u64,
}

/// Hosts' ledgers.
#[derive(Serialize, ToSchema)]
struct Enrolments {
    /// Those that wait first, then the newest.
    enrolments: Vec<Enrolment>,
}

/// Hosts' ledgers, those that wait for an admin first.
#[utoipa::path(get, path = "/v1/enrolments", tag = "admin",
    responses((status = 200, description = "Ledgers", body = Enrolments)), security(("bearer" = [])))]
fn list_enrolments() {}

/// A ledger that was approved.
#[derive(Serialize, ToSchema)]
struct Approved {
    /// Its id.
    ledger: String,
    /// `enrolled`, from now on.
    enrolment: Enrolled,
}

/// Approves a ledger that waits: what it states is evidence from now on, what it has stated included.
#[utoipa::path(post, path = "/v1/enrolments/{ledger}/approve", tag = "admin",
    params(("ledger" = String, Path, description = "Its id", max_length = 64)),
    responses((status = 200, description = "It is approved", body = Approved)), security(("bearer" = [])))]
fn approve() {}
