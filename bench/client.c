/*
 * The load that wrk cannot make: a constant rate, one connection for each
 * request, WebSockets, idle connections; and the WebSocket backend.
 *
 * One thread and one epoll. Every byte of every answer is compared. Latency in
 * `rate` counts from the moment a request was due, not from when it could be
 * sent, so that a proxy that stalls does not choose what is measured.
 *
 *   client rate  port=  tls= name= connections= seconds= requests= answer= fill= rate=
 *   client close port=  tls= name= connections= seconds= requests= answer= fill= resume=
 *   client echo  port=  connections= seconds= requests=
 *   client idle  port=  tls= name= connections= requests= answer= fill=
 *   client serve port=
 *
 * `requests` names a file: 4 bytes of length, big endian, and a request, again
 * and again. They are sent in turn. One line of JSON tells the result.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, MESSAGE = 128, FRAME = MESSAGE + 8, IDLE_AT_ONCE = 64 };

#define SECOND 1000000000ull

/* The example of RFC 6455, section 1.3: with a fixed key nobody needs SHA-1. */
#define WEBSOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WEBSOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum mode { RATE, CLOSE, ECHO, IDLE };
enum state { DOWN, CONNECTING, HANDSHAKE, FREE, ASKED, ANSWERED };

struct request {
    const unsigned char *data;
    size_t length;
};

struct connection {
    int fd;
    SSL *ssl;
    SSL_SESSION *session;
    enum state state;
    const unsigned char *out; /* what is still to be written */
    size_t out_length;
    uint64_t due;        /* when the request in flight should have been sent */
    unsigned char *head; /* the answer's head so far, or a part of a frame */
    size_t head_length;
    long body_left; /* -1 while the head is read */
    bool closing;   /* the answer said so */
    bool open;      /* WebSocket: the handshake is done */
    uint64_t count; /* messages or requests so far */
    unsigned char frame[FRAME];
};

static struct {
    enum mode mode;
    int port, connections, resume, tls;
    double seconds, rate;
    const char *name;
    long answer;
    char fill;
} want = {.connections = 1, .seconds = 1, .rate = 1, .name = "bench.example", .fill = 'x'};

static struct request *requests;
static size_t request_count, request_next;
static struct connection *all;
static SSL_CTX *tls;
static int poll_fd, timer_fd;
static unsigned char buffer[BUFFER], expected[BUFFER];

static uint32_t *latencies;
static size_t latency_count, latency_room;
static uint64_t completed, errors, full_handshakes, resumed_handshakes;
static uint64_t started, ends;
static char first_error[160];

/* Requests that are due and wait for a connection; connections that wait for a request. */
static uint64_t *waiting;
static size_t waiting_head, waiting_tail, waiting_room;
static struct connection **idle;
static size_t idle_head, idle_tail, idle_room;

static void fail(const char *what) {
    perror(what);
    exit(2);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void *room(size_t count, size_t size) {
    void *found = calloc(count ? count : 1, size);
    if (!found) fail("calloc");
    return found;
}

static void note_latency(uint64_t since) {
    completed++;
    if (latency_count < latency_room) latencies[latency_count++] = (uint32_t)((now() - since) / 1000);
}

static void note_error(const char *what) {
    errors++;
    if (!first_error[0]) snprintf(first_error, sizeof first_error, "%s (errno %d)", what, errno);
}

static void watch(struct connection *c, bool writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &event)) fail("epoll_ctl");
}

/* Both return the bytes moved, 0 at the end, -1 for later, -2 for an error. */

static long outcome(struct connection *c, int result) {
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ: return -1;
    case SSL_ERROR_WANT_WRITE: watch(c, true); return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default: ERR_clear_error(); return -2;
    }
}

static long take(struct connection *c, void *into, size_t length) {
    if (c->ssl) {
        int got = SSL_read(c->ssl, into, (int)length);
        return got > 0 ? got : outcome(c, got);
    }
    ssize_t got = read(c->fd, into, length);
    return got >= 0 ? got : errno == EAGAIN ? -1 : -2;
}

static long give(struct connection *c, const void *from, size_t length) {
    if (c->ssl) {
        int put = SSL_write(c->ssl, from, (int)length);
        return put > 0 ? put : outcome(c, put);
    }
    ssize_t put = write(c->fd, from, length);
    return put >= 0 ? put : errno == EAGAIN ? -1 : -2;
}

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    struct connection *c = SSL_get_app_data(ssl);
    if (c->session) SSL_SESSION_free(c->session);
    c->session = session; /* ours now */
    return 1;
}

