//! The server's side of one connection.

use std::io::{self, Read, Write};
use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use rustls::server::{Accepted, Acceptor};
use rustls::{
    CipherSuite as Suite, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection,
};

use crate::SUITES;

/// How far a connection has come.
enum Stage {
    /// The hello is not whole; with what may answer it.
    Hello(Box<Acceptor>, Arc<ServerConfig>, Arc<ServerConfig>),
    Connection(Box<ServerConnection>),
    /// It failed before there was a connection; with the alert that says so.
    Refused(Vec<u8>),
}

/// One connection: see `Engine` in `fairway_dataplane/tls/engine.py`.
#[pyclass(module = "fairway_dataplane.tls._rustls")]
pub struct Engine {
    stage: Stage,
    /// Whether the handshake is complete.
    #[pyo3(get)]
    opened: bool,
    /// Whether the peer has said that nothing more comes.
    #[pyo3(get)]
    ended: bool,
    /// Bytes of ciphertext that wait for `take`.
    #[pyo3(get)]
    unsent: usize,
}

impl Engine {
    pub fn new(ours_first: Arc<ServerConfig>, theirs_first: Arc<ServerConfig>) -> Self {
        Self {
            stage: Stage::Hello(Box::default(), ours_first, theirs_first),
            opened: false,
            ended: false,
            unsent: 0,
        }
    }

    /// Take ciphertext, and append the plaintext that it brings.
    fn advance(&mut self, mut data: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
        if data.is_empty() {
            return Ok(()); // rustls would take it for the end
        }
        while let Stage::Hello(acceptor, ours_first, theirs_first) = &mut self.stage {
            acceptor.read_tls(&mut data).map_err(unreadable)?;
            let made = match acceptor.accept() {
                Ok(None) if data.is_empty() => return Ok(()),
                Ok(None) => continue,
                Ok(Some(accepted)) => {
                    let chosen = if chacha_first(&accepted) {
                        theirs_first
                    } else {
                        ours_first
                    };
                    accepted.into_connection(chosen.clone())
                }
                Err(refused) => Err(refused),
            };
            match made {
                Ok(mut connection) => {
                    // Who writes hands over no more than is to be sent at once.
                    connection.set_buffer_limit(None);
                    self.stage = Stage::Connection(Box::new(connection));
                }
                Err((error, mut alert)) => {
                    let mut said = Vec::new();
                    alert.write_all(&mut said).map_err(unreadable)?;
                    self.unsent = said.len();
                    self.stage = Stage::Refused(said);
                    return Err(error);
                }
            }
        }
        let Stage::Connection(connection) = &mut self.stage else {
            return Ok(());
        };
        // Once in any case: bytes behind the hello may have come with it.
        loop {
            let state = connection.process_new_packets();
            self.unsent = match &state {
                Ok(state) => state.tls_bytes_to_write(),
                Err(_) => usize::from(connection.wants_write()),
            };
            let state = state?;
            let size = state.plaintext_bytes_to_read();
            if size > 0 {
                let before = plain.len();
                plain.resize(before + size, 0);
                connection
                    .reader()
                    .read_exact(&mut plain[before..])
                    .map_err(unreadable)?;
            }
            self.ended = state.peer_has_closed();
            if data.is_empty() || self.ended {
                break;
            }
            connection.read_tls(&mut data).map_err(unreadable)?;
        }
        self.opened = !connection.is_handshaking();
        Ok(())
    }
}

#[pymethods]
impl Engine {
    /// Take ciphertext and return the plaintext that it brings; raises ssl.SSLError.
    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut plain = Vec::new();
        with_bytes(data, |data| self.advance(data, &mut plain))?
            .map_err(|error| tls_error(py, &error.to_string()))?;
        Ok(PyBytes::new(py, &plain))
    }

    /// Encrypt plaintext, once opened; raises ssl.SSLError where there is no connection.
    fn send(&mut self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Stage::Connection(connection) = &mut self.stage else {
            return Err(tls_error(py, "there is no connection"));
        };
        with_bytes(data, |data| connection.writer().write_all(data))??;
        self.unsent = pending(connection);
        Ok(())
    }

    /// Return the ciphertext that is to be sent.
    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let size = std::mem::take(&mut self.unsent);
        match &mut self.stage {
            Stage::Hello(..) => Ok(PyBytes::new(py, b"")),
            Stage::Refused(alert) => Ok(PyBytes::new(py, &std::mem::take(alert))),
            Stage::Connection(connection) if connection.is_handshaking() || size < SMALL => {
                let mut taken = Vec::with_capacity(size);
                while connection.wants_write() {
                    connection.write_tls(&mut taken)?;
                }
                Ok(PyBytes::new(py, &taken))
            }
            Stage::Connection(connection) => PyBytes::new_with(py, size, |mut room| {
                while !room.is_empty() {
                    if connection.write_tls(&mut room)? == 0 {
                        return Err(tls_error(py, "there is less to send than was said"));
                    }
                }
                Ok(())
            }),
        }
    }

    /// Say that nothing more is sent (close_notify).
    fn close(&mut self) {
        if let Stage::Connection(connection) = &mut self.stage {
            connection.send_close_notify();
            self.unsent = pending(connection);
        }
    }

    /// `TLSv1.3` or `TLSv1.2`; empty before it is agreed on.
    #[getter]
    fn version(&self) -> &'static str {
        let Stage::Connection(connection) = &self.stage else {
            return "";
        };
        match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        }
    }

    /// Whether the handshake resumed a session.
    #[getter]
    fn resumed(&self) -> bool {
        match &self.stage {
            Stage::Connection(connection) => {
                connection.handshake_kind() == Some(HandshakeKind::Resumed)
            }
            _ => false,
        }
    }
}

/// Ciphertext below this is copied once more, which is cheaper than to ask how much it is.
const SMALL: usize = 4096;

/// Tell whether ChaCha20 is the first suite of the client that is one of ours.
fn chacha_first(accepted: &Accepted) -> bool {
    let hello = accepted.client_hello();
    let first = hello
        .cipher_suites()
        .iter()
        .find(|suite| SUITES.iter().any(|ours| ours.suite() == **suite));
    matches!(
        first,
        Some(
            Suite::TLS13_CHACHA20_POLY1305_SHA256
                | Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    )
}

fn pending(connection: &mut ServerConnection) -> usize {
    match connection.process_new_packets() {
        Ok(state) => state.tls_bytes_to_write(),
        Err(_) => usize::from(connection.wants_write()),
    }
}

/// Call with the bytes of a bytes object, or of any other that has them in one piece.
#[allow(unsafe_code)]
fn with_bytes<T>(data: &Bound<'_, PyAny>, call: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    if let Ok(data) = data.cast::<PyBytes>() {
        return Ok(call(data.as_bytes()));
    }
    let buffer = PyBuffer::<u8>::get(data)?;
    if !buffer.is_c_contiguous() {
        return Ok(call(&buffer.to_vec(data.py())?));
    }
    // SAFETY: the buffer is one piece of that many bytes for as long as it is held, and no
    // Python runs while `call` does, so that nobody writes into it.
    let bytes = unsafe {
        std::slice::from_raw_parts(
            buffer.buf_ptr().cast::<u8>().cast_const(),
            buffer.len_bytes(),
        )
    };
    Ok(call(bytes))
}

fn unreadable(error: io::Error) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

fn tls_error(py: Python<'_>, said: &str) -> PyErr {
    static SSL_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match SSL_ERROR.import(py, "ssl", "SSLError") {
        Ok(kind) => PyErr::from_type(kind.clone(), (1, said.to_owned())),
        Err(error) => error,
    }
}
