from fairway_dataplane.downstream.answering cimport AnswerSide
from fairway_dataplane.exchange cimport Exchange

cdef int BODY, CLOSED, HEAD, LINGER, QUEUED, TUNNEL, WAIT
cdef long long CHUNKED, NO_BODY
cdef double LOOK_SECONDS, NEVER


cdef class HttpConnection(AnswerSide):
    cpdef connection_made(self, transport)
    cpdef data_received(self, bytes data)
    cpdef eof_received(self)
    cpdef connection_lost(self, exc)
    cpdef expire(self, double now)
    cpdef close_idle(self)
    cpdef drain(self, double idle_until)
    cpdef cut(self)
    cpdef describe(self)
    cpdef _continue(self)
    cdef _finish_input(self)
    cdef _expect_answer(self, double now)
    cdef _gather(self, bytes data)
    cdef _check_partial(self, pending, Py_ssize_t seen)
    cdef _serve(self, bytes data)
    cdef _queue(self)
    cdef _hold(self, bytes data)
    cdef _keep(self, bytes data)
    cdef bytes _begin(self, bytes data, Py_ssize_t end)
    cdef bint _is_last(self)
    cdef bytes _shed(self, Exchange exchange)
    cdef bint _covers(self, Exchange exchange)
    cdef _expect_close(self)
    cdef _settle(self, Exchange exchange)
    cdef bytes _begin_body(self, Exchange exchange, bytes rest)
    cdef _read_body(self, bytes data)
    cdef _pass_body(self, Exchange exchange, list parts)
    cdef _end_body(self, Exchange exchange, bytes rest)
    cdef _crash(self, bug)
    cdef bint _body_is_late(self, double now)
    cdef _expect_progress(self, double now)
