//! A site: the folder of files that says what is connected to what, and the check that makes it a [`Site`] that cannot
//! be wrong.
//!
//! Pure: it is handed the files' texts and the adapters. Every problem of every file is told in one go.

mod files;
mod gateway;
mod given;
mod merge;
mod plan;
mod prefixes;
mod retry;
mod routes;
mod suite;
mod system;
mod table;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use files::Files;
pub use gateway::{Address, AdminConfig, BusConfig, Gateway, GatewayFile, StoreConfig, Telemetry, TlsConfig};
pub use plan::{Planned, outbound_body};
pub use retry::RetryPolicy;
pub use routes::{OnDead, Route, Target, Unrouted};
pub use suite::{RouteTest, Sample, TestOutcome, TestsFile, decode_sample, preview};
pub use table::RoutesFile;

use crate::adapter::{Adapter, System};
use crate::diagnostics::Problems;
use crate::mapping::Mapping;
use crate::schema::Type;

/// A checked site.
pub struct Site {
    /// This instance: listeners, bus, store, telemetry.
    pub gateway: Gateway,
    /// The systems by name.
    pub systems: BTreeMap<String, Arc<dyn System>>,
    /// The canonical types by name.
    pub types: BTreeMap<String, Arc<Type>>,
    /// The mapping tables by name.
    pub mappings: BTreeMap<String, Arc<Mapping>>,
    /// The routes in the order of their files and rows.
    pub routes: Vec<Arc<Route>>,
    /// The site's own tests.
    pub tests: Vec<RouteTest>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site")
            .field("systems", &self.systems.keys())
            .field("types", &self.types.keys())
            .field("mappings", &self.mappings.keys())
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

impl Site {
    /// The routes that an endpoint (`shop/orders`) feeds, each as its messages go through it.
    pub fn routes_from<'a>(&'a self, endpoint: &'a str) -> impl Iterator<Item = &'a Arc<Route>> {
        self.routes.iter().filter_map(move |route| route.of(endpoint))
    }

    /// Checks all files. The site comes back only if nothing stops it; warnings may come beside it.
    #[must_use]
    pub fn check(files: &Files, adapters: &[Arc<dyn Adapter>]) -> (Option<Self>, Problems) {
        let mut problems = Problems::new();
        let gateway = gateway::check(files, &mut problems);
        let systems = system::check(files, adapters, &mut problems);

        let mut types = BTreeMap::new();
        for file in files.under("types/", ".schema.json") {
            let name = file.name().trim_start_matches("types/").trim_end_matches(".schema.json");
            if let Some(kind) = Type::compile(name, file, &mut problems) {
                types.insert(name.to_owned(), Arc::new(kind));
            }
        }

        let mut mappings: BTreeMap<String, Arc<Mapping>> = BTreeMap::new();
        for file in files.under("mappings/", ".yaml") {
            let Some(mapping) = Mapping::compile(file, &mut problems) else { continue };
            let expected = file.name().trim_start_matches("mappings/").trim_end_matches(".yaml");
            if mapping.name() != expected {
                problems.push(crate::diagnostics::Problem::error(
                    "name",
                    file,
                    0..0,
                    format!(
                        "the file is `{expected}.yaml` but its mapping is called `{}`: they must be the same",
                        mapping.name()
                    ),
                ));
            }
            mappings.insert(mapping.name().to_owned(), Arc::new(mapping));
        }

        let broken = problems.has_errors();
        let known = routes::Known { systems: &systems, types: &types, mappings: &mappings, files, incomplete: broken };
        let routes = routes::check(files, &known, &mut problems);
        let tests = suite::check(files, &routes, &mut problems);

        if problems.has_errors() {
            return (None, problems);
        }
        let site = gateway.map(|gateway| Self { gateway, systems, types, mappings, routes, tests });
        (site, problems)
    }
}
