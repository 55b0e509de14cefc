//! Requests of waiting callers.

use std::time::Duration;

use bytes::Bytes;
use gatehouse_bus::{Consumer, Parcel, QueueSpec, RequestError};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{A, Ground, SOON, next, parcel, plain, put, silent};

const ASK: &str = "gatehouse.work.r.ask";
const SHORT: Duration = Duration::from_millis(400);

fn requests() -> QueueSpec {
    QueueSpec { request: true, ..plain() }
}

/// Answers each request with its own body, doubled.
async fn echo(mut consumer: Consumer) {
    while let Some(delivered) = consumer.next().await {
        let body = [&delivered.parcel.body[..], &delivered.parcel.body[..]].concat();
        let answer = Parcel { body: body.into(), ..parcel("answer") };
        delivered.settlement.reply(answer).await.expect("answered");
    }
}

pub(super) async fn a_request_is_answered(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(ASK, requests())]).await;
    let echo = tokio::spawn(echo(bus.consume(ASK, 10).await.expect("consumes")));
    let asked = Parcel { body: Bytes::from_static("在吗".as_bytes()), ..parcel("q1") };
    let answer = bus.request(ASK, asked, SOON).await.expect("an answer");
    assert_eq!((&answer.body[..], answer.content_type.as_str()), ("在吗在吗".as_bytes(), "application/json"));
    echo.abort();
}

pub(super) async fn an_answer_that_is_late_is_a_deadline(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(ASK, requests())]).await;
    let mut consumer = bus.consume(ASK, 10).await.expect("consumes");
    let asking = {
        let bus = std::sync::Arc::clone(&bus);
        tokio::spawn(async move { bus.request(ASK, parcel("q1"), SHORT).await })
    };
    let held = next(&mut consumer).await;
    assert_eq!(asking.await.expect("asked"), Err(RequestError::Deadline));
    held.settlement.reply(parcel("late")).await.expect("a caller that has gone is no error");
    // The next one gets its own answer, not the late one.
    let echo = tokio::spawn(echo(consumer));
    let asked = Parcel { body: Bytes::from_static(b"2"), ..parcel("q2") };
    assert_eq!(bus.request(ASK, asked, SOON).await.expect("an answer").body, "22");
    echo.abort();
}

pub(super) async fn without_a_consumer_nobody_waits_for_ever(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(ASK, requests())]).await;
    let began = Instant::now();
    let said = timeout(SOON, bus.request(ASK, parcel("q1"), SHORT)).await.expect("it ends");
    assert!(matches!(said, Err(RequestError::Deadline | RequestError::Unavailable(_))), "{said:?}");
    assert!(began.elapsed() < SHORT + Duration::from_secs(10), "it took {:?}", began.elapsed());
    // Nobody waits for it any more: it is not worked on.
    let mut consumer = bus.consume(ASK, 10).await.expect("consumes");
    assert!(silent(&mut consumer).await, "an expired request was handed out");
    let said = timeout(SOON, bus.request("gatehouse.work.r.nobody", parcel("q2"), SHORT)).await.expect("it ends");
    assert!(said.is_err(), "nobody can have answered");
}

pub(super) async fn requests_at_once_get_their_own_answers(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(ASK, requests())]).await;
    let mut echoes = JoinSet::new();
    for _ in 0..2 {
        echoes.spawn(echo(bus.consume(ASK, 10).await.expect("consumes")));
    }
    let mut asking = JoinSet::new();
    for n in 0..100 {
        let bus = std::sync::Arc::clone(&bus);
        asking.spawn(async move {
            let asked = Parcel { body: format!("{n},").into(), ..parcel(format!("q{n}")) };
            let answer = bus.request(ASK, asked, SOON).await.expect("an answer");
            assert_eq!(answer.body, format!("{n},{n},"));
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.expect("its own answer");
    }
}

pub(super) async fn a_reply_to_no_request_is_done(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    put(&*bus, A, parcel("p1")).await;
    let mut consumer = bus.consume(A, 1).await.expect("consumes");
    next(&mut consumer).await.settlement.reply(parcel("answer")).await.expect("settled");
    assert!(silent(&mut consumer).await, "it was done");
}
