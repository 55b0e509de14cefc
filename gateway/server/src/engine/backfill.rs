//! Backfills: what an operator wants to be read once more, handed to the reader of the endpoint a piece at a time, as fast as
//! its own rate and the queues of its targets allow.
//!
//! They stand in the store; every gateway looks there, and the one that holds the endpoint's cursor reads. A target that has
//! taken a row before is left out (its delivery id is known to be done), unless the operator wants it once more: then the
//! deliveries have ids of their own.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gatehouse_bus::Bus;
use gatehouse_core::adapter::{Archive, Arrival, Backfill as Reading};
use gatehouse_core::backfill::{Due, Piece, Slice};
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::limits::{Rate, parse_rate};
use gatehouse_core::receipt::Outcome;
use gatehouse_core::secret::Secrets;
use gatehouse_core::site::{Route, Site};
use gatehouse_store::{Backfill, BackfillState, NewBackfill, SliceState, Store, StoreError, Tally, Turn};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::cut::Cut;
use super::intake::{Desk, Once};
use super::letters::fault;
use super::pull::Kept;
use super::system::SystemRuntime;

/// How often the store is asked which backfills run.
const LOOK: Duration = Duration::from_secs(1);

/// The most rows of a piece.
const PIECE: u32 = 500;

/// What part of an endpoint's rate a backfill takes where nobody says its own.
const SHARE: u32 = 4;

/// The rate where the endpoint has none either.
const USUAL: Rate = Rate { count: 100, per: Duration::from_secs(1) };

/// A target with more deliveries waiting than this is let drain first: live messages wait behind them.
const CROWDED: u64 = 1_000;

/// The most backfills that are looked at.
const MANY: u32 = 100;

/// What an operator asks for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The route that gets the rows.
    pub route: String,
    /// Of a route with several sources: which of them is read.
    pub source: Option<String>,
    /// From this value on; default: the least.
    pub from: Option<String>,
    /// Up to this value, without it; default: what is there now.
    pub to: Option<String>,
    /// The column that cuts it; default: the endpoint's watermark, else the key.
    pub by: Option<String>,
    /// One of the endpoint's tables; default: all.
    pub table: Option<String>,
    /// How wide a slice is: `1d`, `10000`.
    pub slice: Option<String>,
    /// At most so many rows in a time: `25/s`.
    pub rate: Option<String>,
    /// Also to targets that have taken a row before.
    #[serde(default)]
    pub again: bool,
    /// Only look and count.
    #[serde(default)]
    pub dry_run: bool,
    /// Who.
    pub actor: String,
}

/// A backfill that was looked at, or begun.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Begun {
    /// Its number; `None` where it was only looked at.
    pub id: Option<i64>,
    /// How many rows there are to read, where that could be counted.
    pub expected: Option<u64>,
    /// How fast.
    pub rate: String,
    /// What is read, in this order.
    pub slices: Vec<Slice>,
}

/// A backfill and its slices.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct View {
    /// The whole.
    pub backfill: Backfill,
    /// Its slices.
    pub slices: Vec<SliceState>,
}

/// All backfills of a gateway.
pub struct Backfills {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    site: Arc<Site>,
    systems: HashMap<String, Arc<SystemRuntime>>,
    secrets: Arc<dyn Secrets>,
    instance: Arc<str>,
    desk: OnceLock<Weak<Desk>>,
    /// What runs now, by endpoint.
    jobs: Mutex<HashMap<String, Arc<Job>>>,
}

impl Backfills {
    /// Of a checked site.
    #[must_use]
    pub fn new(
        site: Arc<Site>,
        systems: HashMap<String, Arc<SystemRuntime>>,
        bus: Arc<dyn Bus>,
        store: Arc<dyn Store>,
        secrets: Arc<dyn Secrets>,
    ) -> Self {
        let instance = site.gateway.name.as_str().into();
        Self { store, bus, site, systems, secrets, instance, desk: OnceLock::new(), jobs: Mutex::default() }
    }

    /// Where rows go in. Said once, at start.
    pub fn goes_in_through(&self, desk: &Arc<Desk>) {
        let _ = self.desk.set(Arc::downgrade(desk));
    }

