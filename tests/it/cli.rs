//! What a person is told of a broken site: every problem at once, each with its place; and the demo, whole.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::harness::{Place, SHOP};

const CRM: &str =
    "version: 1\nsystem: crm\nadapter: rest\naddress: http://127.0.0.1:9\nendpoints:\n  put: { call: POST /orders }\n";

const SOUND: &str =
    "version: 1\nroutes:\n  - { route: a, from: shop/orders, type: order.paid, to: [{ target: crm/put }] }\n";

/// The problems of a site with these files in it, as people see them. There is at least one, and it keeps the site from
/// being used; each begins with its place.
fn problems(files: &[(&str, &str)]) -> Vec<String> {
    let mut all = vec![("systems/crm.yaml", CRM), ("orders.yaml", SOUND)];
    all.extend(files);
    told(&Place::new(&all))
}

fn told(place: &Place) -> Vec<String> {
    let (site, problems) = place.check();
    assert!(site.is_none() && problems.has_errors(), "{:?}", problems.sorted());
    let told: Vec<_> =
        problems.iter().map(|problem| format!("{}\n{}", problem.place(), problem.render(false))).collect();
    for text in &told {
        let place = text.lines().next().expect("a place");
        let mut parts = place.rsplitn(3, ':');
        let numbers: Vec<u32> = parts.by_ref().take(2).map(|part| part.parse().expect(place)).collect();
        assert!(
            numbers.iter().all(|number| *number > 0) && parts.next().is_some_and(|file| !file.is_empty()),
            "{text}"
        );
    }
    told
}

/// One of them has all these parts.
fn assert_told(told: &[String], parts: &[&str]) {
    assert!(
        told.iter().any(|text| parts.iter().all(|part| text.contains(part))),
        "{parts:?} in:\n{}",
        told.join("\n\n")
    );
}

#[test]
fn the_site_that_the_others_break_is_sound() {
    let (site, problems) = Place::new(&[("systems/crm.yaml", CRM), ("orders.yaml", SOUND)]).check();
    assert!(site.is_some() && !problems.has_errors(), "{:?}", problems.sorted());
}

/// Where another gateway may take what this one has put on the broker, it must find the body too.
#[test]
fn gateways_that_share_a_broker_are_told_to_share_large_bodies() {
    let both = "bus: { urls: [\"${env:BUS}\"] }\nstore: { postgres: \"${env:STORE}\" }\n";
    let broker = "bus: { urls: [\"${env:BUS}\"] }\n";
    for (gateway, above, told) in [
        (String::new(), 1 << 20, false),
        (broker.to_owned(), 8 << 20, false),
        (both.to_owned(), 8 << 20, true),
        (format!("{both}claims: {{ folder: /mnt/claims }}\n"), 1 << 20, false),
        (format!("{both}claims: {{ above: 2MiB }}\n"), 2 << 20, true),
    ] {
        let gateway = format!("version: 1\n{gateway}");
        let place = Place::new(&[("gatehouse.yaml", &gateway), ("systems/crm.yaml", CRM), ("orders.yaml", SOUND)]);
        let (site, problems) = place.check();
        assert_eq!(site.expect("it is sound").gateway.claims.above, above, "{gateway}");
        let text: String = problems.iter().map(|problem| problem.render(false)).collect();
        assert_eq!(text.contains("warning[claims-folder]"), told, "{gateway}\n{text}");
    }
}

