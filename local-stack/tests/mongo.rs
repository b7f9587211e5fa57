//! MongoDB as tests get it: what the chat needs of a server works, and acknowledged writes survive a kill.

use local_stack::testing;
use mongodb::{
    Client,
    bson::{Document, doc},
};

#[tokio::test]
async fn transactions_work_and_acknowledged_writes_survive_a_kill() {
    let mongo = testing::mongo().await;
    let client = Client::with_uri_str(mongo.uri()).await.unwrap();
    let rooms = client.database("local_stack").collection::<Document>("rooms");
    rooms.delete_many(doc! {}).await.unwrap();

    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    rooms
        .insert_one(doc! { "_id": 1 })
        .session(&mut session)
        .await
        .unwrap();
    session.abort_transaction().await.unwrap();
    session.start_transaction().await.unwrap();
    rooms
        .insert_one(doc! { "_id": 2 })
        .session(&mut session)
        .await
        .unwrap();
    session.commit_transaction().await.unwrap();

    // A MongoDB that MONGODB_URI names is not ours to kill.
    if let Some(server) = &mongo.server {
        let before = server.pid().unwrap();
        server.kill().unwrap();
        assert_eq!(server.pid(), None);
        server.restart().await.unwrap();
        assert_ne!(server.pid(), Some(before));
    }
    assert_eq!(rooms.find_one(doc! { "_id": 1 }).await.unwrap(), None);
    assert!(rooms.find_one(doc! { "_id": 2 }).await.unwrap().is_some());
}
