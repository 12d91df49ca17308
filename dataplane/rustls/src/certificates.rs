//! The certificates of one name, of which each client gets the first that it can take.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::SignatureAlgorithm;

/// Certificates in the order in which they are tried.
#[derive(Debug)]
pub struct Certified(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certified {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has taken out the schemes that no cipher suite of the client goes with.
        self.0
            .iter()
            .find(|one| one.key.choose_scheme(hello.signature_schemes()).is_some())
            .cloned()
    }
}

/// Load pairs of a chain and its key. The error is a sentence that shows no content.
pub fn certified(
    provider: &CryptoProvider,
    pairs: &[(Vec<u8>, Vec<u8>)],
) -> Result<Certified, String> {
    let mut loaded = Vec::with_capacity(pairs.len());
    for (chain, key) in pairs {
        loaded.push(Arc::new(load(provider, chain, key)?));
    }
    // A signature with RSA costs ten times as much.
    loaded.sort_by_key(|one| one.key.algorithm() == SignatureAlgorithm::RSA);
    Ok(Certified(loaded))
}

fn load(provider: &CryptoProvider, chain: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "the chain is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "the key is not PEM")?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| error.to_string())
}