/// How many messages travel in one of the broker's is bounded, and what is out of bounds is told with its place.
#[test]
fn the_size_of_batches_is_checked() {
    for (batch, most) in [("", Some(64)), ("1", Some(1)), ("256", Some(256)), ("0", None), ("257", None)] {
        let said = if batch.is_empty() { String::new() } else { format!(", batch: {batch}") };
        let gateway = format!("version: 1\nbus: {{ urls: [\"${{env:BUS}}\"]{said} }}\n");
        let place = Place::new(&[("gatehouse.yaml", &gateway), ("systems/crm.yaml", CRM), ("orders.yaml", SOUND)]);
        let (site, problems) = place.check();
        let text: String = problems.iter().map(|problem| problem.render(false)).collect();
        match most {
            Some(most) => assert_eq!(site.expect("it is sound").gateway.bus.expect("a broker").batch, most),
            None => assert!(text.contains("gatehouse.yaml:2:") && text.contains("from 1 to 256"), "{text}"),
        }
        assert_eq!(problems.has_errors(), most.is_none(), "{text}");
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let routes = "version: 1
routes:
  - route: a
    from: shop/ordres
    type: order.paid
    map: nowhere
    to:
      - { target: crm/putt, when: statsu == \"paid\" }
  - route: a
    from: shop/orders
    type: order.piad
    to:
      - { target: crm/put, when: \"amount > \" }
      - { target: crm/put, retry: { attempts: 0 } }
      - { target: crm/put, order_by: customer, on_dead: wait }
      - { target: crm/put, on_dead: park }
";
    let told = problems(&[("orders.yaml", routes)]);
    assert_told(&told, &["orders.yaml:4:11", "shop/ordres", "shop/orders"]);
    assert_told(&told, &["orders.yaml:6:10", "nowhere"]);
    assert_told(&told, &["orders.yaml:8:19", "crm/putt", "crm/put`"]);
    assert_told(&told, &["orders.yaml:8:35", "statsu", "status"]);
    assert_told(&told, &["orders.yaml:9:12", "a route `a`"]);
    assert_told(&told, &["orders.yaml:11:11", "order.piad", "order.paid"]);
    assert_told(&told, &["orders.yaml:13:"]);
    assert_told(&told, &["orders.yaml:14:", "1 to 100"]);
    assert_told(&told, &["orders.yaml:15:", "`go_on` or `park`"]);
    assert_told(&told, &["orders.yaml:16:37", "`order_by`"]);
}

#[test]
fn an_unknown_name_in_a_condition_is_told_with_what_was_meant() {
    let told = problems(&[("orders.yaml", &SOUND.replace("crm/put }", "crm/put, when: 'statsu == \"paid\"' }"))]);
    assert_told(&told, &["orders.yaml:3:", "statsu", "status"]);
}

#[test]
fn an_unknown_key_is_told_with_what_was_meant() {
    let told = problems(&[("systems/crm.yaml", &CRM.replace("address:", "adress:"))]);
    assert_told(&told, &["systems/crm.yaml:4:1", "adress", "address"]);
}

#[test]
fn a_secret_in_clear_is_refused_and_not_shown() {
    let told = problems(&[("systems/shop.yaml", &SHOP.replace("${file:shop.secret}", "hunter2-in-clear"))]);
    assert_told(&told, &["systems/shop.yaml:4:", "${env:"]);
}

#[test]
fn hostile_and_broken_files_are_problems_not_panics() {
    let bomb = format!(
        "version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n{}",
        (b'b'..=b'k')
            .map(|name| {
                let (name, before) = (char::from(name), char::from(name - 1));
                format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","))
            })
            .collect::<String>()
    );
    let long = format!("version: 1\nroutes:\n  - {{ route: {}, from: a }}\n", "x".repeat(1 << 20));
    let many = format!("version: 1\nroutes:\n{}", "  - { route: a b, from: x, type: y, to: [] }\n".repeat(200));
    let deep = format!("version: 1\nroutes: {}", "[".repeat(100_000));
    let tabs = "version: 1\nroutes:\n\t- route: a\n";
    let empty = "";
    for text in [
        &bomb,
        &long,
        &many,
        &deep,
        tabs,
        empty,
        "routes",
        "\u{feff}version: 2\nroutes: []\n",
        "version: 1\nroutes:\n - {",
    ] {
        let told = problems(&[("orders.yaml", text)]);
        assert_told(&told, &["orders.yaml:"]);
    }
    assert_told(&problems(&[("orders.yaml", tabs)]), &["orders.yaml:3:", "tab"]);
}

#[test]
fn an_empty_folder_is_told_the_smallest_site() {
    assert_told(&told(&Place::bare(&[])), &["gatehouse.yaml:1:1", "version: 1"]);
    let missing = gatehouse::site::load(Path::new("/nowhere/at/all"), &gatehouse::registry::adapters(None));
    assert!(missing.err().is_some_and(|error| error.to_string().contains("/nowhere/at/all")));
}

#[derive(clap::Parser)]
struct Demo {
    #[command(flatten)]
    args: gatehouse::demo::DemoArgs,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_tells_its_whole_story() {
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../routes");
    let demo = Demo::parse_from(["demo", "--once", "--site", site.to_str().expect("a path")]);
    let told = tokio::time::timeout(crate::harness::PATIENCE * 2, gatehouse::demo::run(demo.args)).await;
    let code = told.expect("it ends in time").expect("it passes");
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
}

/// The folder of real WSDLs; skipped loudly where it is not.
fn wsdls() -> Option<std::path::PathBuf> {
    let named = std::env::var_os("GATEHOUSE_CORPUS").map(std::path::PathBuf::from);
    let folder =
        named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus")).join("wsdl");
    if !folder.is_dir() {
        eprintln!("SKIPPED: the corpus is not at {}", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn connecting_any_wsdl_of_the_corpus_leaves_a_sound_site() {
    use gatehouse_core::diagnostics::{Problems, SourceFile};
    use gatehouse_core::xml;
    use gatehouse_soap::connect::{Description, Wanted};

    let Some(folder) = wsdls() else { return };
    let oracle = std::fs::read_to_string(folder.join("ORACLE.tsv")).expect("readable");
    for line in oracle.lines().skip(1).filter(|line| line.contains("\tloads\t") && !line.contains("\t0/0/0")) {
        let path = folder.join(line.split('\t').next().expect("a file"));
        let beside = path.parent().expect("a folder").to_owned();
        let find = |name: &str| {
            let bytes = std::fs::read(beside.join(name)).ok()?;
            Some(SourceFile::new(name, xml::text_of(&bytes, None).ok()?))
        };
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let mut problems = Problems::new();
        let description = Description::read(find(&name).expect("there"), &find, &mut problems).expect("loads");
        // The largest has a hundred operations of a hundred types each: some of them.
        let operations = match name.as_str() {
            "services.wsdl" => vec!["CreateItem".to_owned(), "FindItem".to_owned(), "GetFolder".to_owned()],
            _ => Vec::new(),
        };
        for listen in [None, Some("/soap/connected".to_owned())] {
            let wanted = Wanted {
                system: "connected".to_owned(),
                wsdl: format!("wsdl/{name}"),
                port: None,
                operations: operations.clone(),
                listen,
            };
            let mut files =
                vec![("systems/crm.yaml".to_owned(), CRM.to_owned()), ("orders.yaml".to_owned(), SOUND.to_owned())];
            files.extend(description.files_for(&wanted).expect(&name).into_iter().map(|file| (file.path, file.text)));
            files.extend(
                description.files().map(|name| (format!("wsdl/{name}"), find(name).expect("there").text().to_owned())),
            );
            let borrowed: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            let (site, problems) = Place::new(&borrowed).check();
            let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
            assert!(site.is_some(), "{name}: {}", told.join("\n"));
        }
        let tree = description.tree(&operations, 3);
        assert!(tree.contains("service ") && tree.contains("request "), "{name}: {tree}");
    }
}