static void dial(struct connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)want.port)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->head_length = c->out_length = 0;
    c->body_left = -1;
    c->closing = c->open = false;
    c->state = CONNECTING;
    if (want.mode == CLOSE) c->due = now();
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) fail("connect");
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
}

static void hang_up(struct connection *c) {
    if (c->ssl) {
        if (c->state != HANDSHAKE) SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    close(c->fd);
    c->fd = -1;
    c->state = DOWN;
}

static void broken(struct connection *c, const char *what) {
    note_error(what);
    hang_up(c);
    if (want.mode != IDLE && now() < ends && errors < 1000) dial(c);
}

static void push(struct connection *c) {
    while (c->out_length) {
        long put = give(c, c->out, c->out_length);
        if (put == -1) {
            watch(c, true);
            return;
        }
        if (put <= 0) {
            broken(c, "the request was not taken");
            return;
        }
        c->out += put;
        c->out_length -= (size_t)put;
    }
}

static void send_request(struct connection *c, uint64_t due) {
    const struct request *r = &requests[request_next++ % request_count];
    c->due = due;
    c->state = ASKED;
    c->body_left = -1;
    c->out = r->data;
    c->out_length = r->length;
    push(c);
}

static void send_message(struct connection *c) {
    static const unsigned char start[8] = {0x82, 0x80 | 126, 0, MESSAGE, 0x11, 0x22, 0x33, 0x44};
    memcpy(c->frame, start, sizeof start);
    memset(c->frame + 8, (int)('a' + c->count % 26), MESSAGE);
    memcpy(c->frame + 8, &c->count, sizeof c->count);
    for (int i = 0; i < MESSAGE; i++) c->frame[8 + i] ^= c->frame[4 + i % 4];
    c->due = now();
    c->out = c->frame;
    c->out_length = FRAME;
    push(c);
}

/* A connection is ready for a request. */
static void ready(struct connection *c) {
    c->state = FREE;
    if (want.mode == RATE) {
        if (waiting_head != waiting_tail)
            send_request(c, waiting[waiting_head++ % waiting_room]);
        else
            idle[idle_tail++ % idle_room] = c;
    } else if (want.mode == CLOSE) {
        send_request(c, c->due);
    } else {
        send_request(c, now());
    }
}

static void shake(struct connection *c) {
    int result = SSL_connect(c->ssl);
    if (result == 1) {
        watch(c, false);
        if (SSL_session_reused(c->ssl))
            resumed_handshakes++;
        else
            full_handshakes++;
        /* The first of each connection has nothing to resume. */
        if (want.mode == CLOSE && c->count && SSL_session_reused(c->ssl) != want.resume)
            note_error(want.resume ? "not resumed" : "resumed");
        c->count++;
        ready(c);
        return;
    }
    if (outcome(c, result) != -1) broken(c, "the handshake failed");
}

static void connected(struct connection *c) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        errno = error;
        broken(c, "no connection");
        return;
    }
    watch(c, false);
    if (!tls) {
        ready(c);
        return;
    }
    c->ssl = SSL_new(tls);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_app_data(c->ssl, c);
    SSL_set_tlsext_host_name(c->ssl, want.name);
    if (want.resume && c->session) SSL_set_session(c->ssl, c->session);
    c->state = HANDSHAKE;
    shake(c);
}

/* An answer is complete and right. */
static void answered(struct connection *c) {
    note_latency(c->due);
    if (want.mode == CLOSE) {
        c->state = ANSWERED; /* the proxy hangs up */
    } else if (c->closing) {
        hang_up(c);
        dial(c);
    } else if (want.mode == RATE) {
        ready(c);
    } else {
        c->state = FREE;
    }
}

static const char *field(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':')
            return line + 3 + length + strspn(line + 3 + length, " \t");
    return NULL;
}