    /// What the reader of an endpoint has to read once more.
    pub(super) fn of(&self, endpoint: &str) -> Option<Arc<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint).cloned()
    }

    /// Begins a backfill, or looks what it would be.
    ///
    /// # Errors
    /// What is wrong with the wish; the source or the store cannot be asked.
    pub async fn begin(&self, wish: &Wish) -> Result<Begun, Fault> {
        let route = self.route(&wish.route, wish.source.as_deref())?;
        let (archive, rate) = (self.archive(route).await?, self.rate(route, wish.rate.as_deref())?);
        let cut = Cut { from: wish.from.clone(), to: wish.to.clone(), width: wish.slice.clone() };
        let mut slices = Vec::new();
        let mut expected = Some(0_u64);
        for span in archive.spans(wish.table.as_deref(), wish.by.as_deref()).await? {
            let cut = cut.slices(&span)?;
            if let (Some(first), Some(last)) = (cut.first(), cut.last()) {
                let whole = Slice { to: last.to.clone(), ..first.clone() };
                // One count for the whole, not one a slice: the column may have no index.
                let counted = archive.count(&whole).await;
                if let Err(fault) = &counted
                    && (wish.dry_run || matches!(fault.verdict, Verdict::Reject | Verdict::Hold))
                {
                    return Err(fault.clone());
                }
                expected = expected.zip(counted.ok()).map(|(sum, count)| sum + count);
            }
            slices.extend(cut);
        }
        if slices.is_empty() {
            return Err(Fault::new(Code::Invalid, "there is nothing to read: no rows from there on"));
        }
        let mut begun = Begun { id: None, expected, rate: rate.to_string(), slices };
        if wish.dry_run {
            return Ok(begun);
        }
        let new = NewBackfill {
            route: route.name.clone(),
            endpoint: route.from.clone(),
            again: wish.again,
            rate: begun.rate.clone(),
            expected,
            slices: begun.slices.clone(),
            actor: wish.actor.clone(),
        };
        begun.id = Some(self.store.put_backfill(&new).await.map_err(fault)?);
        self.look().await;
        Ok(begun)
    }

    /// Pauses, resumes or cancels one.
    ///
    /// # Errors
    /// It is not in the state for it; there is none; the store cannot be asked.
    pub async fn turn(&self, id: i64, turn: &Turn, actor: &str) -> Result<Backfill, Fault> {
        self.store.turn_backfill(id, turn, actor).await.map_err(fault)?;
        self.look().await;
        self.store.backfill(id).await.map_err(fault)
    }

    /// Backfills, newest first.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn list(&self, limit: u32) -> Result<Vec<Backfill>, StoreError> {
        self.store.backfills(None, limit).await
    }

    /// One, with its slices.
    ///
    /// # Errors
    /// There is none; the store cannot be asked.
    pub async fn show(&self, id: i64) -> Result<View, StoreError> {
        Ok(View { backfill: self.store.backfill(id).await?, slices: self.store.backfill_slices(id).await? })
    }

    fn route(&self, name: &str, source: Option<&str>) -> Result<&Arc<Route>, Fault> {
        let Some(route) = self.site.routes.iter().find(|route| route.name == name) else {
            let names = self.site.routes.iter().map(|route| route.name.as_str());
            let close = gatehouse_core::diagnostics::closest(name, names);
            let help = close.map(|close| format!("; did you mean `{close}`?")).unwrap_or_default();
            return Err(Fault::new(Code::NotFound, format!("there is no route `{name}`{help}")));
        };
        if route.request {
            return Err(Fault::new(
                Code::Invalid,
                format!("route `{name}` answers a caller who waits: nothing of it is kept"),
            ));
        }
        if let Some(source) = source.or(route.others.is_empty().then_some(route.from.as_str()))
            && let Some(route) = route.of(source)
        {
            return Ok(route);
        }
        let sources: Vec<_> =
            std::iter::once(route).chain(&route.others).map(|one| format!("`{}`", one.from)).collect();
        let text = format!("say with `--source` which source of `{name}` is read: {}", sources.join(" or "));
        Err(Fault::new(Code::Invalid, text))
    }

    async fn archive(&self, route: &Route) -> Result<Arc<dyn Archive>, Fault> {
        let found =
            route.from.split_once('/').and_then(|(system, endpoint)| Some((self.systems.get(system)?, endpoint)));
        let none = || {
            let text = format!("`{}` sends what it has once: only a source that is read can be read again", route.from);
            Fault::new(Code::Invalid, text)
        };
        let (system, endpoint) = found.ok_or_else(none)?;
        system.system.archive(endpoint, self.secrets.as_ref()).await?.ok_or_else(none)
    }

    /// How fast: below what the endpoint may send, so that live rows go on.
    fn rate(&self, route: &Route, said: Option<&str>) -> Result<Rate, Fault> {
        let found = route.from.split_once('/').and_then(|(system, name)| self.systems.get(system)?.endpoint(name));
        let own = found.and_then(|endpoint| endpoint.limits.rate);
        let Some(said) = said else {
            let share = |own: Rate| Rate { count: (own.count / SHARE).max(1), per: own.per };
            return Ok(own.map_or(USUAL, share));
        };
        let rate = parse_rate(said).ok_or_else(|| {
            Fault::new(Code::Invalid, format!("`{said}` is no rate: expected one such as `25/s` or `600/m`"))
        })?;
        match own {
            Some(own) if rate.per_second() >= own.per_second() => Err(Fault::new(
                Code::Invalid,
                format!("`{}` may send {own}, and its live rows need some of it: say a rate below that", route.from),
            )),
            _ => Ok(rate),
        }
    }

    /// Looks into the store which backfills run, and takes them up or lets them go.
    async fn look(&self) {
        let running = match self.store.backfills(Some(BackfillState::Running), MANY).await {
            Ok(running) => running,
            Err(error) => {
                tracing::warn!(%error, "the store cannot tell which backfills run");
                return;
            }
        };
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        // The oldest of an endpoint first: the list has the newest first.
        let now: HashMap<&str, &Backfill> = running.iter().map(|found| (found.endpoint.as_str(), found)).collect();
        jobs.retain(|endpoint, job| {
            let stays = now.get(endpoint.as_str()).is_some_and(|found| found.id == job.id);
            job.held.store(!stays, Ordering::Release);
            stays
        });
        for (endpoint, found) in now {
            if !jobs.contains_key(endpoint)
                && let Some(job) = self.job(found)
            {
                jobs.insert(endpoint.to_owned(), Arc::new(job));
            }
        }
    }

    fn job(&self, found: &Backfill) -> Option<Job> {
        // A site that was changed meanwhile may have no such route: then it waits until one has.
        let route = self.site.routes.iter().find(|route| route.name == found.route)?.of(&found.endpoint)?;
        let rate = parse_rate(&found.rate).unwrap_or(USUAL);
        Some(Job {
            id: found.id,
            endpoint: found.endpoint.clone(),
            once: Once::new(&found.route, if found.again { u32::try_from(found.id).unwrap_or(u32::MAX) } else { 0 }),
            queues: route.targets.iter().map(|target| target.queue.clone()).collect(),
            store: self.store.clone(),
            desk: self.desk.get()?.clone(),
            instance: self.instance.clone(),
            budget: Mutex::new(Budget::new(rate)),
            held: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            place: tokio::sync::Mutex::default(),
            tally: Mutex::default(),
        })
    }

    /// Lets targets drain that have much to do.
    async fn crowds(&self) {
        let jobs: Vec<_> = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        if jobs.is_empty() {
            return;
        }
        let Ok(depths) = self.bus.depths().await else { return };
        for job in jobs {
            let full = |queue: &String| depths.get(queue).is_some_and(|depth| depth.parcels > CROWDED);
            job.crowded.store(job.queues.iter().any(full), Ordering::Release);
        }
    }
}

