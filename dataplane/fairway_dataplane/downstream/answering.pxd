from fairway_dataplane.clock cimport Clock
from fairway_dataplane.downstream.ids cimport RequestIds
from fairway_dataplane.downstream.repeated cimport RepeatedLines
from fairway_dataplane.exchange cimport DirectResponse, Exchange

cdef double NEVER
cdef long long NO_BODY


cdef class AnswerSide:
    cdef public double deadline
    cdef public long slot
    cdef readonly object _transport
    cdef object _limits, _listener, _proxy, _tally
    cdef object _decoder, _forward, _read, _tunnel, _write
    cdef str _address
    cdef bytes _authority, _forwarded, _server_name
    cdef bytearray _pending
    cdef Clock _clock
    cdef Exchange _exchange
    cdef RepeatedLines _repeated
    cdef RequestIds _ids
    cdef double _born, _ends_at, _last_at, _rate_since, _read_at
    cdef long long _head_bytes, _last_request, _left, _rate_bytes, _requests, _unsent
    cdef long long _answered
    cdef int _state
    cdef bint _body_wanted, _chunked, _reading_paused, _secure, _serving, _started, _trusted
    cdef bint _half_closed, _write_paused

    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef interim(self, Exchange exchange, bytes status_line, bytes fields)
    cpdef wants_body(self)
    cpdef pause(self)
    cpdef resume(self)
    cpdef start(self, Exchange exchange, bytes data)
    cpdef body(self, data)
    cpdef end(self)
    cpdef respond(self, Exchange exchange, DirectResponse response)
    cpdef fail(self, error)
    cpdef switch(self, Exchange exchange, bytes data)
    cdef _start_changed(self, Exchange exchange, bytes data)
    cdef bytes _connection(self, Exchange exchange)
    cdef _go_on(self, Exchange exchange)
    cdef _over(self, Exchange exchange)
    cdef _refuse(self, reason, head)
    cdef _end_exchange(self, reason)
    cdef _linger(self)
    cdef _close(self)
    cdef _abort(self)
    cdef _reset(self)
    cdef _pause_reading(self)
    cdef _resume_reading(self)
    cdef _set_deadline(self)
    cpdef bint is_idle(self)
    cpdef bint is_asking(self)
    cdef _queue(self)