/* Return how much of the data belongs to the head, -1 for a bad one; body_left is -1 until its end. */
static long read_head(struct connection *c, const unsigned char *data, size_t length) {
    size_t before = c->head_length, take_ = length;
    if (take_ > 16383 - before) take_ = 16383 - before;
    memcpy(c->head + before, data, take_);
    c->head[before + take_] = 0;
    char *end = strstr((char *)c->head, "\r\n\r\n");
    if (!end) {
        c->head_length += take_;
        return take_ < length ? -1 : (long)take_;
    }
    long used = end + 4 - (char *)c->head - (long)before;
    end[2] = 0;
    c->head_length = 0;
    const char *head = (char *)c->head;
    if (want.mode == ECHO) {
        const char *accept = field(head, "sec-websocket-accept");
        c->open = true;
        c->body_left = 0;
        bool right = accept && !strncmp(accept, WEBSOCKET_ACCEPT, strlen(WEBSOCKET_ACCEPT));
        return right && !strncmp(head, "HTTP/1.1 101", 12) ? used : -1;
    }
    const char *size = field(head, "content-length"), *way = field(head, "connection");
    if (strncmp(head, "HTTP/1.1 200", 12) || !size) return -1;
    c->closing = way && !strncasecmp(way, "close", 5);
    c->body_left = atol(size);
    return c->body_left == want.answer ? used : -1;
}

static bool received(struct connection *c, const unsigned char *data, size_t length) {
    if (c->state != ASKED) return false;
    if (c->body_left < 0) {
        long used = read_head(c, data, length);
        if (used < 0) return false;
        data += used;
        length -= (size_t)used;
        if (c->body_left < 0) return true;
    }
    if ((long)length > c->body_left || memcmp(data, expected, length) != 0) return false;
    c->body_left -= (long)length;
    if (c->body_left == 0) answered(c);
    return true;
}

static bool received_frames(struct connection *c, const unsigned char *data, size_t length) {
    if (!c->open) {
        long used = read_head(c, data, length);
        if (used < 0 || (size_t)used != length) return false;
        if (c->open) send_message(c);
        return true;
    }
    if (c->head_length + length > MESSAGE + 4) return false;
    memcpy(c->head + c->head_length, data, length);
    c->head_length += length;
    if (c->head_length < MESSAGE + 4) return true;
    static const unsigned char start[4] = {0x82, 126, 0, MESSAGE};
    if (memcmp(c->head, start, 4) != 0) return false;
    for (int i = 0; i < MESSAGE; i++)
        if (c->head[4 + i] != (c->frame[8 + i] ^ c->frame[4 + i % 4])) return false;
    c->head_length = 0;
    note_latency(c->due);
    c->count++;
    if (now() < ends) send_message(c);
    return true;
}

static void pull(struct connection *c) {
    for (;;) {
        long got = take(c, buffer, sizeof buffer);
        if (got == -1) return;
        if (got <= 0 && c->state == ANSWERED) {
            hang_up(c);
            if (now() < ends) dial(c);
            return;
        }
        if (got <= 0 && c->state == FREE && want.mode == RATE) {
            /* Idle ones may be closed; it is no longer in the queue when it is there again. */
            for (size_t i = idle_head; i != idle_tail; i++)
                if (idle[i % idle_room] == c) {
                    idle[i % idle_room] = idle[idle_head % idle_room];
                    idle_head++;
                    break;
                }
            hang_up(c);
            dial(c);
            return;
        }
        if (got <= 0) {
            broken(c, "closed before the answer's end");
            return;
        }
        int before = c->fd;
        bool right = want.mode == ECHO ? received_frames(c, buffer, (size_t)got)
                                       : received(c, buffer, (size_t)got);
        if (!right) {
            broken(c, "a wrong answer");
            return;
        }
        if (c->fd != before || c->state == CONNECTING || c->state == DOWN) return;
        if (!c->ssl && (size_t)got < sizeof buffer) return;
    }
}

static void on_event(struct connection *c, uint32_t events) {
    if (c->state == CONNECTING) {
        connected(c);
        return;
    }
    if (c->state == HANDSHAKE) {
        shake(c);
        return;
    }
    if (events & EPOLLOUT) {
        watch(c, false);
        push(c);
    }
    if (c->state != DOWN && c->state != CONNECTING && (events & ~(uint32_t)EPOLLOUT)) pull(c);
}

