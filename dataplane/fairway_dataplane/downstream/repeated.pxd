cimport cython

from fairway_dataplane.exchange cimport Exchange

cdef int _SLASH
cdef long long NO_BODY


cdef class RepeatedLines:
    cdef bytes _authority, _block, _fields, _host
    cdef object _claims, _plain
    cdef Py_ssize_t _line_bytes

    cpdef bint read(self, bytes head, Exchange exchange)
    @cython.locals(line_end=cython.Py_ssize_t)
    cpdef learn(self, bytes head, Exchange exchange)
