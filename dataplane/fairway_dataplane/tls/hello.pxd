cimport cython

cdef int _APPLICATION_PROTOCOLS, _CLIENT_HELLO, _HANDSHAKE_RECORD, _MAJOR_VERSION, _SERVER_NAME
cdef Py_ssize_t _RECORD_LIMIT_BYTES, _REMEMBERED_BYTES

@cython.locals(size=Py_ssize_t, low=Py_ssize_t)
cpdef read_hello(bytes data)
cdef _read(bytes data, Py_ssize_t start, Py_ssize_t stop)
@cython.locals(at=Py_ssize_t, kind=int, size=Py_ssize_t)
cdef _read_extensions(bytes data, Py_ssize_t start, Py_ssize_t stop)
