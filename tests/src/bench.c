/* The bench of the tests with images: no library but the C one, so that it is all that an image needs.
   usage: bench OUTPUT SEED ROUND MARK */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned long state;

/* A number from 0 to 1: the same for one side, seed and round. */
static double drawn(void) {
    state = state * 6364136223846793005ul + 1442695040888963407ul;
    return (double)(state >> 11) / 9007199254740992.0;
}

static void read_word(const char *path, char *word, int size) {
    FILE *file = fopen(path, "r");
    word[0] = 0;
    if (file && !fgets(word, size, file)) word[0] = 0;
    if (file) fclose(file);
}

static void tell_status(const char *field) {
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, field, strlen(field))) fputs(line, stdout);
    if (file) fclose(file);
}

static void tell_write(const char *path) {
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    printf("write %s: %s\n", path, file < 0 ? strerror(errno) : "works");
}

/* Tries what a container must not be able to do, and tells. */
static int tries(void) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, "192.0.2.1", &there.sin_addr);
    int wire = socket(AF_INET, SOCK_STREAM, 0);
    int linked = wire < 0 ? -1 : connect(wire, (struct sockaddr *)&there, sizeof there);
    printf("connect: %s\n", linked ? strerror(errno) : "works");
    tell_write("/here");
    tell_write("/proc/sys/kernel/hostname");
    tell_write("/tmp/here");
    tell_write("/darwin/here");
    printf("root: %s\n", setuid(0) ? strerror(errno) : "works");
    tell_status("Uid:");
    tell_status("CapEff:");
    tell_status("NoNewPrivs:");
    tell_status("Cpus_allowed_list:");
    fflush(stdout);
    return 3;
}

int main(int count, char **words) {
    char text[64], behaviour[64];
    if (count < 4) return 2;
    read_word("cost", text, sizeof text);
    read_word("behaviour", behaviour, sizeof behaviour);
    if (!strcmp(behaviour, "tries")) return tries();
    if (!strcmp(behaviour, "floods"))
        for (;;) puts("0123456789012345678901234567890123456789012345678901234567890123456789");
    if (!strcmp(behaviour, "hangs")) {
        signal(SIGTERM, SIG_IGN);
        for (;;) pause();
    }
    if (!strcmp(behaviour, "eats")) {
        for (;;) memset(malloc(1 << 20), 1, 1 << 20);
    }
    if (!strcmp(behaviour, "writes")) {
        int file = open("/tmp/large", O_CREAT | O_WRONLY, 0600);
        memset(text, 1, sizeof text);
        while (write(file, text, sizeof text) > 0) {}
        return 4;
    }
    if (!strcmp(behaviour, "dies")) abort();
    if (!strcmp(behaviour, "naps")) usleep(150000);
    const char *side = getenv("DARWIN_VARIANT");
    state = strtoul(words[2], 0, 10) * 31 + strtoul(words[3], 0, 10) * 131 + (side ? side[0] : 0);
    drawn();
    double level = atof(text) * 1000 * (1 + 0.01 * (drawn() - 0.5));
    FILE *file = fopen(words[1], "w");
    if (!file) return 5;
    fputs("{\"schema\":\"darwin-samples/1\",\"tool\":\"bench.c\"}\n", file);
    fputs("{\"name\":\"orders/add\",\"metric\":\"latency\",\"unit\":\"ns\",\"per\":\"op\",\"order\":\"time\",\"values\":[", file);
    for (int i = 0; i < 2500; i++)
        fprintf(file, "%s%ld", i ? "," : "", (long)(level * (1 + 0.1 * drawn() + (i % 50 == 0))));
    fputs("]}\n", file);
    return fclose(file) ? 6 : 0;
}
