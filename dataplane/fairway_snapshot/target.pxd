cpdef bint has_encoded_slash(bytes path)
cpdef bytes without_parameters(bytes path)
cpdef bytes normalize_host(bytes raw)
