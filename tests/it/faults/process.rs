//! What happens to the gateway's own process: told to stop (G4), paused (G5), without file descriptors (G6); and a
//! delivery that makes it panic (L2).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::stub::{Does, Stub, answer, yes};
use super::*;
use crate::broker::{Broker, V40, V310};
use crate::proxy::Proxy;

const CALLERS: usize = 8;

/// What callers were told yes to.
type Taken = Arc<Mutex<BTreeSet<String>>>;

/// Callers that send one order after the other, each with a number of its own, until they are told to stop.
struct Load {
    taken: Taken,
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(process: &Arc<Process>) -> Self {
        let (taken, stop) = (Taken::default(), Arc::new(AtomicBool::new(false)));
        let caller = |caller: usize| {
            let (process, taken, stop) = (process.clone(), taken.clone(), stop.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let number = format!("L-{caller}-{n}");
                    match process.post(&number).await {
                        Some(Heard { status: 202, .. }) => drop(taken.lock().unwrap().insert(number)),
                        Some(Heard { status: 503, .. }) | None => tokio::time::sleep(MOMENT / 10).await,
                        other => panic!("{other:?}"),
                    }
                }
            })
        };
        Self { callers: (0..CALLERS).map(caller).collect(), taken, stop }
    }

    fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// Everything that was taken.
    async fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        for caller in self.callers {
            timeout(PATIENCE, caller).await.expect("a caller ends in time").expect("no panic");
        }
        std::mem::take(&mut *self.taken.lock().unwrap())
    }
}

/// A broker of this run and a prefix of one's own on it.
pub(super) struct OnBroker {
    pub(super) broker: &'static Broker,
    pub(super) prefix: String,
}

impl OnBroker {
    pub(super) fn new(broker: &'static Broker) -> Self {
        Self { broker, prefix: format!("f{}", &uuid::Uuid::new_v4().simple().to_string()[..12]) }
    }

    /// The end of an instance's file; the URL stands in `amqp.secret`.
    pub(super) fn instance(&self) -> String {
        format!("bus: {{ urls: [\"${{file:amqp.secret}}\"], prefix: {} }}\n", self.prefix)
    }

    /// A queue as the broker calls it.
    pub(super) fn name(&self, queue: &str) -> String {
        format!("{}.{queue}", self.prefix)
    }

    /// What a gateway with the route to `crm/put` declares.
    pub(super) fn queues(&self) -> Vec<String> {
        let names = ["work.orders.crm.put", "dead", "unroutable", "retry.100ms", "retry.300ms", "retry.1s"];
        names.map(|name| format!("gatehouse.{name}")).to_vec()
    }

    pub(super) async fn clean(self) {
        self.broker.clean(&self.prefix, &self.queues()).await;
    }
}

