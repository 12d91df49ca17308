from fairway_dataplane.exchange cimport Exchange

cdef long long NO_BODY


cdef class RepeatedLines:
    cdef bytes _authority, _block, _fields, _host
    cdef object _claims, _plain
    cdef Py_ssize_t _line_bytes

    cpdef bint read(self, bytes head, Exchange exchange)
    cpdef learn(self, bytes head, Exchange exchange)