/* Send what is due, and set the timer to what is due next. */
static void keep_rate(void) {
    static uint64_t sent;
    uint64_t due, t = now();
    while ((due = started + (uint64_t)((double)sent * 1e9 / want.rate)) <= t && due < ends) {
        sent++;
        if (idle_head != idle_tail)
            send_request(idle[idle_head++ % idle_room], due);
        else
            waiting[waiting_tail++ % waiting_room] = due;
    }
    struct itimerspec at = {.it_value = {(time_t)(due / SECOND), (long)(due % SECOND)}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static size_t in_state(enum state state) {
    size_t count = 0;
    for (int i = 0; i < want.connections; i++) count += all[i].state == state;
    return count;
}

static bool finished(void) {
    uint64_t t = now();
    if (t < ends) return false;
    if (t > ends + 5 * SECOND) return true;
    if (want.mode == RATE) return waiting_head == waiting_tail && in_state(ASKED) == 0;
    if (want.mode == CLOSE) return in_state(DOWN) == (size_t)want.connections;
    return true;
}

static void spin(int wait_ms) {
    struct epoll_event events[256];
    int count = epoll_wait(poll_fd, events, 256, wait_ms);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr) {
            on_event(events[i].data.ptr, events[i].events);
        } else {
            uint64_t ticks;
            if (read(timer_fd, &ticks, sizeof ticks) < 0 && errno != EAGAIN) fail("timer");
        }
    }
}

static void report(void) {
    double seconds = (double)(now() - started) / 1e9;
    printf("RESULT {\"requests\": %llu, \"microseconds\": %.0f, \"errors\": %llu, ",
           (unsigned long long)completed, seconds * 1e6, (unsigned long long)errors);
    printf("\"p50_us\": %u, \"p99_us\": %u, \"p999_us\": %u, \"full\": %llu, \"resumed\": %llu, ",
           latency_count ? latencies[latency_count / 2] : 0,
           latency_count ? latencies[latency_count * 99 / 100] : 0,
           latency_count ? latencies[latency_count * 999 / 1000] : 0,
           (unsigned long long)full_handshakes, (unsigned long long)resumed_handshakes);
    printf("\"error\": \"%s\"}\n", first_error);
}

static int by_size(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static void load_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    unsigned char size[4];
    while (fread(size, 1, 4, file) == 4) {
        size_t length = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
        unsigned char *data = room(length, 1);
        if (fread(data, 1, length, file) != length) fail(path);
        requests = realloc(requests, (request_count + 1) * sizeof *requests);
        if (!requests) fail("realloc");
        requests[request_count++] = (struct request){data, length};
    }
    fclose(file);
    if (!request_count) fail(path);
}

static void start_tls(void) {
    tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    if (want.mode == CLOSE) SSL_CTX_sess_set_new_cb(tls, keep_session);
}

/* Dial a few at a time and ask on each once; then hold them until stdin ends. */
static int hold(void) {
    int dialled = 0, busy = 0;
    do {
        busy = 0;
        for (int i = 0; i < dialled; i++)
            busy += all[i].state == CONNECTING || all[i].state == HANDSHAKE || all[i].state == ASKED;
        while (busy++ < IDLE_AT_ONCE && dialled < want.connections) dial(&all[dialled++]);
        spin(100);
    } while (!errors && (dialled < want.connections || in_state(FREE) < (size_t)want.connections));
    printf("READY\n");
    fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event)) fail("stdin");
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(poll_fd, events, 64, -1);
        for (int i = 0; i < count; i++) {
            if (!events[i].data.ptr) {
                printf("RESULT {\"open\": %zu, \"errors\": %llu, \"error\": \"%s\"}\n",
                       in_state(FREE), (unsigned long long)errors, first_error);
                return 0;
            }
            on_event(events[i].data.ptr, events[i].events);
        }
    }
}

static int load(void) {
    for (int i = 0; i < want.connections; i++) dial(&all[i]);
    if (want.mode == RATE) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &event);
        ends = now() + 5 * SECOND;
        while (in_state(FREE) < (size_t)want.connections && now() < ends) spin(100);
    }
    started = now();
    ends = started + (uint64_t)(want.seconds * 1e9);
    if (want.mode == CLOSE)
        for (int i = 0; i < want.connections; i++) all[i].due = started;
    while (!finished() && errors < 1000) {
        if (want.mode == RATE) keep_rate();
        spin(want.mode == RATE ? 100 : 20);
    }
    size_t lost = waiting_tail - waiting_head + (want.mode == RATE ? in_state(ASKED) : 0);
    if (lost) note_error("requests were never answered");
    qsort(latencies, latency_count, sizeof *latencies, by_size);
    report();
    return 0;
}

