/* Two benches of a sort, in slices where darwin's agent asks for them.
 *
 *     cc -O2 -std=c99 -Islice/include -o bench slice/examples/c/bench.c
 *     ./bench result.ndjson
 *
 * In darwin.toml: run = "./bench {output}", format = "darwin-samples".
 */
#include "darwin_slice.h"

enum { ROOM = 1 << 18, PLAIN_SAMPLES = 1000, WARM_UP_CALLS = 100, MAX_NUMBERS = 2000 };

static uint64_t room[ROOM];
static int numbers[MAX_NUMBERS];

static void shuffle(int count) {
    uint32_t seed = 7;
    int at;
    for (at = 0; at < count; at++) {
        seed = seed * 1664525u + 1013904223u;
        numbers[at] = (int)(seed >> 8);
    }
}

static int ascending(const void *left, const void *right) {
    int a = *(const int *)left, b = *(const int *)right;
    return (a > b) - (a < b);
}

/* One call is timed alone; the numbers are put out of order outside the timing. */
static int bench(struct darwin_slice *slices, FILE *out, const char *name, int count) {
    int call;
    for (call = 0; call < WARM_UP_CALLS; call++) {
        shuffle(count);
        qsort(numbers, (size_t)count, sizeof *numbers, ascending);
    }
    if (darwin_slice_ready(slices, name) != 0) return -1;
    while (darwin_slice_next(slices) == 1) {
        while (darwin_slice_more(slices)) {
            uint64_t start;
            shuffle(count);
            start = darwin_slice_now_ns();
            qsort(numbers, (size_t)count, sizeof *numbers, ascending);
            darwin_slice_keep(slices, darwin_slice_now_ns() - start);
        }
        darwin_slice_done(slices);
    }
    if (slices->error[0] != '\0') return -1;
    darwin_slice_write_series(out, slices);
    return 0;
}

int main(int arguments, char **argument) {
    struct darwin_slice slices;
    FILE *out;
    if (arguments != 2) {
        fputs("usage: bench OUTPUT\n", stderr);
        return 2;
    }
    out = fopen(argument[1], "w");
    if (out == NULL) {
        perror(argument[1]);
        return 1;
    }
    darwin_slice_write_header(out, "bench.c");
    if (darwin_slice_open(&slices, room, ROOM, PLAIN_SAMPLES) != 0 || bench(&slices, out, "sort/small", 200) != 0 ||
        bench(&slices, out, "sort/large", MAX_NUMBERS) != 0) {
        fprintf(stderr, "%s\n", slices.error);
        return 1;
    }
    darwin_slice_close(&slices);
    if (ferror(out) != 0 || fclose(out) != 0) {
        perror(argument[1]);
        return 1;
    }
    return 0;
}
