/* For authors of benches in C99 and C++11: makes a bench run in slices of a few milliseconds, taking turns with
 * the other side of a comparison on the same core. docs/sliced.md describes what is spoken. Without the variable
 * DARWIN_SLICE in the environment the same program is an ordinary bench. Header only; one thread at a time.
 *
 *     struct darwin_slice slices;
 *     static uint64_t room[1 << 18];
 *     if (darwin_slice_open(&slices, room, 1 << 18, 1000) != 0) return fail(&slices);
 *     warm_up();
 *     if (darwin_slice_ready(&slices, "book/add") != 0) return fail(&slices);
 *     while (darwin_slice_next(&slices) == 1) {
 *         while (darwin_slice_more(&slices)) {
 *             uint64_t start = darwin_slice_now_ns();
 *             work();
 *             darwin_slice_keep(&slices, darwin_slice_now_ns() - start);
 *         }
 *         darwin_slice_done(&slices);
 *     }
 *     if (slices.error[0] != '\0') return fail(&slices);
 *     darwin_slice_write_header(file, "mybench");
 *     darwin_slice_write_series(file, &slices);
 *     ... the next bench: ready, next, ...
 *     darwin_slice_close(&slices);
 *
 * A function that fails returns -1 and leaves a sentence in `error`; the bench must then exit with a code other
 * than 0. Include this file first, or compile with -D_POSIX_C_SOURCE=200809L: strict C99 hides what POSIX has.
 *
 * Between two calls of a slice nothing is allocated and nothing is asked of the system but the time.
 */
#ifndef DARWIN_SLICE_H
#define DARWIN_SLICE_H

#if defined(__STRICT_ANSI__) && !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_MONOTONIC
#error "include darwin_slice.h before any other header, or compile with -D_POSIX_C_SOURCE=200809L"
#endif

#define DARWIN_SLICE_MAX_NAME_BYTES 512
/* `skip` of a pilot: all of the slice is left out. */
#define DARWIN_SLICE_PILOT UINT32_MAX
/* `slice_ns` that asks for the bench as it is without slices. */
#define DARWIN_SLICE_NO_SLICING UINT64_MAX

/* Who says what is next. */
enum darwin_slice_state {
    DARWIN_SLICE_PLAIN,     /* nobody: one slice of `plain_samples` */
    DARWIN_SLICE_CONDUCTED, /* the agent */
    DARWIN_SLICE_OVER       /* the bench is over, or has failed */
};

struct darwin_slice {
    /* To read: */
    uint64_t *samples;   /* nanoseconds, in the order of time */
    uint32_t kept;       /* how many of them */
    uint32_t left_out;   /* samples left out by their position */
    uint32_t slices;     /* 0 without slices */
    int filled_up;       /* whether the room for samples ended the bench */
    char name[DARWIN_SLICE_MAX_NAME_BYTES + 1];
    char error[160];     /* empty while all is well */
    /* Its own: */
    uint32_t room;
    uint32_t plain_samples;
    int go_fd; /* -1 where nobody conducts */
    int done_fd;
    enum darwin_slice_state state;
    uint64_t began_ns;
    uint64_t last_ns;
    uint64_t slice_ns;
    uint32_t skip;
    uint32_t least;
    uint32_t kept_now;
    uint32_t left_out_now;
};

/* Monotonic time in nanoseconds. */
static inline uint64_t darwin_slice_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Notes why, and ends the bench. */
static inline int darwin_slice_fail_(struct darwin_slice *s, const char *what, const char *why) {
    snprintf(s->error, sizeof s->error, "DARWIN_SLICE: %s%s%s", what, why[0] ? ": " : "", why);
    s->state = DARWIN_SLICE_OVER;
    return -1;
}

