/* The firmware as a Linux process: a pseudo-terminal is its serial line, a socket its motors.
 *
 *   host --id HEX8 [--link PATH] [--plant PATH] [--with-parent PID]
 *
 * Prints one line of JSON with the path of the port. Without --plant the outputs come back as ideal encoders.
 * firmware_bridge/plant.py describes the packets on the socket.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "core.h"

#define FIRMWARE "latentloop-host 0.1 (C)"
#define TICK_MS 1
#define PLANT_EVERY_NS 10000000ull
#define RETRY_NS 100000000ull
#define OUTPUT_BYTES (20 + 4 * FB_AXES)
#define FEEDBACK_BYTES (14 * FB_AXES)

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "firmware: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t mono_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* -- the serial line --------------------------------------------------------------------------------------------- */

static int open_line(char *path, size_t size)
{
    struct termios raw;
    int line = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (line < 0 || grantpt(line) != 0 || unlockpt(line) != 0 || ptsname_r(line, path, size) != 0) die("pseudo-terminal");
    /* Kept open, so that the line survives while no host has it open. */
    int other_end = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (other_end < 0 || tcgetattr(other_end, &raw) != 0) die(path);
    cfmakeraw(&raw);
    if (tcsetattr(other_end, TCSANOW, &raw) != 0) die(path);
    return line;
}

static void put_link(const char *path, const char *target)
{
    char fresh[256];
    if (snprintf(fresh, sizeof fresh, "%s.%ld", path, (long)getpid()) >= (int)sizeof fresh) {
        errno = ENAMETOOLONG;
        die(path);
    }
    if (symlink(target, fresh) != 0 || rename(fresh, path) != 0) die(path);
}

static void remove_own_link(const char *path, const char *target)
{
    char now[256];
    ssize_t length = readlink(path, now, sizeof now - 1);
    if (length < 0) return;
    now[length] = 0;
    if (strcmp(now, target) == 0) unlink(path);
}

static void transmit(int line, fb_core *core)
{
    while (core->tx_length > 0) {
        ssize_t sent = write(line, core->tx, core->tx_length);
        if (sent <= 0) return; /* nobody reads: the core drops what does not fit */
        fb_sent(core, (uint16_t)sent);
    }
}

static void receive(int line, fb_core *core, uint32_t now_us)
{
    uint8_t bytes[1024]; /* no more per turn: a host that floods the line must not hold up the clock */
    ssize_t length = read(line, bytes, sizeof bytes);
    if (length > 0) fb_receive(core, bytes, (size_t)length, now_us);
}

/* -- the motors -------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *path; /* NULL: ideal encoders */
    int socket;
    uint64_t tried_ns, sent_ns;
    uint8_t state;
    int32_t output[FB_AXES];
    uint8_t drive[FB_AXES];
    int64_t turned_nrad[FB_AXES];
} plant;

static void connect_plant(plant *p, uint64_t now_ns)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(p->path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die(p->path);
    }
    strcpy(address.sun_path, p->path);
    p->tried_ns = now_ns;
    p->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->socket < 0) die("socket");
    if (connect(p->socket, (struct sockaddr *)&address, sizeof address) == 0) return;
    close(p->socket);
    p->socket = -1;
}

static void lose_plant(plant *p)
{
    close(p->socket);
    p->socket = -1;
}

static void read_plant(plant *p, fb_core *core)
{
    uint8_t packet[FEEDBACK_BYTES];
    while (p->socket >= 0) {
        ssize_t length = recv(p->socket, packet, sizeof packet, MSG_TRUNC);
        if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (length <= 0) lose_plant(p);
        if (length != FEEDBACK_BYTES) continue;
        for (int i = 0; i < FB_AXES; i++) {
            core->position[i] = (int32_t)fb_get(packet + 8 * i, 8);
            core->velocity[i] = (int32_t)fb_get(packet + 8 * FB_AXES + 4 * i, 4);
            core->current[i] = (int16_t)fb_get(packet + 12 * FB_AXES + 2 * i, 2);
        }
    }
}