/// Keeps looking until `stop`.
pub(super) async fn watch(backfills: Arc<Backfills>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        backfills.look().await;
        backfills.crowds().await;
    }
}

/// One backfill that runs, as the reader of its endpoint sees it.
pub(super) struct Job {
    id: i64,
    endpoint: String,
    once: Once,
    queues: Vec<String>,
    store: Arc<dyn Store>,
    desk: Weak<Desk>,
    instance: Arc<str>,
    budget: Mutex<Budget>,
    /// It does not run any more.
    held: AtomicBool,
    /// A target of it has much to do.
    crowded: AtomicBool,
    /// The slices that are not done, the one that is read first; none where the store must be asked.
    place: tokio::sync::Mutex<VecDeque<SliceState>>,
    /// What came of the rows of the piece.
    tally: Mutex<Tally>,
}

impl Job {
    fn count(&self, of: fn(&mut Tally) -> &mut u64) {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).spend();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.read += 1;
        *of(&mut tally) += 1;
    }

    fn desk(&self) -> Result<Arc<Desk>, Fault> {
        self.desk.upgrade().ok_or_else(|| Fault::new(Code::Unavailable, "the gateway is stopping"))
    }
}

#[async_trait]
impl Reading for Job {
    async fn due(&self) -> Due {
        if self.held.load(Ordering::Acquire) || self.crowded.load(Ordering::Acquire) {
            return Due::In(LOOK);
        }
        let rows = match self.budget.lock().unwrap_or_else(PoisonError::into_inner).rows(Instant::now()) {
            Ok(rows) => rows.min(PIECE),
            Err(wait) => return Due::In(wait),
        };
        let mut place = self.place.lock().await;
        if place.is_empty() {
            match self.store.backfill_slices(self.id).await {
                Ok(slices) => place.extend(slices.into_iter().filter(|slice| !slice.done)),
                Err(error) => tracing::warn!(backfill = self.id, %error, "the store cannot tell how far it is"),
            }
        }
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner) = Tally::default();
        match place.front() {
            Some(at) => Due::Now(Piece { slice: at.slice.clone(), after: at.after.clone(), rows }),
            // Every slice is read.
            None => Due::In(LOOK),
        }
    }

    async fn keep(&self, arrival: Arrival) -> Result<(), Fault> {
        match self.desk()?.keep_once(&self.endpoint, arrival, &self.once).await? {
            Kept::Taken(Outcome::Accepted) => self.count(|tally| &mut tally.accepted),
            Kept::Taken(Outcome::Repeated) => self.count(|tally| &mut tally.recognised),
            Kept::Taken(Outcome::Dropped) => self.count(|tally| &mut tally.dropped),
            Kept::Buried => self.count(|tally| &mut tally.refused),
        }
        Ok(())
    }

    async fn bury(&self, arrival: Arrival, fault: Fault) {
        if let Ok(desk) = self.desk() {
            desk.bury_once(&self.endpoint, &arrival, &fault, &self.once).await;
            self.count(|tally| &mut tally.refused);
        }
    }

    async fn save(&self, after: Option<&str>) {
        let mut place = self.place.lock().await;
        let Some(at) = place.front_mut() else { return };
        let tally = *self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        super::crash::point("k15");
        match self.store.save_slice(self.id, at.number, at.after.as_deref(), after, tally).await {
            Ok(()) => match after {
                Some(after) => at.after = Some(after.to_owned()),
                None => drop(place.pop_front()),
            },
            // Another gateway has read on meanwhile: from where it came to.
            Err(StoreError::Conflict(_)) => place.clear(),
            Err(error) => {
                tracing::warn!(backfill = self.id, %error, "a slice's place could not be saved; its last piece comes again")
            }
        }
    }

    async fn stop(&self, fault: Fault) {
        tracing::warn!(backfill = self.id, endpoint = self.endpoint, %fault, private = fault.private, "a backfill cannot go on; it is paused");
        self.held.store(true, Ordering::Release);
        let text = match &fault.private {
            Some(private) => format!("{} ({private})", fault.public),
            None => fault.public.clone(),
        };
        if let Err(error) = self.store.turn_backfill(self.id, &Turn::Halt(text), &self.instance).await {
            tracing::warn!(backfill = self.id, %error, "that it is paused could not be stored");
        }
    }
}