/* The WebSocket backend. */

struct peer {
    int fd;
    bool open;
    size_t length;
    unsigned char data[8192];
};

static bool reply(int fd, const void *data, size_t length) {
    return write(fd, data, length) == (ssize_t)length; /* small, and the other side reads */
}

static bool echo(struct peer *p) {
    if (!p->open) {
        static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                     "Connection: Upgrade\r\nSec-WebSocket-Accept: " WEBSOCKET_ACCEPT
                                     "\r\n\r\n";
        p->data[p->length] = 0;
        char *end = strstr((char *)p->data, "\r\n\r\n");
        if (!end) return true;
        if (!strstr((char *)p->data, WEBSOCKET_KEY)) return false;
        p->open = true;
        p->length -= (size_t)(end + 4 - (char *)p->data);
        memmove(p->data, end + 4, p->length);
        if (!reply(p->fd, answer, sizeof answer - 1)) return false;
    }
    while (p->length >= 2) {
        size_t size = p->data[1] & 127, at = size == 126 ? 4 : 2;
        if (size == 127 || !(p->data[1] & 128) || (p->data[0] & 15) == 8) return false;
        if (p->length < at) return true;
        if (size == 126) size = (size_t)p->data[2] << 8 | p->data[3];
        if (at + 4 + size > sizeof p->data - 1) return false;
        if (p->length < at + 4 + size) return true;
        unsigned char out[8192], *mask = p->data + at;
        out[0] = p->data[0];
        memcpy(out + 1, p->data + 1, at - 1);
        out[1] &= 127;
        for (size_t i = 0; i < size; i++) out[at + i] = mask[4 + i] ^ mask[i % 4];
        if (!reply(p->fd, out, at + size)) return false;
        p->length -= at + 4 + size;
        memmove(p->data, p->data + at + 4 + size, p->length);
    }
    return true;
}

static _Noreturn void serve(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)want.port)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll_fd, events, 256, -1);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            if (!p) {
                p = room(1, sizeof *p);
                p->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (p->fd < 0) fail("accept");
                setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                event.data.ptr = p;
                epoll_ctl(poll_fd, EPOLL_CTL_ADD, p->fd, &event);
                continue;
            }
            ssize_t got = read(p->fd, p->data + p->length, sizeof p->data - 1 - p->length);
            if (got > 0) p->length += (size_t)got;
            if (got <= 0 || !echo(p)) {
                close(p->fd);
                free(p);
            }
        }
    }
}

static void option(const char *text) {
    const char *value = strchr(text, '=');
    if (!value) fail(text);
    size_t length = (size_t)(value++ - text);
#define IS(name) (length == strlen(name) && !strncmp(text, name, length))
    if (IS("port")) want.port = atoi(value);
    else if (IS("tls")) want.tls = atoi(value);
    else if (IS("name")) want.name = value;
    else if (IS("connections")) want.connections = atoi(value);
    else if (IS("seconds")) want.seconds = atof(value);
    else if (IS("rate")) want.rate = atof(value);
    else if (IS("resume")) want.resume = atoi(value);
    else if (IS("answer")) want.answer = atol(value);
    else if (IS("fill")) want.fill = value[0];
    else if (IS("requests")) load_requests(value);
    else fail(text);
}

int main(int count, char **words) {
    struct rlimit files;
    if (count < 2) return 2;
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 2; i < count; i++) option(words[i]);
    poll_fd = epoll_create1(0);
    if (!strcmp(words[1], "serve")) serve();
    static const char *const modes[] = {"rate", "close", "echo", "idle"};
    while (want.mode < 4 && strcmp(words[1], modes[want.mode]) != 0) want.mode++;
    if (want.mode == 4 || !request_count) return 2;
    if (want.tls) start_tls();
    memset(expected, want.fill, sizeof expected);
    all = room((size_t)want.connections, sizeof *all);
    for (int i = 0; i < want.connections; i++) all[i].head = room(1, 16384);
    latency_room = (size_t)(want.seconds * (want.mode == RATE ? want.rate : 2e5)) + 1024;
    latencies = room(latency_room, sizeof *latencies);
    waiting_room = latency_room;
    waiting = room(waiting_room, sizeof *waiting);
    idle_room = (size_t)want.connections + 1;
    idle = room(idle_room, sizeof(struct connection *));
    return want.mode == IDLE ? hold() : load();
}