/// G4. Readiness goes first, nothing new is taken, what is under way is finished and not repeated, the rest waits for
/// the next start; the process ends well.
async fn told_to_stop_under_load(broker: Option<&'static Broker>) {
    let on_broker = broker.map(OnBroker::new);
    let (open, gate) = watch::channel(true);
    let stub = Stub::start(move |_| Does::Gated(gate.clone(), yes())).await;
    let ports = Ports::find();
    let place = site(
        &ports.instance(&on_broker.as_ref().map(OnBroker::instance).unwrap_or_default()),
        PATIENT,
        stub.address,
        "limits: { concurrency: 8 }",
    );
    if let Some(broker) = broker {
        place.write("amqp.secret", &broker.url());
    }
    let process = Arc::new(Process::start(&place, &ports, |_| {}).await);
    let load = Load::start(&process);
    until("orders to go through", async || load.count() >= 100 && stub.calls().len() >= 50).await;
    open.send_replace(false);
    let held = stub.calls().len();
    until("orders to be under way and others to wait", async || stub.calls().len() >= held + 4 && load.count() >= 300)
        .await;

    process.signal("TERM").await;
    until("readiness to go", async || process.ready().await == Some(503)).await;
    for n in 0..3 {
        let heard = process.post(&format!("LATE-{n}")).await;
        assert!(!matches!(heard, Some(Heard { status: 200..300, .. })), "taken while stopping: {heard:?}");
    }
    open.send_replace(true);
    let taken = load.end().await;
    let mut process = Arc::into_inner(process).expect("the callers are gone");
    let status = process.ended().await;
    assert!(status.success(), "it ends with {status}");

    let process = Process::start(&place, &ports, |_| {}).await;
    until("every order", async || stub.effects().len() >= taken.len()).await;
    let ids: BTreeSet<String> = stub.effects().into_keys().collect();
    assert!(taken.is_subset(&ids), "lost: {:?}", taken.difference(&ids).collect::<Vec<_>>());
    process.stop().await;
    let again: Vec<_> = stub.calls().into_iter().filter(|call| call.before > 0).collect();
    assert!(again.is_empty(), "repeated: {again:?}");
    if let Some(on_broker) = on_broker {
        on_broker.clean().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_finishes_what_it_has() {
    told_to_stop_under_load(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_finishes_what_it_has_on_rabbitmq_3_10() {
    let Some(_turn) = V310.shared().await else { return };
    told_to_stop_under_load(Some(&V310)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_finishes_what_it_has_on_rabbitmq_4_0() {
    let Some(_turn) = V40.shared().await else { return };
    told_to_stop_under_load(Some(&V40)).await;
}

/// G5. While it sleeps the broker gives its deliveries back, as it does when heartbeats stay away; awake again, the
/// acknowledgements of before are refused, counted and not trusted.
async fn asleep(broker: &'static Broker) {
    let on_broker = OnBroker::new(broker);
    let proxy = Proxy::start(broker.address()).await;
    let (open, gate) = watch::channel(false);
    let stub = Stub::start(move |_| Does::Gated(gate.clone(), yes())).await;
    let ports = Ports::find();
    let place = site(&ports.instance(&on_broker.instance()), PATIENT, stub.address, "limits: { concurrency: 4 }");
    place.write("amqp.secret", &broker.url().replace(&broker.address(), &format!("127.0.0.1:{}", proxy.port)));
    let process = Process::start(&place, &ports, |_| {}).await;
    for n in 0..20 {
        process.insist(&format!("S-{n}")).await;
    }
    until("four under way", async || stub.calls().len() == 4).await;

    process.signal("STOP").await;
    let dials = proxy.dials();
    proxy.cut();
    // The answers are there when it wakes up: it acknowledges by channels that are gone.
    open.send_replace(true);
    process.signal("CONT").await;
    until("the gateway to connect again", async || proxy.dials() > dials).await;
    until("the gateway to be ready again", async || process.ready().await == Some(200)).await;
    until("every order", async || stub.effects().len() == 20).await;
    process.insist("S-AFTER").await;
    until("the one after", async || stub.effects().len() == 21).await;
    until("the old acknowledgements to be counted", async || process.metric("gatehouse_unsettled_total").await >= 1.0)
        .await;
    let doubled: Vec<_> = stub.effects().into_iter().filter(|(_, keys)| keys.len() > 1).collect();
    assert!(doubled.is_empty(), "two effects: {doubled:?}");
    process.stop().await;
    on_broker.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asleep_it_trusts_no_old_acknowledgement_on_3_10() {
    let Some(_turn) = V310.shared().await else { return };
    asleep(&V310).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asleep_it_trusts_no_old_acknowledgement_on_4_0() {
    let Some(_turn) = V40.shared().await else { return };
    asleep(&V40).await;
}

/// G6. Callers use up the file descriptors: what was taken arrives, and when they go it is well again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_file_descriptors_it_waits_and_recovers() {
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let ports = Ports::find();
    let place = site(&ports.instance(""), PATIENT, stub.address, "limits: { concurrency: 2 }");
    let process = Process::start(&place, &ports, |_| {}).await;
    process.insist("F-0").await;
    until("the first", async || stub.effects().len() == 1).await;
    let pid = process.child.id().expect("it runs");
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count();
    let limit = format!("--nofile={}:{}", open + 8, open + 8);
    match Command::new("prlimit").args([format!("--pid={pid}"), limit]).status().await {
        Ok(status) if status.success() => {}
        other => return eprintln!("SKIPPED: prlimit does not work here: {other:?}"),
    }
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(tokio::net::TcpStream::connect(ports.listen).await.expect("the kernel takes it"));
    }
    until("no descriptor to be left", async || {
        std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|open_now| open_now.count() >= open + 8)
    })
    .await;
    // The connection of before still stands: what it brings is taken or refused, and never lost.
    let mut taken = BTreeSet::from(["F-0".to_owned()]);
    for n in 1..6 {
        let number = format!("F-{n}");
        if let Ok(Some(Heard { status: 202, .. })) = timeout(MOMENT, process.post(&number)).await {
            taken.insert(number);
        }
    }
    drop(idle);
    process.insist("F-AFTER").await;
    taken.insert("F-AFTER".to_owned());
    until("what was taken", async || taken.iter().all(|number| stub.effects().contains_key(number))).await;
    assert!(stub.effects().values().all(|keys| keys.len() == 1), "{:?}", stub.effects());
    process.stop().await;
}

/// L2. One delivery panics on its way: it is a dead letter with a reason, and its neighbours pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_panics_is_a_letter_and_its_neighbours_pass() {
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let ports = Ports::find();
    let place = site(&ports.instance(""), PATIENT, stub.address, "");
    let process = Process::start(&place, &ports, |command| {
        command.env("FAILPOINTS", "k6=1*panic(made to panic)");
    })
    .await;
    for n in 0..5 {
        process.insist(&format!("P-{n}")).await;
    }
    until("the neighbours", async || stub.effects().len() == 4).await;
    until("the letter", async || process.metric("gatehouse_dead_total").await >= 1.0).await;
    assert_eq!(process.ready().await, Some(200), "the gateway is well");
    assert_eq!(process.metric("gatehouse_in_flight").await, 0.0, "the attempt is over");
    process.stop().await;

    let running = place.start().await;
    let letter = running.one_letter().await;
    assert!(letter.attempts[0].text.contains("a mistake in the gateway"), "{letter:?}");
    running.gateway.stop().await;
}

/// L2, with order. Its waits are longer than a delivery may be held, so it goes back to its place again and again: its
/// attempts are counted all the same, and in the end the next of its key goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_with_order_that_is_given_back_between_its_attempts_dies_in_the_end() {
    let stub = Stub::start(|call| Does::Says(if call.order == "O-bad" { answer(500, "", "") } else { yes() })).await;
    let ports = Ports::find();
    let place = site(
        &ports.instance(""),
        "order_by: customer, retry: { attempts: 4, first: 200ms, max: 200ms }",
        stub.address,
        "",
    );
    let process = Process::start(&place, &ports, |command| {
        command.env("FAILPOINTS", "held=return(100)");
    })
    .await;
    process.insist("O-bad").await;
    process.insist("O-next").await;
    until("the next of its key", async || stub.effects().contains_key("O-next")).await;
    let tried: Vec<_> = stub.calls().into_iter().filter(|call| call.order == "O-bad").collect();
    assert_eq!(tried.len(), 4, "{tried:?}");
    for pair in tried.windows(2) {
        assert!(pair[1].at - pair[0].at >= MOMENT / 3, "tried again without a pause: {tried:?}");
    }
    until("the letter", async || process.metric("gatehouse_dead_total").await >= 1.0).await;
    assert_eq!(process.metric("gatehouse_in_flight").await, 0.0);
    process.stop().await;
    let running = place.start().await;
    assert_eq!(running.one_letter().await.attempts.len(), 4);
    running.gateway.stop().await;
}

/// G7. The clock is set an hour on, half an hour back, an hour and a half back, and right again, while the gateway runs: what
/// waits waits no longer than it was asked to, what comes in is taken, nothing comes twice, and callers stay known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_changes_no_wait() {
    let Some(library) = faketime() else { return };
    let stub = Stub::start(|call| match call.before {
        _ if call.order.starts_with("BAD") => Does::Says(answer(400, "", "")),
        // It asks for a second's patience first.
        0 => Does::Says(answer(503, "Retry-After: 1\r\n", "")),
        _ => Does::Says(yes()),
    })
    .await;
    let ports = Ports::find();
    let place = site(&ports.instance(""), PATIENT, stub.address, "");
    place.write("clock", "+0");
    let clock = place.root().join("clock");
    let process = Process::start(&place, &ports, |command| {
        command
            .env("LD_PRELOAD", &library)
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    })
    .await;
    let (mut sent, mut jumps) = (0, Vec::new());
    for jump in [0, 3600, 1800, -3600, 0_i64] {
        // What was refused before the jump comes again after it.
        for _ in 0..10 {
            process.insist(&format!("J-{sent}")).await;
            sent += 1;
        }
        let called = async || stub.effects().keys().filter(|order| order.starts_with('J')).count();
        until("each to be refused once", async || called().await == sent).await;
        place.write("clock", &format!("{jump:+}"));
        process.insist(&format!("BAD-{}", jumps.len())).await;
        jumps.push((jump, jiff::Timestamp::now()));
        for _ in 0..10 {
            process.insist(&format!("J-{sent}")).await;
            sent += 1;
        }
        // Long before an hour has passed.
        until("each to have arrived", async || stub.calls().iter().filter(|call| call.before == 1).count() == sent)
            .await;
        assert_eq!(process.ready().await, Some(200), "{jump}");
    }
    assert_eq!(stub.calls().len(), 2 * sent + jumps.len(), "none a third time");
    until("the letters", async || process.metric("gatehouse_dead_total").await >= jumps.len() as f64).await;
    process.stop().await;
    // The clock did jump, for the gateway: it says so in the letters of those that were refused.
    let running = place.start().await;
    until("the letters in the store", async || {
        running.letters(gatehouse_store::State::Open).await.len() == jumps.len()
    })
    .await;
    for letter in running.letters(gatehouse_store::State::Open).await {
        let number: usize = letter.message_id.trim_start_matches("BAD-").parse().expect("a number");
        let (jump, at) = jumps[number];
        let died = running.gateway.letters.store().letter(letter.id).await.expect("it is there").attempts[0].at;
        assert!((died.as_second() - at.as_second() - jump).abs() < 300, "{died} is not {jump} s from {at}");
    }
    running.gateway.stop().await;
}

/// The library that sets a process's clock; `./test` installs it.
fn faketime() -> Option<std::path::PathBuf> {
    let found = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut found = found.map(|entry| entry.path().join("faketime/libfaketime.so.1")).filter(|path| path.exists());
    let library = found.next();
    // Where the servers are, `./test` has installed it too.
    let required = std::env::var_os("GATEHOUSE_TEST_AMQP_310").is_some();
    assert!(library.is_some() || !required, "libfaketime is not installed: see tests/servers/install.sh");
    if library.is_none() {
        eprintln!("SKIPPED: libfaketime is not installed");
    }
    library
}
