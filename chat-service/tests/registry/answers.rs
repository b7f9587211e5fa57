//! What chat-service makes of the registry's answers.

use std::time::{Duration, Instant};

use chat_service::cdc::{
    error::{Decision, Failure, UNKNOWN_SCHEMA_GRACE},
    registry::{SchemaError, WriterSchemas},
    writer_schema::InvalidSchema,
};
use futures_util::future::join_all;
use serde_json::{Value as Json, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::server::World;

const ENVELOPE: &str = include_str!("../../../schemas/fixtures/schema-2.json");
const KEY: &str = include_str!("../../../schemas/fixtures/schema-1.json");
/// For what takes milliseconds on an idle machine.
const BOUND: Duration = Duration::from_secs(30);

async fn refusal(schemas: &WriterSchemas, id: u32) -> SchemaError {
    let loaded = schemas.load(id).await;
    loaded.map(drop).unwrap_err()
}

/// What the pipeline does about it.
async fn decision(schemas: &WriterSchemas, id: u32) -> Decision {
    let failure = Failure::from(refusal(schemas, id).await);
    failure.decide(schemas.unknown_for(id))
}

#[tokio::test]
async fn a_schema_is_asked_for_once() {
    let world = World::start().await;
    world.registers(2, ENVELOPE);
    let schemas = world.schemas();
    let loaded = join_all((0..20).map(|_| schemas.load(2))).await;
    let first = loaded[0].as_ref().unwrap();
    for reader in &loaded {
        assert!(std::ptr::eq(*first, *reader.as_ref().unwrap()));
    }
    let asked = world.asked(2);
    schemas.load(2).await.unwrap();
    assert_eq!(world.asked(2), asked);
}

#[tokio::test]
async fn a_start_without_the_registry_reads_what_was_read_before() {
    let mut world = World::start().await;
    world.registers(1, KEY);
    world.registers(2, ENVELOPE);
    world.schemas().load(2).await.unwrap();
    world.stop_registry().await;

    let started = world.schemas();
    started.load(2).await.unwrap();
    let new = refusal(&started, 1).await;
    assert!(matches!(new, SchemaError::Unreachable { id: 1, .. }), "{new}");
    assert_eq!(decision(&started, 1).await, Decision::Retry);
}

/// A registry that lost its storage counts from 1 again.
#[tokio::test]
async fn an_id_that_means_something_else_now_is_not_read_with() {
    let world = World::start().await;
    world.registers(2, ENVELOPE);
    let running = world.schemas();
    running.load(2).await.unwrap();
    running.confirm().await.unwrap();

    let json_schema = json!({ "schemaType": "JSON", "schema": "{}" }).to_string();
    let reused = json!({ "schema": KEY }).to_string();
    for answer in [json_schema, reused] {
        world.answers(2, 200, answer);
        let started = world.schemas();
        assert!(matches!(
            refusal(&started, 2).await,
            SchemaError::Changed { id: 2 }
        ));
        assert_eq!(decision(&started, 2).await, Decision::Exit);
        // It has the right schema, and would read what is written from now on with it.
        let found = timeout(BOUND, running.watch(CancellationToken::new())).await;
        assert!(
            matches!(found, Ok(Err(SchemaError::Changed { id: 2 }))),
            "{found:?}"
        );
    }
    let kept = world.store.writer_schema(2).await.unwrap();
    assert_eq!(kept.as_deref(), Some(ENVELOPE), "the first is kept");
}

/// Before it gives the id out again, it does not know it.
#[tokio::test]
async fn a_schema_that_the_registry_forgot_is_read_with() {
    let world = World::start().await;
    world.registers(2, ENVELOPE);
    let running = world.schemas();
    running.load(2).await.unwrap();
    world.forgets(2);
    world.schemas().load(2).await.unwrap();
    running.confirm().await.unwrap();
}

#[tokio::test]
async fn another_way_of_writing_a_schema_is_the_same_schema() {
    let world = World::start().await;
    world.registers(2, ENVELOPE);
    world.schemas().load(2).await.unwrap();
    let parsed: Json = serde_json::from_str(ENVELOPE).unwrap();
    assert_ne!(parsed.to_string(), ENVELOPE);
    world.registers(2, &parsed.to_string());
    let started = world.schemas();
    started.load(2).await.unwrap();
    started.confirm().await.unwrap();
}

#[tokio::test]
async fn what_may_be_otherwise_in_a_moment_is_asked_for_again() {
    let world = World::start().await;
    let schemas = world.schemas();
    for (status, body) in [
        (500, r#"{"error_code":50001,"message":"storage is away"}"#),
        (502, "<html>bad gateway</html>"),
        (503, ""),
        (429, r#"{"error_code":429,"message":"slow down"}"#),
        // A proxy that knows no way, or a wrong path; the registry has a code of its own for an id.
        (404, "<html>not found</html>"),
        (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
        (200, "<html>a portal</html>"),
        (200, "{}"),
    ] {
        world.answers(2, status, body);
        let error = refusal(&schemas, 2).await;
        assert!(
            matches!(error, SchemaError::Unreachable { id: 2, .. }),
            "{status} {body}: {error}"
        );
        assert_eq!(decision(&schemas, 2).await, Decision::Retry);
        schemas.confirm().await.unwrap();
    }
    world.registers(2, ENVELOPE);
    schemas.load(2).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_refuses_this_service_is_for_an_operator() {
    let world = World::start().await;
    let schemas = world.schemas();
    for (status, body) in [
        (401, "<html>who are you</html>"),
        (403, r#"{"error_code":40301,"message":"not for you"}"#),
    ] {
        world.answers(2, status, body);
        let error = refusal(&schemas, 2).await;
        assert!(matches!(error, SchemaError::Denied { id: 2, .. }), "{error}");
        assert_eq!(decision(&schemas, 2).await, Decision::Exit);
    }
    // What it let it read before, it reads on with.
    world.store.keep_writer_schema(2, ENVELOPE).await.unwrap();
    schemas.load(2).await.unwrap();
}

/// The minute itself is in the end-to-end tests.
#[tokio::test]
async fn an_unknown_id_is_waited_for_from_when_it_was_first_met() {
    let world = World::start().await;
    let schemas = world.schemas();
    assert_eq!(schemas.unknown_for(7), Duration::ZERO);
    let before = Instant::now();
    assert!(matches!(
        refusal(&schemas, 7).await,
        SchemaError::Unknown { id: 7 }
    ));
    let met = Instant::now();
    for _ in 0..3 {
        let error = refusal(&schemas, 7).await;
        let at_least = met.elapsed();
        let waited = schemas.unknown_for(7);
        assert!(waited >= at_least && waited <= before.elapsed(), "{waited:?}");
        let failure = Failure::from(error);
        assert_eq!(failure.decide(waited), Decision::Retry);
        assert_eq!(failure.decide(UNKNOWN_SCHEMA_GRACE), Decision::DeadLetter);
    }
    assert_eq!(schemas.unknown_for(8), Duration::ZERO, "each id has its own time");
    world.registers(7, ENVELOPE);
    schemas.load(7).await.unwrap();
    assert_eq!(schemas.unknown_for(7), Duration::ZERO);
}

#[tokio::test]
async fn what_is_no_schema_is_final_and_not_kept() {
    let world = World::start().await;
    let schemas = world.schemas();
    let list = r#"{"type":"record","name":"List","fields":[{"name":"next","type":["null","List"]}]}"#;
    let twice = r#"["string",{"type":"fixed","name":"F","size":1},{"type":"array","items":
        {"type":"fixed","name":"F","size":1}}]"#;
    let elsewhere =
        json!({ "schema": ENVELOPE, "references": [{ "name": "R", "subject": "r", "version": 1 }] });
    for (id, answer) in [
        (1, json!({ "schema": list })),
        (2, json!({ "schema": twice })),
        (3, json!({ "schema": "not JSON" })),
        (
            4,
            json!({ "schemaType": "PROTOBUF", "schema": "syntax = \"proto3\";" }),
        ),
        (5, elsewhere),
    ] {
        world.answers(id, 200, answer.to_string());
        for _ in 0..3 {
            let error = refusal(&schemas, id).await;
            assert!(matches!(error, SchemaError::Invalid { .. }), "{id}: {error}");
        }
        assert_eq!(decision(&schemas, id).await, Decision::DeadLetter);
        assert_eq!(world.asked(id), 1);
        assert_eq!(world.store.writer_schema(id).await.unwrap(), None);
    }
    let SchemaError::Invalid { source, .. } = refusal(&schemas, 1).await else {
        panic!("no reason")
    };
    assert_eq!(source, InvalidSchema::Recursive("List".into()));
}
