//! The command: what it says when it cannot start, and how it stops.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::service::{Service, auth_settings, config, new_database};

const BOUND: Duration = Duration::from_mins(1);

fn command(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_trade-service"))
        .env_clear()
        .envs([("LISTEN", "127.0.0.1:0"), ("ADMIN_LISTEN", "127.0.0.1:0")])
        .envs(auth_settings().map(|(flag, value)| (flag.to_uppercase().replace('-', "_"), value)))
        .args(arguments)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The exit status and the lines written at level error.
async fn failure(arguments: &[&str]) -> (ExitStatus, Vec<String>) {
    let output = timeout(BOUND, command(arguments).wait_with_output())
        .await
        .expect("it exits")
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (
        output.status,
        text.lines()
            .filter(|line| line.contains("ERROR"))
            .map(str::to_owned)
            .collect(),
    )
}

#[tokio::test]
async fn what_will_not_get_better_by_waiting_ends_the_start_with_one_line() {
    let url = new_database("lifecycle_refused").await;
    let stranger = url.replace("trade_service@", "stranger:secret@");
    let nowhere = url.replace("lifecycle_refused", "lifecycle_nowhere");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--listen={}", taken.local_addr().unwrap());
    let [stranger, nowhere, url, garbage, mysql] =
        [&stranger, &nowhere, &url, "garbage", "mysql://root@localhost/x"]
            .map(|url| format!("--database-url={url}"));
    for (arguments, says) in [
        (
            vec![garbage.as_str()],
            vec!["DATABASE_URL is not a PostgreSQL URL"],
        ),
        (vec![&mysql], vec!["DATABASE_URL is not a PostgreSQL URL"]),
        (
            vec![&stranger],
            vec![
                "PostgreSQL refuses the connection",
                "role \"stranger\" does not exist",
            ],
        ),
        (
            vec![&nowhere],
            vec![
                "PostgreSQL refuses the connection",
                "\"lifecycle_nowhere\" does not exist",
            ],
        ),
        (
            vec![&url, &taken],
            vec!["cannot listen on 127.0.0.1:", "LISTEN", "in use"],
        ),
        (
            vec![&url, "--jwt-jwks=/nowhere.json"],
            vec!["cannot read the JWKS file /nowhere.json"],
        ),
    ] {
        let (status, errors) = failure(&arguments).await;
        assert_eq!(status.code(), Some(1), "{arguments:?}");
        assert_eq!(errors.len(), 1, "{errors:?}");
        for part in says {
            assert!(errors[0].contains(part), "{part} is not in {}", errors[0]);
        }
        assert!(!errors[0].contains("secret"), "{}", errors[0]);
    }
}

#[tokio::test]
async fn sigterm_ends_the_command_in_order() {
    let url = format!("--database-url={}", new_database("lifecycle_sigterm").await);
    let mut child = command(&[&url]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut wait_for = async |what: &str| {
        loop {
            let line = timeout(BOUND, lines.next_line())
                .await
                .expect("it logs")
                .unwrap()
                .expect("it runs");
            assert!(!line.contains("ERROR"), "{line}");
            if line.contains(what) {
                return line;
            }
        }
    };
    let serving = wait_for("serving trade posts on ").await;
    let address = serving.rsplit(' ').next().unwrap();
    // A connection that is kept alive must not hold the process up.
    let client = reqwest::Client::new();
    let answer = client
        .get(format!("http://{address}/v1/trade-posts"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);

    kill_process(
        Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    wait_for("SIGTERM received").await;
    wait_for("stopped").await;
    assert_eq!(
        timeout(BOUND, child.wait())
            .await
            .expect("it exits")
            .unwrap()
            .code(),
        Some(0)
    );
}

#[tokio::test]
async fn a_shutdown_lets_requests_finish_and_closes_both_listeners() {
    let service = Service::start_with(config(&new_database("lifecycle_shutdown").await)).await;
    service.until_ready().await;
    service.new_post(7, &json!({})).await;
    service.shutdown.cancel();
    timeout(BOUND, service.run)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
    for address in [service.public, service.admin] {
        let refused = service
            .client
            .request(Method::GET, format!("http://{address}/"))
            .send()
            .await
            .unwrap_err();
        assert!(refused.is_connect(), "{refused:?}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let service = Service::start("lifecycle_metrics").await;
    let id = service.new_post(7, &json!({})).await;
    service.get(&format!("/v1/trade-posts/{id}")).await;
    service.get("/v1/nothing").await;
    let metrics = service
        .client
        .get(format!("http://{}/metrics", service.admin))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        r#"http_requests_total{method="POST",route="/v1/trade-posts",status="201"} 1"#,
        r#"http_requests_total{method="GET",route="/v1/trade-posts/{id}",status="200"} 1"#,
        r#"http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"http_request_duration_seconds_count{method="POST",route="/v1/trade-posts"} 1"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    let documented = include_str!("../../../docs/operations.md");
    let names = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<_> = names.filter(|name| !documented.contains(*name)).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
    assert!(metrics.contains("views_written_total"), "{metrics}");
}
