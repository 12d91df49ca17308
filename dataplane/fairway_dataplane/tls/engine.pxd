cimport cython

cdef Py_ssize_t READ_BYTES


cdef class OpenSslEngine:
    cdef object _incoming, _outgoing
    cdef bint _partial
    cdef readonly object handle
    cdef readonly bint ended, opened, resumed
    cdef readonly str version

    @cython.locals(wanted=Py_ssize_t, more=Py_ssize_t)
    cpdef bytes receive(self, data)
    @cython.locals(size=Py_ssize_t, sent=Py_ssize_t)
    cpdef send(self, data)
    cpdef take(self)
    cpdef close(self)
