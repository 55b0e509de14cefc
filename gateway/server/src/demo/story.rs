//! The story, told as it happens.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use gatehouse_core::Value;
use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_net::door::{Door, DoorConfig};
use gatehouse_store::{Filter, State};
use tokio_util::sync::CancellationToken;

use super::peers::{Crm, CrmMood, Erp, finance};
use super::place::{Addresses, Place, SECRETS};
use crate::cli::say;
use crate::engine::Gateway;

/// How long any step of the story may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells it.
pub(super) async fn tell(site: &Path, ubl: Option<&Path>, once: bool) -> anyhow::Result<ExitCode> {
    say(
        "Gatehouse demo: a shop, an ERP (SOAP), a CRM (REST) and a finance database, all stand-ins; the gateway is real.\n",
    );
    let erp = Erp::start().await?;
    let crm = Crm::start(CrmMood::Overloaded(2)).await?;
    let place = Place::prepare(site, &Addresses { erp: erp.address(), crm: crm.address() })?;
    let books = finance(&place.folder().join("data/finance.db"))?;

    let started = Instant::now();
    let door = Door::bind(DoorConfig { listen: ([127, 0, 0, 1], 0).into(), ..DoorConfig::default() })
        .await
        .map_err(|fault| anyhow::anyhow!(fault.public))?;
    let (checked, problems) = crate::site::load(place.folder(), &crate::registry::adapters(Some(door.clone())))?;
    let Some(checked) = checked else {
        for problem in problems.sorted() {
            say(problem.render(false));
        }
        bail!("the site at {} is not sound", site.display());
    };
    let gateway = Gateway::start(checked, place.folder(), door).await?;
    let stop = CancellationToken::new();
    let admin = crate::admin::serve(gateway.clone(), place.folder(), stop.clone()).await?;
    wait("the gateway to be ready", async || gateway.ready().await.is_ok()).await?;
    say(format!(
        "1. The gateway is ready after {} ms, on the embedded bus and SQLite: http://{}",
        started.elapsed().as_millis(),
        gateway.address
    ));

    let shop = Shop::new(&gateway)?;
    orders(&shop, site, &gateway, &erp, &crm, &books).await?;
    let fed = upload_ubl(&shop, site, ubl, &erp).await?;
    refused(&shop, site).await?;
    dead_letter(&gateway, &erp).await?;

    let count = |table: &str| books.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
    say(format!(
        "\nIn the end: {} orders in the ERP, {} in the CRM, {} in finance ({} lines); {} of them came as UBL.",
        erp.orders().len(),
        crm.orders().len(),
        count("receivable")?,
        count("receivable_line")?,
        fed
    ));
    let (_, key) = SECRETS[0];
    say(format!(
        "\nTry next:\n  curl -i -H 'X-Api-Key: {key}' -H 'Content-Type: application/json' --data @{}/samples/order-1001.json http://{}/hooks/orders\n  curl http://{admin}/metrics\n  gatehouse check && gatehouse test\n  gatehouse try shop-order-paid {}/samples/order-1002.json\n  gatehouse graph",
        site.display(),
        gateway.address,
        site.display()
    ));
    if !once {
        say("\nStays up until Ctrl-C.");
        let _ = tokio::signal::ctrl_c().await;
    }
    gateway.stop().await;
    stop.cancel();
    Ok(ExitCode::SUCCESS)
}

