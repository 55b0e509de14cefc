//! A cluster of three nodes (RabbitMQ 4.0), of this test alone: one is killed, one is paused, then two are (B10, B11).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gatehouse_bus::Health;

use super::stub::{Does, Stub, yes};
use super::*;
use crate::broker::{LONG, V40, in_time};
use crate::harness::Running;

const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// See `conformance/bus/rabbitmq.rs`: a queue stands when it was on the disk for so long.
const SETTLED: Duration = Duration::from_secs(8);

struct Cluster {
    run: tempfile::TempDir,
    urls: Vec<String>,
}

impl Cluster {
    /// `None` where servers are not wanted.
    async fn start() -> Option<Self> {
        drop(V40.shared().await?);
        let run = own_run();
        let mut cluster = Self { run, urls: Vec::new() };
        let folder = cluster.run.path().to_owned();
        let folder = folder.to_str().expect("a path");
        cluster.script("servers.sh", &["epmd", folder]).await;
        let peers = NODES.iter().zip(1..);
        let peers = peers.map(|(node, n)| format!("cluster_formation.classic_config.nodes.{n} = {node}@localhost\n"));
        let peers: String = peers.collect();
        for node in NODES {
            cluster.script("rabbitmq.sh", &["new", "40", node]).await;
            let files = cluster.run.path().join(format!("{node}.d"));
            let conf = files.join("rabbitmq.conf");
            let more = "cluster_formation.peer_discovery_backend = classic_config\n";
            let text = std::fs::read_to_string(&conf).expect("its configuration");
            std::fs::write(&conf, format!("{text}{more}{peers}")).expect("written");
            std::fs::write(files.join(".erlang.cookie"), "cookie-of-three").expect("written");
        }
        // They wait for each other.
        futures_util::future::join_all(NODES.map(|node| cluster.control(node, &["start"]))).await;
        let members = async || cluster.control(NODES[0], &["ctl", "-q", "cluster_status", "--formatter", "json"]).await;
        until("the three to be one", async || {
            let status: serde_json::Value = serde_json::from_str(&members().await).unwrap_or_default();
            status["running_nodes"].as_array().is_some_and(|nodes| nodes.len() == NODES.len())
        })
        .await;
        for node in NODES {
            let url = cluster.control(node, &["url"]).await;
            cluster.urls.push(url);
        }
        Some(cluster)
    }

    /// `start`, `kill` (-9), `pause`, `resume`, `ctl …`.
    async fn control(&self, node: &str, words: &[&str]) -> String {
        say(&self.run, Command::new(self.run.path().join(node)).args(words)).await
    }

    async fn script(&self, script: &str, words: &[&str]) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/");
        say(&self.run, Command::new("bash").arg(format!("{path}{script}")).args(words)).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/servers.sh");
        let done = std::process::Command::new("bash").arg(path).arg("down").arg(self.run.path()).output();
        if !done.as_ref().is_ok_and(|done| done.status.success()) {
            eprintln!("the cluster was not ended: {done:?}");
        }
    }
}

/// Callers who send one order after the other, each until it is taken.
struct Callers {
    taken: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Callers {
    fn start(running: &Arc<Running>) -> Self {
        let (taken, refused, stop) = (Arc::default(), Arc::default(), Arc::default());
        let caller = |caller: usize| {
            let (running, taken, refused, stop): (_, Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicBool>) =
                (running.clone(), Arc::clone(&taken), Arc::clone(&refused), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for n in 0.. {
                    let number = format!("C-{caller}-{n}");
                    loop {
                        let answer = running.post("/hooks/orders", order(&number, "c")).await;
                        if answer.status == 202 {
                            break;
                        }
                        assert!(matches!(answer.status, 409 | 500..), "{answer:?}");
                        refused.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(MOMENT).await;
                    }
                    taken.fetch_add(1, Ordering::SeqCst);
                    mine.push(number);
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    tokio::time::sleep(MOMENT / 30).await;
                }
                mine
            })
        };
        let tasks = (0..8).map(caller).collect();
        Self { taken, refused, stop, tasks }
    }

