cdef class Page:
    cdef readonly object rows
    cdef double[::1] cells
