from fairway_dataplane.tls.layer cimport TlsLayer


cdef class TlsClientProtocol(TlsLayer):
    cdef object _context, _made, _server_name, _tell_failure