/// Three orders: two go everywhere, the third is one that the ERP refuses.
async fn orders(
    shop: &Shop,
    site: &Path,
    gateway: &Arc<Gateway>,
    erp: &Erp,
    crm: &Crm,
    books: &rusqlite::Connection,
) -> anyhow::Result<()> {
    say("\n2. The shop's webhook sends three orders.");
    for number in ["1001", "1002", "1003"] {
        let body = std::fs::read(site.join(format!("samples/order-{number}.json")))?;
        let (status, answer) = shop.send("/hooks/orders", "application/json", body).await?;
        say(format!(
            "   POST /hooks/orders  SO-{number}  → {status} {answer}   (said only after every target's copy was on disk)"
        ));
    }
    let body = std::fs::read(site.join("samples/order-1001.json"))?;
    let (status, _) = shop.send("/hooks/orders", "application/json", body).await?;
    say(format!(
        "   POST /hooks/orders  SO-1001  → {status} again: the same id with the same body is recognised, nothing is sent twice"
    ));

    wait("the ERP to have two orders", async || erp.orders().len() == 2).await?;
    say("\n3. The ERP took SO-1001 and SO-1002 over SOAP.");
    let letters = gateway.letters.clone();
    wait("the refused order to be a dead letter", async || open_letters(&letters).await == 1).await?;
    let letter =
        letters.store().letters(&Filter { state: Some(State::Open), ..Filter::default() }, 1, None).await?.remove(0);
    say(format!("   It refused SO-1003 with a 200 and RETURN.TYPE = E: \"{}\"", letter.text));
    say(format!(
        "   A business no is not retried: it is dead letter {} for {}.",
        letter.id,
        letter.target.unwrap_or_default()
    ));

    wait("the CRM to have all orders", async || crm.orders().len() == 3).await?;
    say(format!(
        "\n4. The CRM was overloaded (503) {} times; its orders waited for their next attempt and arrived, each customer's in order.",
        crm.refused()
    ));
    let phone = crm
        .orders()
        .get("SO-1001")
        .and_then(|order| order.field("phone").and_then(Value::to_plain_text))
        .unwrap_or_default();
    say(format!(
        "   The phone 138 0013 8000 arrived as {phone}; the ERP's trouble with SO-1003 kept nobody else waiting."
    ));
    let rows = || books.query_row("SELECT count(*) FROM receivable", [], |row| row.get::<_, i64>(0)).unwrap_or(0);
    wait("finance to have all orders", async || rows() == 3).await?;
    let (amount, name): (String, String) =
        books.query_row("SELECT amount, customer_name FROM receivable WHERE order_no = 'SO-1002'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    say(format!("\n5. Finance has three receivables. SO-1002 of {name}: {amount}, every digit of it."));
    Ok(())
}

async fn upload_ubl(shop: &Shop, site: &Path, ubl: Option<&Path>, erp: &Erp) -> anyhow::Result<usize> {
    say("\n6. A wholesale customer sends UBL orders: other XML, the same canonical order.paid.");
    let before = erp.orders().len();
    let own = site.join("samples/ubl-order.xml");
    let mut sent = 0;
    for file in std::iter::once(own.as_path()).chain(ubl) {
        let body = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let (status, answer) = shop.send("/hooks/ubl-orders", "application/xml", body).await?;
        say(format!(
            "   POST /hooks/ubl-orders  {}  → {status} {answer}",
            file.file_name().unwrap_or_default().to_string_lossy()
        ));
        sent += usize::from(status < 300);
    }
    wait("the ERP to have the UBL orders", async || erp.orders().len() == before + sent).await?;
    Ok(sent)
}

async fn refused(shop: &Shop, site: &Path) -> anyhow::Result<()> {
    let body = std::fs::read(site.join("samples/order-bad.json"))?;
    let (status, answer) = shop.send("/hooks/orders", "application/json", body).await?;
    say(format!(
        "\n7. An order full of mistakes is refused at the door with {status}, each mistake by its place (the phone is masked):"
    ));
    let problem: serde_json::Value = serde_json::from_str(&answer)?;
    for violation in problem["violations"].as_array().into_iter().flatten() {
        say(format!(
            "   {}: {}",
            violation["pointer"].as_str().unwrap_or(""),
            violation["message"].as_str().unwrap_or("")
        ));
    }
    Ok(())
}

/// What support staff do: mend the letter, send it again, once.
async fn dead_letter(gateway: &Arc<Gateway>, erp: &Erp) -> anyhow::Result<()> {
    let letters = gateway.letters.clone();
    let letter =
        letters.store().letters(&Filter { state: Some(State::Open), ..Filter::default() }, 1, None).await?.remove(0);
    let whole = letters.store().letter(letter.id).await?;
    let mended = String::from_utf8_lossy(&whole.body).replace("OLD-404", "NEW-405");
    letters
        .edit(letter.id, letter.revision, mended.as_bytes(), "demo")
        .await
        .map_err(|fault| anyhow::anyhow!(fault.public))?;
    say(format!(
        "\n8. Support mends letter {}: OLD-404 becomes NEW-405 (gatehouse letters edit {}), and replays it.",
        letter.id, letter.id
    ));
    letters.replay(&[letter.id], "demo").await?;
    let store = letters.store();
    wait("the letter to be resolved", async || {
        store.letter(letter.id).await.is_ok_and(|letter| letter.summary.state == State::Resolved)
    })
    .await?;
    let same = erp.orders().get("SO-1003") == Some(&letter.delivery_id);
    say(format!(
        "   It went to the ERP alone, with the delivery id that it had{}, and the letter is resolved.",
        if same { "" } else { " not" }
    ));
    Ok(())
}

async fn open_letters(letters: &crate::engine::letters::Letters) -> usize {
    let filter = Filter { state: Some(State::Open), ..Filter::default() };
    letters.store().letters(&filter, 10, None).await.map_or(0, |found| found.len())
}

/// Waits for something that must come.
async fn wait(what: &str, mut done: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done().await {
        if Instant::now() > deadline {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The stand-in shop.
struct Shop {
    client: Client,
}

impl Shop {
    fn new(gateway: &Gateway) -> anyhow::Result<Self> {
        let config = ClientConfig {
            address: format!("http://{}", gateway.address),
            ca_file: None,
            max_answer: 1 << 20,
            connections: 4,
        };
        Ok(Self { client: Client::new(&config).map_err(|fault| anyhow::anyhow!(fault.public))? })
    }

    async fn send(&self, path: &str, content_type: &str, body: Vec<u8>) -> anyhow::Result<(u16, String)> {
        let url = self.client.url(path).map_err(|fault| anyhow::anyhow!(fault.public))?;
        let (_, key) = SECRETS[0];
        let request = http::Request::post(url)
            .header("content-type", content_type)
            .header("x-api-key", key)
            .body(Bytes::from(body))?;
        let response = self.client.send(request).await.map_err(|fault| anyhow::anyhow!(fault.public))?;
        Ok((response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned()))
    }
}