    /// Waits until so many more are taken.
    async fn more(&self, count: usize, when: &str) {
        let goal = self.taken.load(Ordering::SeqCst) + count;
        let wait = async {
            while self.taken.load(Ordering::SeqCst) < goal {
                tokio::time::sleep(MOMENT / 10).await;
            }
        };
        timeout(LONG, wait).await.unwrap_or_else(|_| panic!("nothing is taken {when}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_nodes_and_nothing_else() {
    in_time(async {
        let Some(cluster) = Cluster::start().await else { return };
        let stub = Stub::start(|_| Does::Says(yes())).await;
        let urls = NODES.map(|node| format!("\"${{file:{node}.secret}}\"")).join(", ");
        let instance = format!("{}bus: {{ urls: [{urls}] }}\n", crate::harness::GATEWAY);
        let place = site(&instance, PATIENT, stub.address, "");
        for (node, url) in NODES.iter().zip(&cluster.urls) {
            place.write(&format!("{node}.secret"), url);
        }
        let running = Arc::new(place.start().await);
        let callers = Callers::start(&running);
        callers.more(200, "by a cluster that is well").await;
        tokio::time::sleep(SETTLED).await;

        // The first URL is the first that is used, and it leads the queues that were declared there.
        cluster.control("node1", &["kill"]).await;
        callers.more(200, "with one node dead").await;
        cluster.control("node1", &["start"]).await;
        callers.more(200, "with the node back").await;
        for node in ["node2", "node3"] {
            cluster.control(node, &["pause"]).await;
            callers.more(200, "with one node paused").await;
            cluster.control(node, &["resume"]).await;
            callers.more(200, "with the node awake").await;
        }

        // Two of three: nobody may be told yes. What was taken before is in the majority that comes back, while the
        // one that was left is killed.
        for node in ["node2", "node3"] {
            cluster.control(node, &["pause"]).await;
        }
        // What was confirmed until that moment is told first.
        let (mut taken, mut still) = (0, 0);
        until("all that was confirmed to be told", async || {
            let now = callers.taken.load(Ordering::SeqCst);
            still = if now == taken { still + 1 } else { 0 };
            taken = now;
            tokio::time::sleep(MOMENT).await;
            still >= 5
        })
        .await;
        let refused = callers.refused.load(Ordering::SeqCst);
        until("callers to be told", async || callers.refused.load(Ordering::SeqCst) >= refused + 16).await;
        assert_eq!(callers.taken.load(Ordering::SeqCst), taken, "a minority cannot keep anything");
        cluster.control("node1", &["kill"]).await;
        for node in ["node2", "node3"] {
            cluster.control(node, &["resume"]).await;
        }
        callers.more(200, "by the two that are back").await;
        cluster.control("node1", &["start"]).await;
        callers.more(200, "by all three").await;

        callers.stop.store(true, Ordering::SeqCst);
        let mut taken = std::collections::BTreeSet::new();
        for task in callers.tasks {
            taken.extend(timeout(LONG, task).await.expect("a caller ends in time").expect("no panic"));
        }
        let arrived = async || {
            let effects = stub.effects();
            taken.iter().filter(|number| !effects.contains_key(*number)).count()
        };
        let wait = async {
            while arrived().await > 0 {
                tokio::time::sleep(MOMENT).await;
            }
        };
        if timeout(LONG, wait).await.is_err() {
            panic!("{} of {} are lost", arrived().await, taken.len());
        }
        assert!(stub.effects().values().all(|keys| keys.len() == 1), "one id an order");
        let mut health = running.gateway.health();
        timeout(LONG, health.wait_for(|health| *health == Health::Ready)).await.expect("in time").expect("it lives");
        running.drained().await;
        assert!(running.letters(gatehouse_store::State::Open).await.is_empty());
        eprintln!("{} taken, 0 lost, {} calls", taken.len(), stub.calls().len());
        running.gateway.stop().await;
    })
    .await;
}
