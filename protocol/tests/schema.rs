//! The published JSON Schema is what the types say.
#![cfg(feature = "schema")]

mod harness;

use rollcall_protocol::{CloseCode, ErrorCode, Inbound, OnIdle, Problem, ServerMessage};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

#[test]
fn the_schema_is_as_published() {
    // What the server sends is described as it is written, what it takes as it is read.
    let mut sent = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let from_server = sent.subschema_for::<ServerMessage>();
    let refusal = sent.subschema_for::<Problem>();
    sent.subschema_for::<OnIdle>();
    sent.subschema_for::<ErrorCode>();
    let mut taken = SchemaSettings::draft2020_12().into_generator();
    let from_client = taken.subschema_for::<Inbound>();

    let mut parts: Map<String, Value> = taken.take_definitions(true);
    parts.extend(sent.take_definitions(true));
    parts.insert("CloseCode".to_owned(), close_codes());
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:rollcall:schema:rollcall-v1",
        "title": "Rollcall protocol, version 1",
        "description": "Messages from the server, messages from clients, and refusals. Made from the types of the crate rollcall-protocol.",
        "anyOf": [from_server, from_client, refusal],
        "$defs": parts,
    });
    let text = serde_json::to_string_pretty(&schema).expect("JSON");
    harness::check("schema/rollcall-v1.schema.json", &text);
    every_reference_leads_somewhere(&text, &schema);
}

fn close_codes() -> Value {
    let one = |code: CloseCode| json!({"const": code.code(), "description": code.reason()});
    json!({"description": "Why the server closes a WebSocket.", "oneOf": CloseCode::ALL.map(one)})
}

fn every_reference_leads_somewhere(text: &str, schema: &Value) {
    for rest in text.split("\"$ref\": \"#").skip(1) {
        let pointer = rest.split('"').next().unwrap_or_default();
        assert!(schema.pointer(pointer).is_some(), "{pointer} is missing");
    }
}
