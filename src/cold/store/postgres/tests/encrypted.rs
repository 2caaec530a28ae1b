//! TLS towards the server.

use super::*;

/// A port that was free a moment ago.
fn port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_server_is_spoken_to_in_tls_and_verified_where_the_address_asks() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let port = port();
    let cluster = Cluster::with_tls(port, &cert, &key);
    let database = cluster.database();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    std::fs::write(&root, &cert).unwrap();
    let address = |host: &str, rest: &str| {
        format!("postgres://shunt@{host}:{port}/{database}?sslmode={rest}")
    };
    let encrypted = || {
        let sql = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) \
                   where application_name = 'shunt' and ssl";
        cluster.sql(&database, sql).trim() != "0"
    };
    let known = format!("verify-full&sslrootcert={}", root.display());
    for (rest, expected) in [("disable", false), ("prefer", true), (&known, true)] {
        let store = open(&address("localhost", rest), 100).unwrap();
        store.ready().await.unwrap();
        assert_eq!(encrypted(), expected, "{rest}");
        drop(store);
        let began = Instant::now();
        while encrypted() {
            assert!(began.elapsed() < Duration::from_secs(5), "it stays open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    for refused in [
        address("localhost", "require"),
        address("127.0.0.1", &known),
    ] {
        let why = open(&refused, 100).err().unwrap().to_string();
        assert!(why.contains("certificate"), "{why}");
    }
}
