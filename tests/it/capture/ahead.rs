//! A first reading reads ahead, and the gateway dies between its pieces: each row comes, and one that comes twice has the id that
//! it had.

use std::collections::BTreeSet;

use super::*;

const ROWS: usize = 1_500;

/// Dies when it saves its place for the sixth time: a piece is handed over and does not count yet, the next one is read.
const POINT: &str = "k18=5*off->return";

pub(super) async fn a_first_reading_goes_on_after_kills_between_its_pieces(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    let rows: Vec<_> = (0..ROWS).map(|id| format!("({id}, '客户 {id}')")).collect();
    for some in rows.chunks(500) {
        session.run(&format!("INSERT INTO t VALUES {}", some.join(", "))).await;
    }
    let peer = Peer::start().await;
    let capture = "{ table: t, by: watermark, watermark: id, overlap: 100ms, every: 20ms, batch: 50 }";
    let place = site(database, capture, "", &peer);
    let keys = || {
        let mut keys: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        for got in peer.got() {
            keys.entry(got.json()["id"].as_i64().expect("an id")).or_default().insert(got.key.clone());
        }
        keys
    };
    let mut deaths = 0;
    let lives = async {
        loop {
            let mut gateway = crate::chaos::gateway(place.root()).env("FAILPOINTS", POINT).spawn().expect("starts");
            tokio::select! {
                died = gateway.wait() => {
                    assert!(!died.expect("a status").success(), "it dies");
                    deaths += 1;
                }
                () = until("every row", async || keys().len() == ROWS) => {
                    gateway.kill().await.expect("killed");
                    return;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE * 2, lives).await.expect("it gets to its end");
    assert!(deaths >= 3, "{deaths} deaths");
    let keys = keys();
    let there: BTreeSet<i64> = session
        .rows("SELECT id, name FROM t")
        .await
        .iter()
        .map(|row| row[0].as_deref().and_then(|id| id.parse().ok()).expect("a number"))
        .collect();
    assert_eq!(there.len(), ROWS);
    assert_eq!(keys.keys().copied().collect::<BTreeSet<_>>(), there, "none is lost, none is invented");
    let twice: Vec<_> = keys.iter().filter(|(_, keys)| keys.len() > 1).collect();
    assert!(twice.is_empty(), "with ids of their own: {twice:?}");
}
