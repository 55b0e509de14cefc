//! Bodies that go through as they came: routed on a value in them, and not changed by a byte.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::broker::{Broker, on_both_brokers};
use crate::harness::{Answer, GATEWAY, KEY, Peer, Place, Running, until};

const SHOP: &str = "version: 1
system: shop
adapter: rest
accept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }
limits: { body: 4MiB, timeout: 20s }
endpoints:
  orders: { receive: POST /hooks/orders, meta: [SOAPAction] }
  scans: { receive: \"POST /hooks/scans/{where}\" }
";

const ROUTES: &str = "version: 1
routes:
  - route: by-value
    from: shop/orders
    exchange: request
    pass_through: true
    key: Body.order.no
    to:
      - { target: east/put, when: '(Body.order?.route ?? \"\") == \"east\" && Body.order.lines[1].qty == \"2\"' }
      - { target: west/put, when: '(Body.order?.route ?? \"west\") == \"west\"' }
  - route: by-path
    from: shop/scans
    exchange: request
    pass_through: true
    to:
      - { target: east/put, when: meta.where == \"east\" }
      - { target: west/put }
";

fn system(name: &str, peer: &Peer) -> String {
    format!(
        "version: 1\nsystem: {name}\nadapter: rest\naddress: http://{}\nlimits: {{ body: 4MiB }}\nendpoints:\n  \
         put: {{ call: POST /orders, headers: {{ SOAPAction: 'meta?.soapaction', X-Key: message.key }} }}\n",
        peer.address
    )
}

/// Prefixes, comments, CDATA and white space that nobody would write again so.
fn envelope(route: &str) -> String {
    format!(
        "<?xml version='1.0'  encoding=\"utf-8\"?>\r\n<S:Envelope xmlns:S='http://schemas.xmlsoap.org/soap/envelope/'><S:Body>\
         <o:order xmlns:o=\"urn:o\" ><no>订单-1</no><lines><qty>1</qty></lines><!-- two --><lines><qty>2</qty ></lines>\
         <note><![CDATA[<&>]]></note>{route}</o:order></S:Body></S:Envelope  >\n"
    )
}

struct World {
    east: Peer,
    west: Peer,
    running: Running,
    _place: Place,
}

async fn world(gateway: &str, secret: &str) -> World {
    let (east, west) = (Peer::start().await, Peer::start().await);
    let place = Place::new(&[
        ("gatehouse.yaml", gateway),
        ("amqp.secret", secret),
        ("orders.yaml", ROUTES),
        ("systems/shop.yaml", SHOP),
        ("systems/east.yaml", &system("east", &east)),
        ("systems/west.yaml", &system("west", &west)),
    ]);
    let running = place.start().await;
    until("the scans' path", async || running.send(Method::GET, "/hooks/scans/x", &[], "").await.status != 404).await;
    World { east, west, running, _place: place }
}

impl World {
    async fn post(&self, media: &str, body: impl Into<Bytes>) -> Answer {
        let headers = [("x-api-key", KEY), ("content-type", media), ("soapaction", "\"urn:o#put\"")];
        self.running.send(Method::POST, "/hooks/orders", &headers, body).await
    }

    fn sent(&self) -> (usize, usize) {
        (self.east.got().len(), self.west.got().len())
    }
}

async fn through(world: World) {
    let World { east, west, .. } = &world;
    // To the east, and back as the east says it, byte by byte.
    let said = "<reply  a='1'><!-- 好 --></reply>\n";
    east.behave(move |_| (Duration::ZERO, 201, said.to_owned()));
    let body = envelope("<o:route>east</o:route>");
    let answer = world.post("text/xml; charset=utf-8", body.clone()).await;
    assert_eq!((answer.status, answer.text.as_str()), (201, said));
    assert_eq!(answer.header("content-type"), "text/xml; charset=utf-8");
    assert!(!answer.header("gatehouse-message-id").is_empty());
    let got = east.got();
    assert_eq!(got[0].body, body, "not a byte is changed");
    assert_eq!(got[0].action.as_deref(), Some("\"urn:o#put\""));
    // A fault with 500 is an answer; without a route it goes west; GBK stays GBK.
    let fault = "<f:Fault xmlns:f='urn:f'>库存不足</f:Fault>";
    west.behave(move |_| (Duration::ZERO, 500, fault.to_owned()));
    let gbk = gatehouse_core::charset::encode(&envelope(""), "gbk").expect("GBK has it");
    let answer = world.post("text/xml; charset=gbk", gbk.clone()).await;
    assert_eq!((answer.status, answer.text.as_str()), (500, fault));
    assert_eq!(west.got()[0].body, String::from_utf8_lossy(&gbk));
    // JSON is looked through as well.
    let json = "{ \"Body\" : {\"order\":{\"no\":1.50,\"route\":\"west\" , \"x\":[]}}}";
    west.behave(|_| (Duration::ZERO, 200, "[ ]".to_owned()));
    let answer = world.post("application/json", json).await;
    assert_eq!((answer.status, answer.text.as_str(), west.got()[1].body.as_str()), (200, "[ ]", json));
    assert_eq!(world.sent(), (1, 2));
    // What is read on the way is whole and well-formed; what no target wants is told.
    for (media, body, status, code) in [
        ("text/xml", body.replace("</no>", "</nr>"), 400, "malformed"),
        ("text/xml", body[..body.len() - 20].to_owned(), 400, "malformed"),
        ("text/xml", envelope("<o:route>north</o:route>"), 422, "unrouted"),
        ("text/xml", "<S/>".to_owned(), 422, "invalid"),
        ("text/plain", "east".to_owned(), 415, "unsupported-media"),
    ] {
        let answer = world.post(media, body).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{answer:?}");
    }
    assert_eq!(world.sent(), (1, 2), "nothing of these was sent");
    // Nobody answered: that is told, and not passed off as an answer.
    east.behave(|_| (Duration::ZERO, 503, "<busy/>".to_owned()));
    let answer = world.post("text/xml", envelope("<o:route>east</o:route>")).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (502, Some("bad-answer")), "{answer:?}");
    // A body that no condition asks for is not looked at, and may be anything.
    east.behave(|_| (Duration::ZERO, 200, "{}".to_owned()));
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    for (place, headers) in
        [("east", &[("x-api-key", KEY)][..]), ("north", &[("x-api-key", KEY), ("content-type", "image/png")])]
    {
        let path = format!("/hooks/scans/{place}");
        let answer = world.running.send(Method::POST, &path, headers, bytes.clone()).await;
        assert_eq!(
            (answer.status, world.running.letters(gatehouse_store::State::Open).await.len()),
            (200, 0),
            "{answer:?}"
        );
    }
    let sent = String::from_utf8_lossy(&bytes).into_owned();
    assert!(
        east.got().last().is_some_and(|got| got.body == sent) && west.got().last().is_some_and(|got| got.body == sent)
    );
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_goes_where_a_value_at_its_end_says_and_stays_as_it_is() {
    through(world(GATEWAY, "").await).await;
}

async fn a_body_goes_over_the_broker_as_it_is(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let bus = format!("bus: {{ urls: [\"${{file:amqp.secret}}\"], prefix: pass{} }}\n", uuid::Uuid::now_v7().simple());
    through(world(&format!("{GATEWAY}{bus}"), &broker.url()).await).await;
}

on_both_brokers!(a_body_goes_over_the_broker_as_it_is);

/// `gatehouse test` and `gatehouse try`, where only what comes beside the body decides.
#[test]
fn it_is_tried_and_tested_without_sending_anything() {
    let put = |name: &str| {
        format!(
            "version: 1\nsystem: {name}\nadapter: rest\naddress: http://127.0.0.1:1\nendpoints:\n  put: {{ call: POST / }}\n"
        )
    };
    let place = Place::new(&[
        ("orders.yaml", ROUTES),
        ("systems/shop.yaml", SHOP),
        ("systems/east.yaml", &put("east")),
        ("systems/west.yaml", &put("west")),
        ("a.xml", &envelope("<o:route>east</o:route>")),
        (
            "tests/pass.yaml",
            "version: 1\ntests:\n  - { test: by a value, route: by-value, file: a.xml, targets: { east/put: '{\"Body\":{\"order\":{\"no\":\"订单-1\"}}}' } }\n  \
             - { test: by a path, route: by-path, body: '[1]', meta: { where: north }, targets: { west/put: '[1]' } }\n  \
             - { test: wrong, route: by-path, body: '[1]', meta: { where: east }, targets: { west/put: '[1]' } }\n",
        ),
    ]);
    let site = place.check().0.expect("a sound site");
    let failures: Vec<_> = site.tests.iter().map(|test| test.run(&site.systems).failures.len()).collect();
    assert_eq!(failures, [0, 0, 2], "the third is wrong twice: who gets it, and who does not");
    let root = place.root().to_str().expect("a path");
    let file = place.root().join("a.xml");
    let tried = |more: &[&str]| {
        let line = ["gatehouse", "try", "by-path", file.to_str().expect("a path"), "--site", root];
        format!("{:?}", gatehouse::cli::run_line(line.iter().chain(more).map(Into::into)))
    };
    let well = format!("{:?}", std::process::ExitCode::SUCCESS);
    assert_eq!(tried(&["--meta", "where=east"]), well);
    assert_ne!(tried(&[]), well, "a condition asks for what is not there");
}

#[test]
fn what_does_not_go_with_it_is_told() {
    let place = Place::new(&[
        (
            "orders.yaml",
            "version: 1\nroutes:\n  - route: a\n    from: shop/orders\n    pass_through: true\n    type: order.paid\n    to:\n      \
             - { target: crm/put }\n      - { target: crm/put }\n  - route: b\n    from: shop/orders\n    to: [{ target: crm/put }]\n",
        ),
        (
            "systems/crm.yaml",
            "version: 1\nsystem: crm\nadapter: rest\naddress: http://127.0.0.1:1\nendpoints:\n  put: { call: POST / }\n",
        ),
        (
            "systems/db.yaml",
            "version: 1\nsystem: db\nadapter: sql\ndatabase: sqlite\naddress: x.db\nendpoints:\n  t: { table: t, mode: insert, columns: { a: body.a } }\n",
        ),
        (
            "more.yaml",
            "version: 1\nroutes:\n  - route: c\n    from: shop/orders\n    exchange: request\n    pass_through: true\n    to: [{ target: crm/put }, { target: db/t, when: a == 1 }]\n",
        ),
    ]);
    let (site, problems) = place.check();
    assert!(site.is_none());
    let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
    let told = told.join("\n");
    for part in [
        "add `exchange: request`",
        "`type` shapes or judges a body",
        "a route needs `type`",
        "`db/t` is never asked",
        "no body can go through `db/t` as it came",
    ] {
        assert!(told.contains(part), "{part} in:\n{told}");
    }
}
