cimport cython

from fairway_dataplane.exchange cimport Exchange

cdef long long CHUNKED, NO_BODY
cdef bytes _MAY_BE_OWN
cdef int _UNDERSCORE


cdef class RequestReader:
    cdef object _feed, _limits
    cdef Py_ssize_t _headers, _line_bytes, _target_bytes
    cdef bint _complete, _has_options

    @cython.locals(line_end=cython.Py_ssize_t, block=bytes, lines=list)
    cpdef read(self, bytes head, Exchange exchange)
    cdef _apply_options(self, Exchange exchange, bytes block)
    cdef bint _takes_afresh(self, bytes head)
    cdef _renew(self)


cdef _read(Exchange exchange, bytes line, list lines)
cdef _read_line(Exchange exchange, bytes method, bytes version)
@cython.locals(kept=list, own=list, host=bytes)
cdef _read_fields(Exchange exchange, list lines)
@cython.locals(kept=list, own=list, line=bytes, name=bytes, colon=bytes, value=bytes)
cdef tuple _sort(list lines)
cdef bint _is_own(bytes name)
cdef _read_host(Exchange exchange, bytes host)
cdef _read_target(Exchange exchange, bytes target)
cdef bytes _read_odd_target(Exchange exchange, bytes target)
