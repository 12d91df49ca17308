from fairway_dataplane.clock cimport Clock

cdef Py_ssize_t JOIN_BYTES, WASTE_BYTES, WRITE_BYTES
cdef Py_ssize_t _HANDSHAKE_BYTES
cdef double NEVER
cdef double WASTE_BYTES_PER_SECOND


cdef class TlsLayer:
    cdef public double deadline
    cdef public long slot
    cdef readonly bint resumed
    cdef readonly str version
    cdef readonly object _transport
    cdef object _engine, _failure, _held, _inner, _limits
    cdef Clock _clock
    cdef double _stalled_seconds, _waste_since
    cdef Py_ssize_t _lazy, _unsent, _waste
    cdef bint _closing, _ended, _holding, _last, _open, _peer_closed, _pumping
    cdef bint _reading, _serves

    cpdef connection_made(self, transport)
    cpdef data_received(self, bytes data)
    cpdef eof_received(self)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef connection_lost(self, exc)
    cpdef expire(self, double now)
    cpdef write(self, data)
    cpdef writelines(self, parts)
    cpdef expect_close(self)
    cpdef write_eof(self)
    cpdef close(self)
    cpdef abort(self)
    cpdef bint is_closing(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef Py_ssize_t get_write_buffer_size(self)
    cpdef _pump(self)
    cpdef _release(self)
    cdef _arrive(self)
    cdef _begin(self, bytes data)
    cdef _connected(self)
    cdef _failed(self, str result, error)
    cdef _expire_in(self, double seconds)
    cdef _never_expire(self)
    cdef _complete(self, bytes plain)
    cdef _refuse(self, str result, error)
    cdef _feed(self, bytes data)
    cdef bytes _decrypt(self, data)
    cdef _forgive(self)
    cdef _hear_end(self)
    cdef _encrypt(self, data)
    cdef Py_ssize_t _waiting(self)
    cdef _hold(self)
    cdef _flush(self)
    cdef _say_goodbye(self)
    cdef _resume_socket(self)
    cdef _drop(self, Py_ssize_t size)
