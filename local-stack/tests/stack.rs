//! All servers together, as the tests of the whole system get them.

use std::time::Instant;

use local_stack::testing;

#[tokio::test]
async fn probe() {
    let start = Instant::now();
    let stack = testing::stack().await;
    println!("{:?}", start.elapsed());
    for server in [
        &stack.connect.server,
        &stack.registry.server,
        &stack.kafka.server,
        stack.mongo.server.as_ref().unwrap(),
        &stack.postgres.server,
    ] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
        println!(
            "{} {}",
            server.name(),
            status.lines().find(|l| l.starts_with("VmRSS")).unwrap()
        );
    }
    std::fs::copy(stack.connect.server.log(), "/tmp/ls/connect.log").unwrap();
}
