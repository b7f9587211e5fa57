//! How the command reaches a worker: credentials, TLS, time.

use tokio::net::TcpListener;

use crate::{
    front::Front,
    run::{connectors, connectors_with, text},
};

#[tokio::test]
async fn a_worker_that_asks_for_a_certificate_and_a_password_is_reached() {
    let stack = local_stack::testing::stack().await;
    let (front, certificates) = Front::secured(stack.connect.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        text(&path).to_owned()
    };
    let ca = file("ca.pem", &certificates.authority);
    let client = file("client.pem", &certificates.client);
    let key = file("key.pem", &certificates.client_key);
    let both = file(
        "both.pem",
        &format!("{}\n{}", certificates.client, certificates.client_key),
    );
    let url = format!("https://localhost:{}", front.port());
    let in_url = format!("https://operator:s3cret@localhost:{}", front.port());
    let offsets = ["offsets", "get", "no-such-connector"];
    let run = async |url: &str, variables: &[(&str, &str)], options: &[&str]| {
        let variables = [&[("CONNECT_URL", url)], variables].concat();
        connectors_with(&variables, &[options, &offsets].concat()).await
    };
    let password = [("CONNECT_USER", "operator"), ("CONNECT_PASSWORD", "s3cret")];

    // What Connect itself says of a connector that it does not have.
    for (url, variables, options) in [
        (
            &url,
            &password[..],
            &["--ca-file", &ca, "--client-cert", &client, "--client-key", &key][..],
        ),
        (&in_url, &[], &["--ca-file", &ca, "--client-cert", &both]),
    ] {
        let ended = run(url, variables, options).await;
        assert_eq!(ended.code, Some(4), "{}", ended.err);
        assert!(
            ended.err.contains("there is no connector no-such-connector"),
            "{}",
            ended.err
        );
    }

    let ended = run(&url, &[], &["--ca-file", &ca, "--client-cert", &both]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("CONNECT_USER"), "{}", ended.err);
    let wrong = [("CONNECT_USER", "operator"), ("CONNECT_PASSWORD", "wr0ng")];
    let ended = run(&url, &wrong, &["--ca-file", &ca, "--client-cert", &both]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(
        ended.err.contains("refuses these credentials") && !ended.err.contains("wr0ng"),
        "{}",
        ended.err
    );

    // An authority that is not trusted, and a certificate that is asked for and not given.
    for options in [&["--client-cert", &both][..], &["--ca-file", &ca]] {
        let ended = run(&url, &password, options).await;
        assert_eq!(ended.code, Some(3), "{}", ended.err);
        assert!(ended.err.contains("--ca-file and --client-cert"), "{}", ended.err);
        assert!(ended.err.to_lowercase().contains("certificate"), "{}", ended.err);
    }

    for (url, variables, options, said) in [
        (&url, &password[..1], &["--ca-file", &ca][..], "belong together"),
        (&in_url, &password[..], &["--ca-file", &ca][..], "--connect-user"),
        (
            &url,
            &[],
            &["--ca-file", &key][..],
            "--ca-file holds no certificate",
        ),
        (
            &url,
            &[],
            &["--client-cert", &client][..],
            "needs its private key",
        ),
        (&url, &[], &["--client-key", &key][..], "needs --client-cert"),
        (
            &url,
            &[],
            &["--ca-file", "/no/such/file"][..],
            "/no/such/file cannot be read",
        ),
    ] {
        let ended = run(url, variables, options).await;
        assert_eq!(ended.code, Some(2), "{options:?}: {}", ended.err);
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for arguments in [["status", "--request-timeout", "1"], ["status", "--timeout", "1"]] {
        let ended = connectors(&url, &arguments).await;
        assert_eq!(ended.code, Some(3), "{}", ended.err);
        assert!(ended.err.contains("gave no answer within 1 s"), "{}", ended.err);
    }
}
