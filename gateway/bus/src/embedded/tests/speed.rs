//! How fast it is, printed for people: `cargo test -p gatehouse-bus --release speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{A, SOON, next, open, parcel};
use crate::Bus;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn confirmed_publishes_a_second() {
    for publishers in [1, 16, 64, 256] {
        let folder = tempfile::tempdir_in(".").expect("a folder on a disk");
        let path = folder.path().join("bus.db");
        let bus = Arc::new(open(&path).await);
        let began = Instant::now();
        let working: Vec<_> = (0..publishers)
            .map(|publisher| {
                let bus = Arc::clone(&bus);
                tokio::spawn(async move {
                    let (mut count, mut worst) = (0_u32, Duration::ZERO);
                    while began.elapsed() < Duration::from_secs(3) {
                        let asked = Instant::now();
                        bus.publish(A, parcel(format!("{publisher}-{count}"), 1024), SOON).await.expect("confirmed");
                        worst = worst.max(asked.elapsed());
                        count += 1;
                    }
                    (count, worst)
                })
            })
            .collect();
        let (mut count, mut worst) = (0, Duration::ZERO);
        for one in working {
            let (n, slow) = one.await.expect("published");
            count += n;
            worst = worst.max(slow);
        }
        let rate = f64::from(count) / began.elapsed().as_secs_f64();
        println!("{publishers:4} publishers: {rate:8.0} confirmed/s of 1 KiB, slowest {worst:?}");
        drop(bus);
        let asked = Instant::now();
        let bus = open(&path).await;
        println!("     opened with {count} waiting after a crash in {:?}", asked.elapsed());
        let (began, mut taken) = (Instant::now(), 0_u32);
        let mut consumer = bus.consume(A, 256).await.expect("consumes");
        let mut settling = tokio::task::JoinSet::new();
        while taken < count {
            settling.spawn(next(&mut consumer).await.settlement.done());
            taken += 1;
            while settling.try_join_next().is_some() {}
        }
        while settling.join_next().await.is_some() {}
        println!("     taken and settled: {:8.0}/s", f64::from(taken) / began.elapsed().as_secs_f64());
        bus.close().await;
        let asked = Instant::now();
        drop(open(&path).await);
        println!("     opened after a close in {:?}", asked.elapsed());
    }
}