/* A decimal number that ends with `end`; -1 if there is none. `*at` is moved behind it. */
static inline int darwin_slice_number_(const char **at, char end) {
    const char *digit = *at;
    long number = 0;
    if (*digit < '0' || *digit > '9') return -1;
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        number = number * 10 + (*digit - '0');
        if (number > 1000000000) return -1;
    }
    if (*digit != end) return -1;
    *at = end == '\0' ? digit : digit + 1;
    return (int)number;
}

/* A pipe that programs started by the bench do not get: their copies would hide the agent's end. */
static inline int darwin_slice_take_(struct darwin_slice *s, int fd) {
    struct stat found;
    int flags;
    if (fstat(fd, &found) != 0) return darwin_slice_fail_(s, "names a descriptor that is not open", "");
    if (!S_ISFIFO(found.st_mode)) return darwin_slice_fail_(s, "names a descriptor that is no pipe", "");
    flags = fcntl(fd, F_GETFD);
    if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) != 0) {
        return darwin_slice_fail_(s, "cannot take the pipes", strerror(errno));
    }
    return 0;
}

/* Takes what the environment names; 0 also where nobody conducts. `room` is for `capacity` samples (at least 1)
 * of one bench at a time; `plain_samples` is how many to take where nobody asks for slices. */
static inline int darwin_slice_open(struct darwin_slice *s, uint64_t *room, uint32_t capacity,
                                    uint32_t plain_samples) {
    const char *value = getenv("DARWIN_SLICE");
    const char *at = value;
    int version, go_fd, done_fd;
    memset(s, 0, sizeof *s);
    s->samples = room;
    s->room = capacity;
    s->plain_samples = plain_samples < 1 ? 1 : plain_samples;
    s->go_fd = s->done_fd = -1;
    s->state = DARWIN_SLICE_OVER;
    /* Written to, so that no page of it is missing when the clock runs. */
    memset(room, 0xff, (size_t)capacity * sizeof *room);
    if (capacity < 1) return darwin_slice_fail_(s, "there is no room for samples", "");
    if (value == NULL) return 0;
    version = darwin_slice_number_(&at, ':');
    if (version >= 0 && version != 1) return 0;
    go_fd = version < 0 ? -1 : darwin_slice_number_(&at, ':');
    done_fd = go_fd < 0 ? -1 : darwin_slice_number_(&at, '\0');
    if (done_fd < 0 || go_fd == done_fd) {
        return darwin_slice_fail_(s, "must be `1:<go_fd>:<done_fd>`, with two numbers of open pipes", "");
    }
    if (darwin_slice_take_(s, go_fd) != 0 || darwin_slice_take_(s, done_fd) != 0) return -1;
    unsetenv("DARWIN_SLICE");
    s->go_fd = go_fd;
    s->done_fd = done_fd;
    return 0;
}

