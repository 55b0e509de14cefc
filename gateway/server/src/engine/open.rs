//! Opens the store and the bus that a site names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use gatehouse_bus::Bus;
use gatehouse_bus::claims::{Claims, ClaimsConfig};
use gatehouse_bus::embedded::Embedded;
use gatehouse_bus::rabbitmq::{self, RabbitMq};
use gatehouse_core::secret::{Secret, Secrets};
use gatehouse_core::site::{Address, Gateway};
use gatehouse_store::Store;

/// How long a large body stays after its delivery was settled: far longer than an acknowledgement is on its way.
const CLAIM_LINGER: std::time::Duration = std::time::Duration::from_secs(5);

/// The site's data folder, made if it is not there, readable by its owner only.
pub(super) fn data_folder(gateway: &Gateway, root: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = root.join(&gateway.data);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    Ok(folder)
}

pub(super) async fn store(gateway: &Gateway, root: &Path, secrets: &dyn Secrets) -> anyhow::Result<Arc<dyn Store>> {
    let config = match &gateway.store {
        None => gatehouse_store::StoreConfig::Sqlite(data_folder(gateway, root)?.join("store.db")),
        Some(store) => gatehouse_store::StoreConfig::Postgres {
            url: Secret::new(url(&store.url, secrets)?),
            schema: store.schema.clone(),
            ca_file: store.ca_file.as_ref().map(|file| root.join(file)),
        },
    };
    Ok(gatehouse_store::open(config).await?)
}

/// The bus, with the folder beside it where large bodies wait.
pub(super) async fn bus(gateway: &Gateway, root: &Path, secrets: &dyn Secrets) -> anyhow::Result<Arc<dyn Bus>> {
    let bus = bare_bus(gateway, root, secrets).await?;
    data_folder(gateway, root)?;
    let (folder, above, keep) = (root.join(&gateway.claims.folder), gateway.claims.above, gateway.claims.keep);
    let failed = format!("cannot make the folder of `claims`, {}", folder.display());
    let requests = gateway.bus.is_some();
    let config = ClaimsConfig { folder, above, keep, linger: CLAIM_LINGER, requests };
    Ok(Claims::new(bus, config).context(failed)?)
}

async fn bare_bus(gateway: &Gateway, root: &Path, secrets: &dyn Secrets) -> anyhow::Result<Arc<dyn Bus>> {
    let Some(bus) = &gateway.bus else {
        let path = data_folder(gateway, root)?.join("bus.db");
        let opened = tokio::task::spawn_blocking(move || Embedded::open(&path)).await?;
        return Ok(Arc::new(opened?));
    };
    let config = rabbitmq::Config {
        urls: bus.urls.iter().map(|address| url(address, secrets)).collect::<anyhow::Result<_>>()?,
        prefix: bus.prefix.clone(),
        name: gateway.name.clone(),
        batch: bus.batch,
        ca_file: bus.ca_file.as_ref().map(|file| root.join(file)),
        ..rabbitmq::Config::new(Vec::new())
    };
    Ok(RabbitMq::connect(config)?)
}

fn url(address: &Address, secrets: &dyn Secrets) -> anyhow::Result<String> {
    Ok(match address {
        Address::Clear(url) => url.clone(),
        Address::Secret(secret) => {
            secrets.fetch(secret).map_err(|fault| anyhow::anyhow!(fault.public))?.expose().to_owned()
        }
    })
}

/// Opens both as a gateway would, asks them, and lets them go again.
pub(super) async fn look(
    gateway: &Gateway,
    root: &Path,
    secrets: &dyn Secrets,
    patience: std::time::Duration,
) -> anyhow::Result<String> {
    let store = store(gateway, root, secrets).await?;
    let about = store.ping().await?;
    let bus = bus(gateway, root, secrets).await?;
    let mut health = bus.health();
    let declared = tokio::time::timeout(patience, async {
        loop {
            match bus.declare(gatehouse_bus::Topology::default()).await {
                Ok(()) => break Ok(()),
                Err(gatehouse_bus::BusError::Unavailable(_)) => {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await
                }
                Err(error) => break Err(error),
            }
        }
    });
    let outcome = declared.await;
    let state = health.borrow_and_update().clone();
    bus.close().await;
    match outcome {
        Ok(Ok(())) => Ok(format!("the bus answers; {about}")),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => anyhow::bail!("the bus is not reachable: {state:?}"),
    }
}
