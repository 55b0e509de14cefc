//! L5. Callers that send the same order many times at once: one effect, and each hears yes, or that it is being taken.

use super::stub::{Does, Stub, yes};
use super::*;

const CALLERS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_order_many_times_at_once_is_one_effect() {
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let place = Place::new(&[
        ("orders.yaml", &routes(PATIENT)),
        ("systems/crm.yaml", &crm(&format!("http://{}", stub.address), "", "")),
    ]);
    let running = place.start().await;
    for round in 0..5 {
        let number = format!("SAME-{round}");
        let posts = (0..CALLERS).map(|_| running.post("/hooks/orders", order(&number, "c")));
        let answers = futures_util::future::join_all(posts).await;
        let (mut first, mut stored) = (0, 0);
        for answer in &answers {
            match (answer.status, answer.header("gatehouse-repeated")) {
                (202, "true") => stored += 1,
                (202, _) => first += 1,
                (409, _) => assert_eq!(answer.json()["code"], "conflict", "{answer:?}"),
                _ => panic!("{answer:?}"),
            }
            if answer.status == 202 {
                assert_eq!(answer.json()["message_id"], number.as_str(), "{answer:?}");
            }
        }
        assert_eq!(first, 1, "it was taken once; {stored} heard the stored answer");
        // Whoever was told 409 comes again and hears what the others heard.
        let again = running.post("/hooks/orders", order(&number, "c")).await;
        assert_eq!((again.status, again.header("gatehouse-repeated")), (202, "true"), "{again:?}");
    }
    until("the five orders", async || stub.effects().len() == 5).await;
    running.drained().await;
    assert_eq!(stub.calls().len(), 5, "{:?}", stub.calls());
    running.gateway.stop().await;
}