/* Writes a frame as a whole. An agent that is gone is an error like any other, not a signal. */
static inline int darwin_slice_send_(struct darwin_slice *s, const unsigned char *frame, size_t length) {
    sigset_t pipe_signal, before, pending;
    int was_pending, error = 0;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    was_pending = sigismember(&pending, SIGPIPE);
    sigprocmask(SIG_BLOCK, &pipe_signal, &before);
    while (length > 0 && error == 0) {
        ssize_t wrote = write(s->done_fd, frame, length);
        if (wrote >= 0) {
            frame += wrote;
            length -= (size_t)wrote;
        } else if (errno != EINTR) {
            error = errno;
        }
    }
    if (error == EPIPE && !was_pending) {
        int signal_number;
        /* Not there where the bench ignores the signal; waiting would then never end. */
        sigpending(&pending);
        if (sigismember(&pending, SIGPIPE)) sigwait(&pipe_signal, &signal_number);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return error == 0 ? 0 : darwin_slice_fail_(s, "cannot write to the agent", strerror(error));
}

static inline int darwin_slice_receive_(struct darwin_slice *s, unsigned char *bytes, size_t length) {
    while (length > 0) {
        ssize_t got = read(s->go_fd, bytes, length);
        if (got > 0) {
            bytes += got;
            length -= (size_t)got;
        } else if (got == 0) {
            return darwin_slice_fail_(s, "the agent is gone", "");
        } else if (errno != EINTR) {
            return darwin_slice_fail_(s, "cannot read from the agent", strerror(errno));
        }
    }
    return 0;
}

static inline uint64_t darwin_slice_little_endian_(const unsigned char *bytes, int length) {
    uint64_t number = 0;
    while (length > 0) number = number << 8 | bytes[--length];
    return number;
}

static inline int darwin_slice_send_done_(struct darwin_slice *s, uint32_t kept, uint32_t left_out,
                                          uint64_t busy_ns) {
    unsigned char frame[17];
    int at;
    frame[0] = 'D';
    for (at = 0; at < 4; at++) {
        frame[1 + at] = (unsigned char)(kept >> 8 * at);
        frame[5 + at] = (unsigned char)(left_out >> 8 * at);
    }
    for (at = 0; at < 8; at++) frame[9 + at] = (unsigned char)(busy_ns >> 8 * at);
    return darwin_slice_send_(s, frame, sizeof frame);
}

/* Says that the bench `name` (1 to 512 bytes, the same in every build) is set up and warm. What was kept of the
 * bench before is forgotten. */
static inline int darwin_slice_ready(struct darwin_slice *s, const char *name) {
    unsigned char frame[3 + DARWIN_SLICE_MAX_NAME_BYTES];
    size_t length = strlen(name);
    if (s->error[0] != '\0') return -1;
    if (length < 1 || length > DARWIN_SLICE_MAX_NAME_BYTES) {
        return darwin_slice_fail_(s, "a bench's name has 1 to 512 bytes", "");
    }
    memcpy(s->name, name, length + 1);
    s->kept = s->left_out = s->slices = 0;
    s->filled_up = 0;
    s->state = s->go_fd < 0 ? DARWIN_SLICE_PLAIN : DARWIN_SLICE_CONDUCTED;
    if (s->state == DARWIN_SLICE_PLAIN) return 0;
    frame[0] = 'R';
    frame[1] = (unsigned char)(length & 0xff);
    frame[2] = (unsigned char)(length >> 8);
    memcpy(frame + 3, name, length);
    return darwin_slice_send_(s, frame, 3 + length);
}

static inline int darwin_slice_begin_(struct darwin_slice *s, uint64_t slice_ns, uint32_t skip, uint32_t least) {
    s->slice_ns = slice_ns;
    s->skip = skip;
    s->least = least;
    s->kept_now = s->left_out_now = 0;
    s->began_ns = s->last_ns = darwin_slice_now_ns();
    return 1;
}

/* Blocks until there is a slice: 1; 0 when the bench is over; -1 when it has failed. */
static inline int darwin_slice_next(struct darwin_slice *s) {
    unsigned char frame[13];
    if (s->error[0] != '\0') return -1;
    while (s->state == DARWIN_SLICE_CONDUCTED) {
        uint64_t slice_ns;
        uint32_t skip;
        if (darwin_slice_receive_(s, frame, 1) != 0) return -1;
        if (frame[0] == 'E') {
            s->state = DARWIN_SLICE_OVER;
            return 0;
        }
        if (frame[0] != 'G') return darwin_slice_fail_(s, "the agent sent what is neither `G` nor `E`", "");
        if (darwin_slice_receive_(s, frame + 1, 12) != 0) return -1;
        slice_ns = darwin_slice_little_endian_(frame + 1, 8);
        skip = (uint32_t)darwin_slice_little_endian_(frame + 9, 4);
        if (slice_ns == DARWIN_SLICE_NO_SLICING) {
            s->kept = s->left_out = s->slices = 0;
            s->filled_up = 0;
            s->state = DARWIN_SLICE_PLAIN;
        } else if (s->kept == s->room) {
            /* Used up: there is no room for one sample more. */
            if (darwin_slice_send_done_(s, 0, 0, 0) != 0) return -1;
        } else if (skip == DARWIN_SLICE_PILOT) {
            return darwin_slice_begin_(s, slice_ns, skip, 1);
        } else {
            s->slices++;
            return darwin_slice_begin_(s, slice_ns, skip, skip + 1);
        }
    }
    if (s->state == DARWIN_SLICE_OVER) return 0;
    s->state = DARWIN_SLICE_OVER;
    return darwin_slice_begin_(s, 0, 0, s->plain_samples);
}

/* Whether another sample is to be taken. It reads no clock: the time is that of the last sample's end. */
static inline int darwin_slice_more(const struct darwin_slice *s) {
    int asked = s->kept_now + s->left_out_now < s->least || s->last_ns - s->began_ns < s->slice_ns;
    return asked && s->kept < s->room && s->left_out_now < UINT32_MAX;
}

/* Takes a sample of so many nanoseconds, or leaves it out, by its position. */
static inline void darwin_slice_keep(struct darwin_slice *s, uint64_t took_ns) {
    s->last_ns = darwin_slice_now_ns();
    if (s->left_out_now < s->skip) {
        s->left_out_now++;
        s->left_out++;
    } else if (s->kept < s->room) {
        s->kept_now++;
        s->samples[s->kept++] = took_ns;
        /* Only in slices: a plain bench takes what it planned. */
        s->filled_up = s->kept == s->room && s->slices > 0;
    }
}

/* Ends the slice, and tells the agent what it came to. */
static inline int darwin_slice_done(struct darwin_slice *s) {
    if (s->error[0] != '\0') return -1;
    if (s->state != DARWIN_SLICE_CONDUCTED) return 0;
    return darwin_slice_send_done_(s, s->kept_now, s->left_out_now, s->last_ns - s->began_ns);
}

/* Closes the pipes. */
static inline void darwin_slice_close(struct darwin_slice *s) {
    if (s->go_fd >= 0) close(s->go_fd);
    if (s->done_fd >= 0) close(s->done_fd);
    s->go_fd = s->done_fd = -1;
    s->state = DARWIN_SLICE_OVER;
}

/* Text inside a JSON string. */
static inline void darwin_slice_write_escaped_(FILE *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fprintf(out, "\\%c", *text);
        } else if ((unsigned char)*text < 0x20) {
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)*text);
        } else {
            putc(*text, out);
        }
    }
}

