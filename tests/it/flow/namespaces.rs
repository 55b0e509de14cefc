//! XML whose local names are not enough, in and out: a finance system's invoice with two amounts becomes an order, and
//! an order becomes another system's XML with two vocabularies.

use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml;
use http::Method;

use crate::harness::{KEY, Peer, Place, until};

const ROUTES: &str = "version: 1
routes:
  - { route: orders, from: shop/orders, map: invoice-in, type: order.paid, to: [{ target: tax/put, map: order-to-tax }] }
";

const IN: &str = "version: 1
mapping: invoice-in
to: order.paid
namespaces: { inv: \"urn:example:invoice:2\", tax: \"urn:example:tax\" }
rows:
  - { to: orderNo, from: \"inv:Header.No\", required: true }
  - { to: customer, from: \"inv:Header.Buyer\", type: string, example: [\"C-1\", \"C-1\"] }
  - { to: status, default: paid }
  - { to: amount, from: \"Header.tax:Amount\", type: decimal(2), required: true }
";

const OUT: &str = "version: 1
mapping: order-to-tax
namespaces: { t: \"urn:example:tax\" }
rows:
  - { to: \"@version\", default: \"2\" }
  - { to: No, from: orderNo }
  - { to: \"t:Amount.@t:kind\", default: vat }
  - { to: \"t:Amount.#text\", from: amount, type: string }
";

fn invoice(number: &str) -> String {
    format!(
        "<b:Invoice xmlns:b=\"urn:example:invoice:2\" xmlns:v=\"urn:example:tax\"><b:Header><b:No>{number}</b:No><b:Buyer>客户</b:Buyer><b:Amount>1000000.00</b:Amount><v:Amount>12345678901234567.89</v:Amount></b:Header></b:Invoice>"
    )
}

fn site(peer: &Peer) -> Place {
    let tax = format!(
        "version: 1\nsystem: tax\nadapter: rest\naddress: http://{}\nendpoints:\n  put: {{ call: POST /orders, send: xml, element: Declaration }}\n",
        peer.address
    );
    Place::new(&[
        ("orders.yaml", ROUTES),
        ("mappings/invoice-in.yaml", IN),
        ("mappings/order-to-tax.yaml", OUT),
        ("systems/tax.yaml", &tax),
        ("samples/invoice.xml", &invoice("S-1")),
        (
            "tests/orders.yaml",
            "version: 1\ntests:\n  - test: the tax is the amount\n    route: orders\n    file: samples/invoice.xml\n    message: '{\"orderNo\":\"S-1\",\"amount\":12345678901234567.89}'\n    targets: { tax/put: '{\"No\":\"S-1\",\"{urn:example:tax}Amount\":{\"#text\":\"12345678901234567.89\"}}' }\n",
        ),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invoice_of_two_vocabularies_becomes_an_order_and_a_declaration() {
    let tax = Peer::start().await;
    let place = site(&tax);
    // The shop's id stands in the body, by its local name.
    let shop = crate::harness::SHOP.replace("id: body orderNo", "id: body Header.No");
    place.write("systems/shop.yaml", &shop);
    let running = place.start().await;
    let headers = [("x-api-key", KEY), ("content-type", "application/xml")];
    let answer = running.send(Method::POST, "/hooks/orders", &headers, invoice("I-1")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    // The other amount alone is not the tax.
    let without = invoice("I-2").replace("v:Amount", "b:Other");
    let refused = running.send(Method::POST, "/hooks/orders", &headers, without).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.text.contains("`Header.tax:Amount`"), "the row as it is written: {refused:?}");
    until("the declaration", async || tax.took().len() == 1).await;
    let got = tax.took().remove(0);
    let declaration = xml::decode(got.body.as_bytes(), None, &BodyLimits::default()).expect("XML");
    assert!(declaration.name.is(None, "Declaration"), "{got:?}");
    assert_eq!(declaration.child_in(None, "No").expect("a number").text(), "I-1");
    let amount = declaration.child_in(Some("urn:example:tax"), "Amount").expect("an amount");
    assert_eq!(amount.text(), "12345678901234567.89");
    assert_eq!(amount.attribute(Some("urn:example:tax"), "kind"), Some("vat"));
    running.drained().await;
    running.gateway.stop().await;
}

#[tokio::test]
async fn the_sites_own_tests_see_namespaces_too() {
    let tax = Peer::start().await;
    let place = site(&tax);
    let (site, problems) = place.check();
    let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
    let site = site.unwrap_or_else(|| panic!("{}", told.join("\n")));
    let outcomes: Vec<_> = site.tests.iter().map(|test| test.run(&site.systems)).collect();
    assert_eq!(outcomes.len(), 1);
    assert!(outcomes[0].failures.is_empty(), "{:?}", outcomes[0].failures);
}

#[tokio::test]
async fn a_mapping_with_prefixes_stands_only_where_there_are_namespaces() {
    let tax = Peer::start().await;
    let place = site(&tax);
    place.write(
        "orders.yaml",
        "version: 1\nroutes:\n  - { route: orders, from: shop/orders, map: order-to-tax, type: order.paid, to: [{ target: tax/put, map: invoice-in }] }\n",
    );
    let (site, problems) = place.check();
    assert!(site.is_none());
    let told: Vec<_> =
        problems.sorted().into_iter().filter(|p| p.code == "namespace").map(|p| (p.place(), p.help)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|(place, help)| place.starts_with("orders.yaml:3:") && help.is_some()), "{told:?}");
}
