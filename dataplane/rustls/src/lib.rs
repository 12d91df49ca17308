//! TLS towards clients by rustls: ciphertext in, plaintext out, and no I/O.
//!
//! What the Python side calls an engine (`fairway_dataplane/tls/engine.py`): one state machine
//! for each connection, driven by the layer that also drives OpenSSL's. Everything that a
//! connection may not decide is decided in a `ServerContext`. The one rule: whatever a peer
//! sends, an error is an `ssl.SSLError`, and the alert that tells the peer waits in `take`.

mod certificates;
mod connection;
mod tickets;

use std::sync::{Arc, LazyLock};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, SupportedCipherSuite};

use crate::certificates::{certified, Certified};
use crate::connection::Engine;
use crate::tickets::Tickets;

/// Ours, best first. AES-128 is what RFC 8446 section 9.1 demands of all, and SHA-256 is cheaper
/// in a handshake than SHA-384.
static SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: SUITES.to_vec(),
        ..aws_lc_rs::default_provider()
    })
});

/// What the connections of one certificate share.
#[pyclass(module = "fairway_dataplane.tls._rustls")]
struct ServerContext {
    ours_first: Arc<ServerConfig>,
    /// For clients that put ChaCha20 first, because they have no AES in hardware.
    theirs_first: Arc<ServerConfig>,
}

#[pymethods]
impl ServerContext {
    /// Take pairs of a chain and its key, both PEM, and what ALPN offers.
    ///
    /// Raises ValueError for what rustls does not serve; the message shows no content.
    #[new]
    fn new(pairs: Vec<(Vec<u8>, Vec<u8>)>, protocols: Vec<Vec<u8>>) -> PyResult<Self> {
        let resolver = certified(&PROVIDER, &pairs).map_err(PyValueError::new_err)?;
        let ours_first = config(resolver, protocols)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self::from(ours_first))
    }

    /// Encrypt tickets with these keys from now on: a name of 16 bytes, then at least 32 of key.
    fn use_ticket_keys(&mut self, keys: &[u8]) -> PyResult<()> {
        let tickets = Tickets::new(keys).ok_or_else(|| PyValueError::new_err("too short"))?;
        let mut ours_first = ServerConfig::clone(&self.ours_first);
        ours_first.ticketer = Arc::new(tickets);
        *self = Self::from(ours_first);
        Ok(())
    }

    /// Return the state machine of a new connection.
    fn engine(&self) -> Engine {
        Engine::new(self.ours_first.clone(), self.theirs_first.clone())
    }
}

impl From<ServerConfig> for ServerContext {
    fn from(ours_first: ServerConfig) -> Self {
        let mut theirs_first = ours_first.clone();
        theirs_first.ignore_client_order = false;
        Self {
            ours_first: Arc::new(ours_first),
            theirs_first: Arc::new(theirs_first),
        }
    }
}

fn config(resolver: Certified, protocols: Vec<Vec<u8>>) -> Result<ServerConfig, rustls::Error> {
    let mut made = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    made.alpn_protocols = protocols;
    made.ignore_client_order = true;
    // A session is its ticket: nothing is kept here.
    made.session_storage = Arc::new(NoServerSessionStorage {});
    // Each costs bytes and time in every full handshake; one is what a client uses.
    made.send_tls13_tickets = 1;
    Ok(made)
}

#[pymodule]
fn _rustls(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ServerContext>()?;
    module.add_class::<Engine>()
}
