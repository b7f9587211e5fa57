//! `connectors watch`: what fails is restarted, once per failure, however many watch.

use std::{process::Stdio, time::Duration};

use connectors::{
    ConnectApi,
    lifecycle::Order,
    status::Standing,
    watch::{Watch, run, supervision::Pace},
};
use local_stack::testing;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    front::Front,
    run::connectors,
    world::{World, eventually},
};

const PUBLICATION: &str = "CREATE PUBLICATION trade_cdc FOR TABLE trade_posts (id, seller_id, title, status)";

/// The command as a process, and the address where it answers.
async fn start(url: &str, arguments: &[&str]) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_connectors"))
        .args([
            "watch",
            "--connect-url",
            url,
            "--listen",
            "127.0.0.1:0",
            "--interval",
            "200ms",
        ])
        .args(arguments)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("it says where it answers");
        if let Some((_, address)) = line.split_once("metrics on ") {
            break address.trim().to_owned();
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, format!("http://{address}"))
}

async fn get(url: &str, path: &str) -> (u16, String) {
    let response = reqwest::get(format!("{url}{path}")).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_failed_connector_is_restarted_and_told_by_metrics() {
    let mut world = World::new("watched").await;
    world.execute("DROP PUBLICATION trade_cdc").await;
    world.apply().await.unwrap_err();
    let arguments = [
        "watched",
        "watched_missing",
        "--backoff-unit",
        "2s",
        "--jitter",
        "100ms",
    ];
    let (mut child, url) = start(world.stack.connect.url(), &arguments).await;

    // Restarted at once, failed again, and due in two units.
    let metrics = eventually("restarted and due again", async || {
        let (_, metrics) = get(&url, "/metrics").await;
        let told = |line: &str| metrics.contains(line);
        let next = told(r#"connector_next_restart_timestamp_seconds{connector="watched"} "#);
        let once = told(r#"connector_restarts_total{connector="watched"} 1"#);
        if next && once { Ok(metrics) } else { Err(metrics) }
    })
    .await;
    for line in [
        "connect_up 1",
        r#"connector_state{connector="watched",state="RUNNING"} 1"#,
        r#"connector_task_state{connector="watched",task="0",state="FAILED"} 1"#,
        r#"connector_state{connector="watched_missing",state="MISSING"} 1"#,
        r#"connector_restarts_in_a_row{connector="watched"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert_eq!(get(&url, "/readyz").await.0, 200);
    assert_eq!(get(&url, "/livez").await.0, 200);

    world.execute(PUBLICATION).await;
    eventually("running", async || {
        let (_, metrics) = get(&url, "/metrics").await;
        let running =
            metrics.contains(r#"connector_task_state{connector="watched",task="0",state="RUNNING"} 1"#);
        if running { Ok(()) } else { Err(metrics) }
    })
    .await;
    let (_, metrics) = get(&url, "/metrics").await;
    assert!(
        !metrics.contains(r#"timestamp_seconds{connector="watched"}"#),
        "{metrics}"
    );

    let asked = Instant::now();
    let pid = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    world.end().await;
}

/// A slot that is made anew begins behind what was changed since the connector stopped. A look at the
/// database that is away keeps nothing else from being told.
#[tokio::test]
async fn a_slot_that_is_lost_or_made_anew_is_told_by_metrics() {
    let mut world = World::new("gapped").await;
    world.apply().await.unwrap();
    let connect = world.stack.connect.url();
    let database = world.stack.postgres.superuser_url("gapped");
    let front = Front::of(connect, "gapped").await;
    let (mut child, url) = start(&front.url(), &["gapped", "--database-url", &database]).await;
    until_told(
        &url,
        &[
            "capture_database_up 1",
            r#"slot_active{connector="gapped"} 1.0"#,
            r#"slot_gap_bytes{connector="gapped"} 0.0"#,
            r#"slot_wal_status{connector="gapped"} 0.0"#,
            r#"slot_retained_bytes{connector="gapped"} "#,
            r#"heartbeat_age_seconds{connector="gapped"} "#,
        ],
    )
    .await;

    world.api.order("gapped", Order::Stop).await.unwrap();
    until_told(&url, &[r#"slot_active{connector="gapped"} 0.0"#]).await;
    world.execute("SELECT pg_drop_replication_slot('gapped')").await;
    until_told(&url, &[r#"slot_wal_status{connector="gapped"} 3.0"#]).await;
    let (_, metrics) = get(&url, "/metrics").await;
    assert!(
        !metrics.contains(r#"slot_gap_bytes{connector="gapped"}"#),
        "{metrics}"
    );
    // What nobody captures.
    world
        .execute("SELECT pg_logical_emit_message(true, 'missed', repeat('x', 100000))")
        .await;
    let create = "SELECT pg_create_logical_replication_slot('gapped', 'pgoutput')";
    world.execute(create).await;
    eventually("told of the gap", async || {
        let (_, metrics) = get(&url, "/metrics").await;
        let gap = metrics
            .lines()
            .find_map(|line| line.strip_prefix(r#"slot_gap_bytes{connector="gapped"} "#))
            .and_then(|bytes| bytes.parse::<f64>().ok());
        match gap {
            Some(bytes) if bytes > 100_000.0 => Ok(()),
            _ => Err(metrics),
        }
    })
    .await;

    // Nothing restarts the connector then, and its slot keeps the log.
    front.fall_silent();
    eventually("told of slots alone", async || {
        let (_, metrics) = get(&url, "/metrics").await;
        if metrics.contains("slot_gap_bytes{") {
            Err(metrics)
        } else {
            Ok(metrics)
        }
    })
    .await;
    world.execute("SELECT pg_drop_replication_slot('gapped')").await;
    until_told(
        &url,
        &[
            "capture_database_up 1",
            r#"slot_wal_status{connector="gapped"} 3.0"#,
            r#"heartbeat_age_seconds{connector="gapped"} "#,
        ],
    )
    .await;
    child.kill().await.unwrap();

    let nobody = "postgres://postgres@127.0.0.1:1/trade";
    let (mut child, url) = start(connect, &["gapped", "--database-url", nobody]).await;
    until_told(
        &url,
        &[
            "connect_up 1",
            "capture_database_up 0",
            r#"connector_state{connector="gapped",state="STOPPED"} 1"#,
        ],
    )
    .await;
    assert_eq!(get(&url, "/readyz").await.0, 200);
    child.kill().await.unwrap();
    let ended = connectors(connect, &["watch", "--database-url", "nonsense"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("--database-url"), "{}", ended.err);
    world.end().await;
}

/// Every line begins with one of these.
async fn until_told(url: &str, lines: &[&str]) {
    eventually("told", async || {
        let (_, metrics) = get(url, "/metrics").await;
        let told = |begin: &&str| metrics.lines().any(|line| line.starts_with(begin));
        if lines.iter().all(told) {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_away_is_waited_for_and_strangers_are_not() {
    let stack = testing::stack().await;
    // Nobody listens there, as long as the listener is not bound again.
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (mut child, url) = start(&format!("http://127.0.0.1:{port}"), &[]).await;
    let (status, report) = get(&url, "/readyz").await;
    assert_eq!(status, 503, "{report}");
    eventually("told why", async || {
        let (_, report) = get(&url, "/readyz").await;
        if report.contains("cannot be reached") {
            Ok(())
        } else {
            Err(report)
        }
    })
    .await;
    assert!(get(&url, "/metrics").await.1.contains("connect_up 0"));
    assert_eq!(get(&url, "/livez").await.0, 200);
    child.kill().await.unwrap();

    let ended = connectors(stack.registry.url(), &["watch", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("is not Kafka Connect"), "{}", ended.err);
}

/// Where the connector looks for its publication.
const HELD_UP: &str = "BEGIN; LOCK TABLE pg_publication IN ACCESS EXCLUSIVE MODE";

/// Every restart is held up by a lock until both have seen it; then the connector finds that its publication
/// is missing. The second supervisor waits longer than the first, who restarts.
#[tokio::test]
async fn two_supervisors_do_not_restart_one_failure_twice() {
    let mut world = World::new("twice").await;
    world.execute("DROP PUBLICATION trade_cdc").await;
    let front = Front::of(world.stack.connect.url(), "twice").await;
    world.apply().await.unwrap_err();
    world.execute(HELD_UP).await;
    let shutdown = CancellationToken::new();
    let second = Duration::from_secs(1);
    let lots: [fn() -> f64; 2] = [|| 0.0, || 1.0];
    let (mut supervisors, mut urls) = (Vec::new(), Vec::new());
    for lot in lots {
        let watch = Watch {
            names: Vec::new(),
            interval: Duration::from_millis(200),
            pace: Pace {
                minute: second,
                jitter: 5 * second,
            },
            lot,
            database_url: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.push(format!("http://{}", listener.local_addr().unwrap()));
        let api = ConnectApi::new(&front.url()).unwrap();
        supervisors.push(tokio::spawn(run(api, watch, listener, shutdown.clone())));
    }
    let mut restarts = Vec::new();
    for number in 1..=3 {
        let counted = format!(r#"connector_restarts_in_a_row{{connector="twice"}} {number}"#);
        for url in &urls {
            until_told(url, &[&counted]).await;
        }
        restarts = front.restarts();
        assert_eq!(restarts.len(), number, "{restarts:?}");
        let no_restart = front.hold_restarts().await;
        // Not cancelled: of a query that is, Debezium may take it that another attempt helps.
        world.execute("ROLLBACK").await;
        eventually("failed", async || {
            match world.api.status("twice").await.unwrap().unwrap() {
                status if Standing::of(&status) == Standing::Failed => Ok(()),
                status => Err(status),
            }
        })
        .await;
        world.execute(HELD_UP).await;
        drop(no_restart);
    }
    // After the first comes one in two seconds, then one in six.
    assert!(restarts[1] - restarts[0] >= 2 * second, "{restarts:?}");
    assert!(restarts[2] - restarts[1] >= 6 * second, "{restarts:?}");
    shutdown.cancel();
    for supervisor in supervisors {
        supervisor.await.unwrap().unwrap();
    }
    world.execute("ROLLBACK").await;
    world.end().await;
}
