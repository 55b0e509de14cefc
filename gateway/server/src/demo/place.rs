//! A place for the demo: a copy of the site in a folder of its own, with the stand-ins' addresses and secrets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The copy, removed when the demo ends.
pub(super) struct Place {
    folder: PathBuf,
}

/// Where the stand-ins are.
pub(super) struct Addresses {
    pub(super) erp: SocketAddr,
    pub(super) crm: SocketAddr,
}

/// The secret that each `${env:NAME}` of the example site stands for here.
pub(super) const SECRETS: [(&str, &str); 3] =
    [("SHOP_KEY", "demo-shop-key"), ("CRM_TOKEN", "demo-crm-token"), ("ERP_PASSWORD", "demo-erp-password")];

impl Place {
    /// Copies the site at `site`.
    pub(super) fn prepare(site: &Path, addresses: &Addresses) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("gatehouse-demo-{}", uuid::Uuid::new_v4().simple()));
        let place = Self { folder };
        copy(site, &place.folder, 4).with_context(|| format!("cannot copy the site at {}", site.display()))?;
        for (name, value) in SECRETS {
            std::fs::write(place.folder.join(format!("{name}.secret")), value)?;
        }
        let systems = place.folder.join("systems");
        for entry in std::fs::read_dir(&systems)? {
            let path = entry?.path();
            let mut text = std::fs::read_to_string(&path)?;
            for (name, _) in SECRETS {
                text = text.replace(&format!("${{env:{name}}}"), &format!("${{file:{name}.secret}}"));
            }
            // The waits of the example site are for real systems; a story should not take minutes.
            text = text
                .replace("127.0.0.1:8091", &addresses.erp.to_string())
                .replace("127.0.0.1:8092", &addresses.crm.to_string());
            std::fs::write(&path, text)?;
        }
        let gateway =
            "version: 1\nname: demo\nlisten: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\nladder: [1s, 2s, 5s, 30s]\n";
        std::fs::write(place.folder.join("gatehouse.yaml"), gateway)?;
        std::fs::create_dir_all(place.folder.join("data"))?;
        Ok(place)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn copy(from: &Path, to: &Path, levels: u8) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if levels > 0 && entry.file_name() != "data" {
                copy(&entry.path(), &target, levels - 1)?;
            }
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
