from fairway_dataplane.clock cimport Clock
from fairway_dataplane.exchange cimport Exchange
from fairway_dataplane.upstream.health cimport Endpoint
from fairway_dataplane.upstream.repeated cimport RepeatedHead

cdef int INTERIM, LAST, SWITCHING
cdef int _CONNECTING, _IDLE, _HEAD, _COUNTED, _CHUNKED, _UNTIL_CLOSE, _TUNNEL, _CLOSED
cdef int _INTERIM_LIMIT
cdef long long CHUNKED, NO_BODY, UNTIL_CLOSE
cdef double LOOK_SECONDS, NEVER


cdef class BackendTask:
    cdef public double deadline
    cdef public long slot
    cdef readonly bint reused
    cdef readonly object _transport
    cdef object _decoder, _limits, _made, _write
    cdef bytes _held
    cdef Clock _clock
    cdef Endpoint _endpoint
    cdef Exchange _exchange
    cdef RepeatedHead _repeated
    cdef double _answer_seconds, _idle_seconds
    cdef long long _left
    cdef int _interims, _state
    cdef bint _last, _patient, _paused

    cpdef tell_when_made(self, made)
    cpdef send(self, Exchange exchange, bytes head, double answer_seconds, double idle_seconds)
    cpdef bint is_usable(self)
    cpdef keep(self)
    cpdef close(self)
    cpdef send_body(self, data)
    cpdef end_body(self)
    cpdef pause(self)
    cpdef resume(self)
    cpdef abort(self)
    cpdef connection_made(self, transport)
    cpdef data_received(self, bytes data)
    cpdef eof_received(self)
    cpdef connection_lost(self, exc)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef expire(self, double now)
    cdef _read_last_words(self)
    cdef _read_head(self, bytes data)
    cdef bint _read_known(self, bytes data, Exchange exchange)
    cdef _take_answer(self, Exchange exchange, bytes data)
    cdef _read_seldom_head(self, int answer, bytes data, Py_ssize_t head_bytes, Exchange exchange)
    cdef _read_counted(self, bytes data)
    cdef _read_chunks(self, bytes data)
    cdef _be_patient(self)
    cdef _touch(self)
    cdef _finish(self, Exchange exchange)
    cdef _let_go(self)
    cdef _fail(self, reason)
    cdef _crash(self, bug)
    cdef _retire(self)
    cdef _close(self)
