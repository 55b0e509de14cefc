//! The power goes (S3): what the disk had been given when it went is there afterwards, and nothing else. Skipped, loudly, where no
//! disk can be mounted.
//!
//! The gateway's data lie on a file system of their own, on a disk that is a file. What it has not synced is in the memory of the
//! kernel and not in that file: a copy of the file is what the disk would hold without power.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::stub::{Does, Stub, answer, yes};
use super::*;

/// How often the power goes.
const TIMES: usize = 4;

/// A disk that is a file.
struct Disk {
    images: tempfile::TempDir,
    at: PathBuf,
    copies: usize,
}

impl Disk {
    fn make(at: &Path) -> Option<Self> {
        let disk = Self { images: tempfile::tempdir().expect("a folder"), at: at.to_owned(), copies: 0 };
        std::fs::create_dir_all(at).expect("a folder");
        std::fs::File::create(disk.image()).and_then(|file| file.set_len(96 << 20)).expect("a file");
        let made = std::process::Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.image()).output();
        let mounted = made.is_ok_and(|made| made.status.success()) && disk.mount();
        if !mounted {
            eprintln!("SKIPPED: no disk could be made of a file and mounted (not root?)");
        }
        mounted.then_some(disk)
    }

    fn image(&self) -> PathBuf {
        self.images.path().join(format!("{}.img", self.copies))
    }

    fn mount(&self) -> bool {
        let mounted = std::process::Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(&self.at).output();
        mounted.is_ok_and(|mounted| mounted.status.success())
    }

    fn unmount(&self) -> bool {
        std::process::Command::new("umount").arg(&self.at).status().is_ok_and(|status| status.success())
    }

    /// What the disk holds now, as the disk that there will be.
    fn keep(&mut self) {
        let before = self.image();
        self.copies += 1;
        std::fs::copy(before, self.image()).expect("copied");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.at).output();
    }
}

/// Whatever was answered with yes arrives or stands in the letters, however often the power goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_outlives_the_power() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let stub = Stub::start(move |call| match call.order.as_str() {
        order if order.starts_with("R-") => Does::Says(answer(422, "", "")),
        _ => Does::Gated(gate.clone(), yes()),
    })
    .await;
    let ports = Ports::find();
    let place =
        site(&ports.instance("data: disk\n"), PATIENT, stub.address, "limits: { concurrency: 1000, timeout: 60s }");
    let Some(mut disk) = Disk::make(&place.root().join("disk")) else { return };
    let (mut taken, mut forgotten) = (BTreeSet::new(), 0);
    for time in 0..TIMES {
        let mut process = Process::start(&place, &ports, |_| {}).await;
        let (heard, dark) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (at, callers) = (rand::random_range(20..120_usize), 6);
        let process_ref = &process;
        let sending = (0..callers).map(|caller| {
            let (heard, dark) = (heard.clone(), dark.clone());
            async move {
                let mut yes = Vec::new();
                for n in 0.. {
                    let number = format!("{}-{time}-{caller}-{n}", if n % 3 == 0 { "R" } else { "P" });
                    let post = tokio::select! {
                        post = process_ref.post(&number) => post,
                        () = until_set(&dark) => break,
                    };
                    if post.is_some_and(|heard| heard.status == 202) {
                        yes.push(number);
                        heard.fetch_add(1, Ordering::SeqCst);
                    }
                }
                yes
            }
        });
        let cutting = async {
            until("enough orders", async || heard.load(Ordering::SeqCst) >= at).await;
            // Never synced: where this is on the disk afterwards, the disk forgets nothing and the run shows nothing.
            std::fs::write(place.root().join("disk/canary"), vec![7; 100_000]).expect("written");
            process_ref.signal("STOP").await;
            disk.keep();
            dark.store(true, Ordering::SeqCst);
        };
        let (sent, ()) = tokio::join!(futures_util::future::join_all(sending), cutting);
        taken.extend(sent.into_iter().flatten());
        process.signal("KILL").await;
        process.ended().await;
        drop(process);
        disk.copies -= 1;
        assert!(disk.unmount(), "the old disk stays mounted");
        disk.copies += 1;
        assert!(disk.mount(), "what is left of the disk cannot be mounted");
        let canary = std::fs::metadata(place.root().join("disk/canary")).map_or(0, |file| file.len());
        forgotten += usize::from(canary < 100_000);
    }
    assert!(forgotten > 0, "the run is void: the disk forgot nothing");

    open.send_replace(true);
    let process = Process::start(&place, &ports, |_| {}).await;
    let (refused, plain): (Vec<_>, Vec<_>) = taken.iter().partition(|number| number.starts_with("R-"));
    assert!(refused.len() > TIMES && plain.len() > TIMES, "{taken:?}");
    until("everything that was taken", async || plain.iter().all(|number| stub.effects().contains_key(*number))).await;
    assert!(stub.effects().values().all(|keys| keys.len() == 1), "{:?}", stub.effects());
    let token = std::fs::read_to_string(place.root().join("disk/admin.token")).expect("a token");
    until("the letters of what was refused", async || {
        let letters = open_letters(&process, &token).await;
        refused.iter().all(|number| letters.contains(*number))
    })
    .await;
    process.stop().await;
    drop(disk);
}

/// The messages of the letters that nobody has mended.
async fn open_letters(process: &Process, token: &str) -> BTreeSet<String> {
    let get = http::Request::get(process.admin.url("/api/v1/letters?state=open&limit=500").expect("a path"))
        .header("authorization", format!("Bearer {}", token.trim()))
        .body(Bytes::new());
    let answer = process.admin.send(get.expect("a request")).await.expect("an answer");
    let letters: serde_json::Value = serde_json::from_slice(answer.body()).expect("JSON");
    let ids = letters.as_array().into_iter().flatten().filter_map(|letter| letter["message_id"].as_str());
    ids.map(str::to_owned).collect()
}

/// Waits until it is dark.
async fn until_set(dark: &AtomicBool) {
    while !dark.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