static void write_plant(plant *p, const fb_core *core, uint64_t now_ns, uint64_t lease_ns)
{
    bool same = p->state == core->state && memcmp(p->output, core->output, sizeof p->output) == 0 &&
                memcmp(p->drive, core->drive, sizeof p->drive) == 0;
    if (p->socket < 0 || (same && now_ns - p->sent_ns < PLANT_EVERY_NS)) return;
    uint8_t packet[OUTPUT_BYTES] = {0};
    fb_put(packet, now_ns, 8);
    fb_put(packet + 8, lease_ns, 8);
    packet[16] = core->state;
    packet[17] = FB_AXES;
    uint16_t drives = 0;
    for (int i = 0; i < FB_AXES; i++) drives = (uint16_t)(drives | core->drive[i] << (2 * i));
    fb_put(packet + 18, drives, 2);
    for (int i = 0; i < FB_AXES; i++) fb_put(packet + 20 + 4 * i, (uint32_t)core->output[i], 4);
    if (send(p->socket, packet, sizeof packet, MSG_NOSIGNAL) < 0) {
        if (errno != EAGAIN && errno != ENOBUFS) lose_plant(p);
        return; /* a full queue: the next turn tries again with newer numbers */
    }
    p->sent_ns = now_ns;
    p->state = core->state;
    memcpy(p->output, core->output, sizeof p->output);
    memcpy(p->drive, core->drive, sizeof p->drive);
}

static void turn_ideal_axes(plant *p, fb_core *core, uint32_t elapsed_us)
{
    static const uint8_t mode[FB_AXES] = FB_AXIS_MODES;
    for (int i = 0; i < FB_AXES; i++) {
        if (core->drive[i] != FB_DRIVE_ON) {
            core->velocity[i] = 0;
            continue;
        }
        if (mode[i] == FB_MODE_POSITION) {
            core->velocity[i] = core->speed[i];
            core->position[i] = core->output[i];
            continue;
        }
        p->turned_nrad[i] += (int64_t)core->output[i] * elapsed_us; /* mrad/s * us */
        core->position[i] = (int32_t)(p->turned_nrad[i] / 1000000);
        core->velocity[i] = core->output[i];
    }
}

/* ---------------------------------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    fb_identity identity = {.uid = "host-process"};
    fb_core core;
    plant motors = {.socket = -1};
    const char *link = NULL;
    pid_t parent = 0;
    char path[64];

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--link") == 0) link = argv[i + 1];
        else if (strcmp(argv[i], "--plant") == 0) motors.path = argv[i + 1];
        else if (strcmp(argv[i], "--with-parent") == 0) parent = (pid_t)atol(argv[i + 1]);
        else if (strcmp(argv[i], "--id") == 0) identity.boot_id = (uint32_t)strtoul(argv[i + 1], NULL, 16);
        else argc = 0;
    }
    if (argc % 2 == 0) {
        fprintf(stderr, "usage: host --id HEX8 [--link PATH] [--plant PATH] [--with-parent PID]\n");
        return 2;
    }
    strcpy((char *)identity.firmware, FIRMWARE);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);

    int line = open_line(path, sizeof path);
    if (motors.path != NULL) {
        connect_plant(&motors, mono_ns());
        if (motors.socket < 0) die(motors.path);
    }
    fb_init(&core, &identity, 0);
    fb_tick(&core, 0); /* out of BOOT before anybody knows the port */
    if (link != NULL) put_link(link, path);
    printf("{\"port\": \"%s\", \"firmware\": \"%s\"}\n", path, FIRMWARE);
    fflush(stdout);

    uint64_t started_ns = mono_ns(), lease_ns = 0;
    uint32_t last_us = 0, leases = 0;
    while (!stopping && (parent == 0 || getppid() == parent)) {
        struct pollfd ready[2] = {{.fd = line, .events = POLLIN}, {.fd = motors.socket, .events = POLLIN}};
        poll(ready, 2, TICK_MS);
        uint64_t now_ns = mono_ns();
        uint32_t now_us = (uint32_t)((now_ns - started_ns) / 1000);

        if (motors.path == NULL) {
            turn_ideal_axes(&motors, &core, now_us - last_us);
        } else {
            if (motors.socket < 0 && now_ns - motors.tried_ns > RETRY_NS) connect_plant(&motors, now_ns);
            read_plant(&motors, &core);
            fb_set_faults(&core, motors.socket < 0 ? FB_FAULT_DRIVER_LOST : 0);
        }
        receive(line, &core, now_us);
        if (core.stats.leases != leases) {
            leases = core.stats.leases;
            lease_ns = now_ns;
        }
        fb_tick(&core, now_us);
        transmit(line, &core);
        write_plant(&motors, &core, now_ns, lease_ns);
        last_us = now_us;
    }
    if (link != NULL) remove_own_link(link, path);
    return 0;
}
