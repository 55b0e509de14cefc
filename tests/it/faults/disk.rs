//! The gateway's own disk: full (S1), and one that fails a sync (S2). Skipped, loudly, where no disk can be mounted or
//! strace does not run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::stub::{Does, Stub, answer, yes};
use super::*;

/// A disk of its own, in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let made = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(at).output();
        let mounted = made.is_ok_and(|made| made.status.success());
        if !mounted {
            eprintln!("SKIPPED: no small disk could be mounted (not root?)");
        }
        mounted.then(|| Self(at.to_owned()))
    }

    /// Fills it to the last block.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("ballast")).expect("a file");
        while file.write_all(&[7; 4096]).is_ok() {}
    }

    fn relieve(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// S1. Nothing is taken that cannot be kept: 503; the desk still reads letters; with room it goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_nothing_is_taken_and_letters_are_read() {
    let (open, gate) = tokio::sync::watch::channel(true);
    let stub = Stub::start(move |call| match call.order.as_str() {
        "REFUSED" => Does::Says(answer(422, "", "")),
        _ => Does::Gated(gate.clone(), yes()),
    })
    .await;
    let place = site(&format!("{}data: small\n", crate::harness::GATEWAY), PATIENT, stub.address, "");
    let Some(disk) = SmallDisk::mount(&place.root().join("small")) else { return };
    let running = place.start().await;
    running.order("REFUSED", "c").await;
    running.order("BEFORE", "c").await;
    let letter = running.one_letter().await;
    until("the one before", async || stub.effects().contains_key("BEFORE")).await;

    // What is delivered would make room.
    open.send_replace(false);
    disk.fill();
    let mut taken = BTreeSet::new();
    let mut n = 0;
    // What the files have room for inside may still be taken.
    until("callers to be refused", async || {
        let number = format!("FULL-{n}");
        n += 1;
        let answer = running.post("/hooks/orders", order(&number, &"c".repeat(2000))).await;
        if answer.status == 202 {
            taken.insert(number);
            return false;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
        true
    })
    .await;
    let read = running.gateway.letters.store().letter(letter.summary.id).await.expect("letters can be read");
    assert_eq!(read.body, letter.body);

    disk.relieve();
    open.send_replace(true);
    until("an order to be taken", async || running.post("/hooks/orders", order("AFTER", "c")).await.status == 202)
        .await;
    taken.insert("AFTER".to_owned());
    until("everything that was taken", async || taken.iter().all(|number| stub.effects().contains_key(number))).await;
    assert!(stub.effects().values().all(|keys| keys.len() == 1), "{:?}", stub.effects());
    running.gateway.stop().await;
    drop(running);
    drop(disk);
}

/// S2. Some syncs fail: no order that was taken is lost, the gateway goes on by itself, and after a restart everything is
/// there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_syncs_lose_nothing_that_was_taken() {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().await;
    if !works.is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: strace does not run here");
    }
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let ports = Ports::find();
    let place = site(&ports.instance(""), PATIENT, stub.address, "");
    let mut process = Process::start(&place, &ports, |command| {
        let inject = "inject=fsync,fdatasync:error=EIO:when=40..43";
        let words = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", inject];
        let gateway = command.as_std().get_program().to_owned();
        let arguments: Vec<_> = command.as_std().get_args().map(ToOwned::to_owned).collect();
        let variables: Vec<_> =
            command.as_std().get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        let log = std::fs::File::options().append(true).open(place.root().join("data/gateway.log")).expect("a log");
        let mut traced = Command::new("strace");
        traced
            .args(words)
            .arg(gateway)
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        for (name, value) in variables {
            traced.env(name, value.unwrap_or_default());
        }
        *command = traced;
    })
    .await;
    let (mut refused, mut taken) = (0, BTreeSet::new());
    while taken.len() < 60 {
        let number = format!("Y-{}", taken.len());
        match process.post(&number).await {
            Some(Heard { status: 202, .. }) => drop(taken.insert(number)),
            Some(Heard { status: 409 | 500.., .. }) | None => refused += 1,
            other => panic!("{other:?}"),
        }
        assert!(refused < 3000, "it does not recover: {} taken; {}", taken.len(), process.log());
        if refused > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert!(refused > 0, "the run is void: no caller met a failed sync");
    // strace passes no signal on: the gateway below it is killed, with what it had not said yet.
    let tracer = process.child.id().expect("it runs");
    let children = std::fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).expect("its child");
    signal_to(children.trim().parse().expect("one child"), "KILL").await;
    process.ended().await;

    let process = Process::start(&place, &ports, |_| {}).await;
    until("everything that was taken", async || taken.iter().all(|number| stub.effects().contains_key(number))).await;
    assert!(stub.effects().values().all(|keys| keys.len() == 1), "{:?}", stub.effects());
    process.stop().await;
}
