//! A target that is down: its circuit opens, nobody else waits, no attempt of what waits is burnt.

use gatehouse::engine::circuit;
use gatehouse_store::State;
use tokio::net::TcpSocket;

use crate::harness::{Peer, Place, until};

const ROUTES: &str = "version: 1
routes:
  - route: orders
    from: shop/orders
    type: order.paid
    to:
      - { target: down/put, retry: { attempts: 4, first: 100ms, max: 300ms } }
      - { target: well/put }
";

const MESSAGES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_down_hurts_nobody_and_gets_everything_later() {
    let well = Peer::start().await;
    // Bound and not listening: nobody else gets the port, and whoever calls is refused.
    let held = TcpSocket::new_v4().expect("a socket");
    held.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = held.local_addr().expect("an address");
    let down = format!(
        "version: 1\nsystem: down\nadapter: rest\naddress: http://{address}\nlimits: {{ concurrency: 1 }}\ncircuit: {{ open_after: 2, retry_after: 2s }}\nendpoints:\n  put: {{ call: POST /orders }}\n"
    );
    let place = Place::new(&[
        ("orders.yaml", ROUTES),
        ("systems/well.yaml", &well.system("well", "")),
        ("systems/down.yaml", &down),
    ]);
    let running = place.start().await;
    for n in 0..MESSAGES {
        running.order(&format!("D-{n}"), "c").await;
    }
    until("the other target to have everything", async || well.took().len() == MESSAGES).await;
    let circuit = &running.gateway.systems["down"].circuit;
    until("the circuit to open", async || circuit.state() != circuit::State::Closed).await;
    // It tries, and stays open: what waits is not thrown at it.
    let mut watch = circuit.watch();
    for state in ["half open", "open again"] {
        let changed = tokio::time::timeout(crate::harness::PATIENCE, watch.changed()).await;
        changed.unwrap_or_else(|_| panic!("waited for the circuit to be {state}")).expect("it lives");
    }
    assert!(running.letters(State::Open).await.is_empty(), "nothing has run out of attempts");
    let waiting: u64 = running.gateway.depths().await.expect("depths").values().map(|depth| depth.parcels).sum();
    assert_eq!(waiting, MESSAGES as u64, "all of them wait");

    drop(held);
    let back = Peer::at(address).await;
    until("everything at the target that is back", async || back.took().len() == MESSAGES).await;
    running.drained().await;
    assert_eq!(back.got().len(), MESSAGES, "each once");
    assert!(running.letters(State::Open).await.is_empty());
    assert_eq!(circuit.state(), circuit::State::Closed);
    running.gateway.stop().await;
}
