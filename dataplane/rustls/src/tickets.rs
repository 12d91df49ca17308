//! Session tickets under keys that all workers of a data plane share.

use aws_lc_rs::aead::{Aad, Nonce, RandomizedNonceKey, AES_256_GCM, NONCE_LEN};
use rustls::server::ProducesTickets;

const NAME_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// In seconds, as OpenSSL has it by default.
const LIFETIME: u32 = 7200;

/// One key, and the name by which a ticket tells that it is meant.
///
/// A nonce is drawn for each ticket: with 96 bits, and a key of eight hours, a repetition is
/// unlikely below 2^32 tickets (NIST SP 800-38D section 8.3).
#[derive(Debug)]
pub struct Tickets {
    name: [u8; NAME_BYTES],
    key: RandomizedNonceKey,
}

impl Tickets {
    /// Take a name and a key, one behind the other; None if they are too short.
    pub fn new(keys: &[u8]) -> Option<Self> {
        let (name, rest) = keys.split_first_chunk()?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, rest.get(..KEY_BYTES)?).ok()?;
        Some(Self { name: *name, key })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(&self.name), &mut sealed)
            .ok()?;
        Some([&self.name, nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let rest = ticket.strip_prefix(&self.name)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut opened = sealed.to_vec();
        let size = self
            .key
            .open_in_place(Nonce::from(nonce), Aad::from(&self.name), &mut opened)
            .ok()?
            .len();
        opened.truncate(size);
        Some(opened)
    }
}
