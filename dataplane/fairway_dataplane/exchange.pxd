cdef class Exchange:
    cdef public bytes method, authority, host, path, query, fields, forwarded, held_body
    cdef public bytes sent_path, trailers, response_trailers
    cdef public bytes server_name, request_id, upgrade, status_line, response_fields
    cdef public str client_address, endpoint, reason
    cdef public long long body_length, body_limit, bytes_in, bytes_out, head_bytes, response_length
    cdef public long attempts, status
    cdef public bint secure, keep_alive, accepts_chunked, request_complete, ends_here
    cdef public bint expects_continue, encoded_slash, body_sent, accepts_verbatim
    cdef public object claims, sink, route, backend, retry_codes, owner, upstream, tried
    cdef public object response_edit
    cdef public double sent_at, started, upstream_seconds

    cpdef bytes field(self, bytes name)


cdef class DirectResponse:
    cdef readonly long status
    cdef readonly bytes fields, body, content_type
