//! What was accepted outlives the gateway.

use gatehouse_store::State;

use crate::harness::{Peer, Place, order, says, until};

const ROUTES: &str = "version: 1
routes:
  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: crm/put, retry: { attempts: 100, first: 100ms, max: 100ms } }] }
";

const MESSAGES: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_a_stop_is_delivered_by_the_next_start() {
    let crm = Peer::start().await;
    crm.behave(|_| says(503));
    let place = Place::new(&[("orders.yaml", ROUTES), ("systems/crm.yaml", &crm.system("crm", ""))]);
    let running = place.start().await;
    for n in 0..MESSAGES {
        running.order(&format!("W-{n}"), "c").await;
    }
    until("a first attempt", async || !crm.got().is_empty()).await;
    running.gateway.stop().await;
    assert!(running.gateway.ready().await.is_err(), "a stopped gateway is not ready");
    drop(running);

    assert!(crm.took().is_empty());
    crm.behave(|_| says(200));
    let running = place.start().await;
    until("everything at the target", async || crm.took().len() >= MESSAGES).await;
    running.drained().await;
    let mut keys: Vec<_> = crm.took().into_iter().map(|got| got.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), crm.took().len()), (MESSAGES, MESSAGES), "each once");
    let again = running.post("/hooks/orders", order("W-0", "c")).await;
    assert_eq!((again.status, again.header("gatehouse-repeated")), (202, "true"), "ids are remembered: {again:?}");
    assert!(running.letters(State::Open).await.is_empty());
    running.gateway.stop().await;
}
