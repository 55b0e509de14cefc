//! `gatehouse check --live`: what does not fit between the routes and the tables that are there, told with its place.

use super::*;

const MAPPING: &str = "version: 1
mapping: to-books
rows:
  - { to: no,      from: orderNo, type: string }
  - { to: amount,  from: amount, type: decimal(4) }
  - { to: status,  from: status }
  - { to: customr, from: customer }
  - { to: paid,    default: '2026-11-24T08:00:00+08:00', type: datetime }
";

fn routes(map: &str) -> String {
    format!(
        "version: 1\nroutes:\n  - {{ route: books, from: shop/orders, type: order.paid, to: [{{ target: books/rows{map} }}] }}\n"
    )
}

/// What the check tells, each with its place; the command line says the same in its exit code.
async fn told(place: &Place) -> Vec<String> {
    let (site, problems) = place.check();
    let site = site.unwrap_or_else(|| panic!("{:?}", problems.sorted()));
    let given: Vec<_> =
        site.routes.iter().flat_map(|route| route.targets.iter().map(|target| route.gives(target))).collect();
    let secrets = gatehouse::site::ProcessSecrets::new(place.root());
    let found = site.systems["books"].compare(&given, &secrets).await;
    let found = found.unwrap_or_else(|fault| panic!("{fault} {:?}", fault.private)).expect("a database can tell");
    let stops = found.has_errors();
    assert_eq!(gatehouse(place, &["check", "--live"]).await, !stops, "{:?}", found.sorted());
    found.iter().map(|problem| format!("{}\n{}", problem.place(), problem.render(false))).collect()
}

fn assert_told(told: &[String], parts: &[&str]) {
    let found = told.iter().any(|text| parts.iter().all(|part| text.contains(part)));
    assert!(found, "{parts:?} in:\n{}", told.join("\n\n"));
}

pub(super) async fn what_does_not_fit_a_table_is_told_with_its_place(database: &Database) {
    let mut session = database.session().await;
    let time = database.by("TEXT", "TIMESTAMPTZ", "DATETIME");
    session
        .run(&format!(
            "CREATE TABLE orders (id {}, no VARCHAR(10) NOT NULL, amount DECIMAL(10,2) NOT NULL, status VARCHAR(4) NOT NULL, customer VARCHAR(40), paid {time}, shop VARCHAR(20) NOT NULL, twice INT GENERATED ALWAYS AS (2) STORED)",
            database.by("INTEGER PRIMARY KEY", "BIGSERIAL PRIMARY KEY", "BIGINT PRIMARY KEY AUTO_INCREMENT")
        ))
        .await;
    let place = Place::new(&[
        ("orders.yaml", &routes(", map: to-books")),
        ("mappings/to-books.yaml", MAPPING),
        ("database.secret", "gatehouse"),
    ]);
    let endpoint = "  rows:\n    table: orders\n    mode: upsert\n    key: [no]\n";
    place.write("systems/books.yaml", &database.writes("books", endpoint));
    let texts = told(&place).await;
    assert_told(&texts, &["mappings/to-books.yaml:7:", "no column `customr`", "`customer`"]);
    assert_told(&texts, &["orders.yaml:3:", "`orders.shop`", "has no default"]);
    assert_told(&texts, &["systems/books.yaml:", "no unique index on `no`"]);
    if database.kind == "sqlite" {
        assert_told(&texts, &["mappings/to-books.yaml:5:", "`amount`", "declare the column TEXT"]);
    } else {
        assert_told(&texts, &["mappings/to-books.yaml:5:", "4 digits", "decimal(2)"]);
        assert_told(&texts, &["mappings/to-books.yaml:4:", "40 characters", "maxLength: 10"]);
        assert_told(&texts, &["mappings/to-books.yaml:6:", "`pending` has 7 characters"]);
    }
    assert!(session.rows(&exists(database)).await.is_empty(), "looking leaves no inbox behind");

    // Columns by expressions: the mistake is where the column is named.
    let endpoint = "  rows:\n    table: orders\n    columns:\n      no: body.orderNo\n      amuont: body.amount\n      status: body.sattus\n      twice: body.seq\n      shop: '\"s\"'\n  gone:\n    table: ordres\n    columns: { no: body.orderNo }\n";
    place.write("systems/books.yaml", &database.writes("books", endpoint));
    place.write("orders.yaml", &routes(""));
    let texts = told(&place).await;
    let line = |word: &str| {
        let text = std::fs::read_to_string(place.root().join("systems/books.yaml")).expect("readable");
        let at = text.lines().position(|line| line.contains(word)).expect("a line");
        format!("systems/books.yaml:{}:", at + 1)
    };
    assert_told(&texts, &[&line("amuont"), "no column `amuont`", "`amount`"]);
    assert_told(&texts, &[&line("sattus"), "has no `sattus`", "`status`"]);
    assert_told(&texts, &[&line("twice: "), "is computed by the database"]);
    assert_told(&texts, &[&line("table: orders"), "`orders.amount`", "nothing is written into it"]);
    assert_told(&texts, &[&line("ordres"), "no table `ordres`", "`orders`"]);

    // Mended, it is silent.
    session.run("DROP TABLE orders").await;
    let unique = "no VARCHAR(40) PRIMARY KEY, amount DECIMAL(20,4) NOT NULL, status VARCHAR(9) NOT NULL, customer VARCHAR(40) NOT NULL";
    session
        .run(&format!(
            "CREATE TABLE orders ({})",
            database.by(&unique.replace("DECIMAL(20,4)", "TEXT"), unique, unique)
        ))
        .await;
    let mapping = MAPPING.replace("customr, from: customer", "customer, from: customer, type: string");
    let mapping: Vec<_> = mapping.lines().filter(|line| !line.contains("paid,")).collect();
    place.write("mappings/to-books.yaml", &mapping.join("\n"));
    place.write("orders.yaml", &routes(", map: to-books"));
    let endpoint = "  rows:\n    table: orders\n    mode: upsert\n    key: [no]\n";
    place.write("systems/books.yaml", &database.writes("books", endpoint));
    let texts: Vec<_> = told(&place).await.into_iter().filter(|text| !text.contains("`customer`")).collect();
    assert!(texts.is_empty(), "{}", texts.join("\n\n"));
}

/// Asks for the inbox table.
fn exists(database: &Database) -> String {
    match database.kind {
        "sqlite" => "SELECT name FROM sqlite_schema WHERE name = 'gatehouse_inbox'".to_owned(),
        "postgres" => "SELECT relname FROM pg_class WHERE relname = 'gatehouse_inbox'".to_owned(),
        _ => "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'gatehouse_inbox'"
            .to_owned(),
    }
}
