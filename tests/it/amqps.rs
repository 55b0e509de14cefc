//! The bus over TLS: a listener that proves itself by a CA of ours, one that does not, and two hosts of which one is
//! gone. The brokers of the tests speak plain AMQP; TLS ends in a proxy here.

use std::sync::Arc;

use gatehouse_bus::rabbitmq::{Config, RabbitMq};
use gatehouse_bus::{Bus, Health, Parcel, QueueSpec};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::broker::{Broker, LONG, TestBus, V40, V310};

const A: &str = "gatehouse.work.r.a";

/// A CA of a test's own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    pub(crate) fn file(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), self.pem()).expect("written");
        file
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server with a certificate that this CA signs.
    pub(crate) fn server(&self, params: &CertificateParams) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        Self::with(&certificate, &key)
    }

    /// A server with this certificate, whoever signed it.
    pub(crate) fn with(certificate: &rcgen::Certificate, key: &KeyPair) -> ServerConfig {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("fits")
    }

    /// A port where TLS ends before `address`; it goes with the test's runtime.
    async fn proxy(&self, address: String) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = TlsAcceptor::from(Arc::new(self.server(&named("localhost"))));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, address) = (acceptor.clone(), address.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let Ok(mut broker) = TcpStream::connect(address).await else { return };
                    let _ = copy_bidirectional(&mut stream, &mut broker).await;
                });
            }
        });
        port
    }
}

/// A certificate for this name.
pub(crate) fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).expect("parameters")
}

/// The first host is closed, the second speaks TLS: the bus is ready and carries.
async fn carried_over_tls(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let authority = Authority::new();
    let (ca, port) = (authority.file(), authority.proxy(broker.address()).await);
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let test = TestBus::with(broker, |config| {
        let url = |port: u16| format!("amqps://guest:guest@localhost:{port}/%2f");
        config.urls = vec![url(gone), url(port)];
        config.ca_file = Some(ca.path().to_owned());
    });
    let test = test.with_queues(&[(A, QueueSpec::default())]).await;
    test.bus.publish(A, Parcel { id: "1".to_owned(), ..Parcel::default() }, LONG).await.expect("confirmed");
    let mut consumer = test.bus.consume(A, 1).await.expect("consumes");
    let delivered = timeout(LONG, consumer.next()).await.expect("in time").expect("a delivery");
    assert_eq!(delivered.parcel.id, "1");
    delivered.settlement.done().await.expect("settled");
    drop(consumer);
    test.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v310_is_reached_over_tls() {
    carried_over_tls(&V310).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v40_is_reached_over_tls() {
    carried_over_tls(&V40).await;
}

/// No password goes to a listener that cannot prove itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_another_ca_vouches_for_is_not_trusted() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ca = ours.file();
    let port = theirs.proxy(listener.local_addr().expect("an address").to_string()).await;
    let mut config = Config::new(vec![format!("amqps://guest:guest@localhost:{port}/%2f")]);
    config.ca_file = Some(ca.path().to_owned());
    let bus = RabbitMq::connect(config).expect("the configuration is right");
    let mut health = bus.health();
    let down = timeout(LONG, health.wait_for(|health| matches!(health, Health::Down(_)))).await;
    let told = format!("{:?}", down.expect("told in time").expect("the bus lives").clone());
    assert!(told.to_lowercase().contains("certificate"), "{told}");
    assert!(timeout(std::time::Duration::from_millis(200), listener.accept()).await.is_err(), "it was let through");
    bus.close().await;
}
