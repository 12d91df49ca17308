from fairway_dataplane.exchange cimport Exchange

cdef long long CHUNKED, NO_BODY, UNTIL_CLOSE


cpdef bint read_ordinary(bytes data, Exchange exchange, limits)
cpdef int read_answer(bytes data, Py_ssize_t end, Exchange exchange, limits)