/* The first line of a result in the format darwin-samples/1; `tool` names the harness. */
static inline void darwin_slice_write_header(FILE *out, const char *tool) {
    fputs("{\"schema\":\"darwin-samples/1\",\"tool\":\"", out);
    darwin_slice_write_escaped_(out, tool);
    fputs("\"}\n", out);
}

static inline void darwin_slice_write_warning_(FILE *out, const char *name, const char *what) {
    fputs("{\"warning\":\"`", out);
    darwin_slice_write_escaped_(out, name);
    fprintf(out, "` %s\"}\n", what);
}

/* The line of the bench that is over, and a warning if its room for samples ended it. The caller looks at
 * ferror and fclose. */
static inline void darwin_slice_write_series(FILE *out, const struct darwin_slice *s) {
    uint32_t at;
    if (s->kept == 0) {
        darwin_slice_write_warning_(out, s->name, "kept no sample");
        return;
    }
    fputs("{\"name\":\"", out);
    darwin_slice_write_escaped_(out, s->name);
    fputs("\",\"metric\":\"latency\",\"unit\":\"ns\",\"per\":\"op\",\"order\":\"time\",\"values\":[", out);
    for (at = 0; at < s->kept; at++) {
        fprintf(out, at == 0 ? "%llu" : ",%llu", (unsigned long long)s->samples[at]);
    }
    fputs("]}\n", out);
    if (s->filled_up) {
        darwin_slice_write_warning_(out, s->name, "ended early: its room for samples was full");
    }
}

#endif