/// A bucket of rows.
#[derive(Debug)]
struct Budget {
    rate: f64,
    size: f64,
    left: f64,
    at: Instant,
}

impl Budget {
    /// A second's worth, or one row where that is less.
    fn new(rate: Rate) -> Self {
        let rate = rate.per_second();
        Self { rate, size: rate.max(1.0), left: rate.clamp(1.0, f64::from(PIECE)), at: Instant::now() }
    }

    /// How many rows may be read now.
    ///
    /// # Errors
    /// How long to wait until it is worth a look.
    fn rows(&mut self, now: Instant) -> Result<u32, Duration> {
        self.left = self.size.min(self.left + self.rate * now.saturating_duration_since(self.at).as_secs_f64());
        self.at = now;
        let worth = (self.size / 4.0).max(1.0);
        if self.left >= worth {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of rows, at least 1"
            )]
            return Ok(self.left as u32);
        }
        Err(Duration::from_secs_f64((worth - self.left) / self.rate).max(Duration::from_millis(1)))
    }

    fn spend(&mut self) {
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_gives_its_rate_and_no_more() {
        for rate in ["1/h", "7/m", "1/s", "25/s", "3000/s"] {
            let rate = parse_rate(rate).unwrap();
            let mut budget = Budget::new(rate);
            let start = budget.at;
            let (mut now, mut rows) = (start, 0_u32);
            let span = Duration::from_secs_f64(50.0 / rate.per_second()).max(Duration::from_secs(20));
            while now < start + span {
                match budget.rows(now) {
                    Ok(some) => {
                        let some = some.min(PIECE);
                        (0..some).for_each(|_| budget.spend());
                        rows += some;
                    }
                    Err(wait) => now += wait,
                }
            }
            let most = rate.per_second() * span.as_secs_f64();
            assert!((f64::from(rows) - most).abs() <= rate.per_second().max(1.0) * 2.0, "{rate}: {rows} of {most}");
        }
    }
}
