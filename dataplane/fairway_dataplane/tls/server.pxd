from fairway_dataplane.tls.layer cimport TlsLayer

cdef Py_ssize_t HELLO_LIMIT_BYTES, _HELD_LIMIT_BYTES


cdef class TlsServerProtocol(TlsLayer):
    cdef readonly bytes server_name
    cdef readonly str certificate
    cdef object _arrivals, _contexts, _handshakes, _made

    cpdef bint covers(self, bytes host)
    cdef _answer(self, hello, bytes data)
    cdef _alert(self, int description, str result)
