/* Recorded lives against the core: replay RECORD. After every step all that can be seen of the core must be what the
 * reference showed; ends at the first that is not, and prints which. lockstep.py writes the record. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum { START, RECEIVE, TICK, FAULTS, BUTTON, MEASURE, TAKE, TASK };

typedef struct {
    const uint8_t *at, *end;
} reader;

static uint32_t number(reader *r, uint8_t bytes)
{
    if (r->end - r->at < bytes) exit(2);
    r->at += bytes;
    return (uint32_t)fb_get(r->at - bytes, bytes);
}

static reader part(reader *r)
{
    uint32_t length = number(r, 2);
    if ((uint32_t)(r->end - r->at) < length) exit(2);
    reader found = {r->at, r->at + length};
    r->at += length;
    return found;
}

static void start(fb_core *core, reader *r, uint32_t now_us)
{
    fb_identity identity = {.boot_id = number(r, 4), .reset_cause = (uint8_t)number(r, 1)};
    for (size_t i = 0; i < sizeof identity.uid; i++) identity.uid[i] = (uint8_t)number(r, 1);
    for (size_t i = 0; i < sizeof identity.firmware; i++) identity.firmware[i] = (uint8_t)number(r, 1);
    memset(core, 0xA5, sizeof *core); /* fb_init may not count on zeros */
    fb_init(core, &identity, now_us);
}

static void measure(fb_core *core, reader *r)
{
    core->supply_mv = (uint16_t)number(r, 2);
    core->temperature_dc = (int16_t)number(r, 2);
    for (int i = 0; i < FB_AXES; i++) {
        core->position[i] = (int32_t)number(r, 4);
        core->velocity[i] = (int32_t)number(r, 4);
        core->current[i] = (int16_t)number(r, 2);
    }
}

/* In a buffer of exactly its size, so that a sanitizer sees every byte too far. */
static void receive(fb_core *core, const reader *r, uint32_t now_us)
{
    size_t length = (size_t)(r->end - r->at);
    uint8_t *exact = malloc(length + (length == 0));
    memcpy(exact, r->at, length);
    fb_receive(core, exact, length, now_us);
    free(exact);
}

/* Whether the core shows what is expected; the name of the first thing that differs goes to *what. */
static bool shows(const fb_core *core, reader *r, const char **what)
{
    uint8_t stats[FB_SIZE_STATS];
    bool same = true;
#define COMPARE(name, value, bytes) \
    if (same && number(r, bytes) != (uint32_t)(value)) same = false, *what = name
    COMPARE("state", core->state, 1);
    COMPARE("faults", core->faults, 4);
    for (int i = 0; i < FB_AXES; i++) {
        COMPARE("drive", core->drive[i], 1);
        COMPARE("output", core->output[i], 4);
        COMPARE("speed", core->speed[i], 4);
    }
    fbm_stats_pack(&core->stats, stats);
    for (int i = 0; i < FB_SIZE_STATS; i++) COMPARE("counters", stats[i], 1);
    COMPARE("length of tx", core->tx_length, 2);
    for (uint16_t i = 0; i < core->tx_length && same; i++) COMPARE("tx", core->tx[i], 1);
    return same;
}

int main(int count, char **given)
{
    static fb_core core;
    FILE *file = count == 2 ? fopen(given[1], "rb") : NULL;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) return 2;
    size_t size = (size_t)ftell(file);
    uint8_t *record = malloc(size + 1);
    rewind(file);
    if (fread(record, 1, size, file) != size) return 2;
    fclose(file);

    reader all = {record, record + size};
    unsigned lives = 0, steps = 0;
    while (all.at < all.end) {
        const char *what = NULL;
        uint8_t kind = (uint8_t)number(&all, 1);
        uint32_t now_us = number(&all, 4);
        reader given_to = part(&all), expected = part(&all);
        steps++;
        switch (kind) {
        case START: start(&core, &given_to, now_us); lives++; break;
        case RECEIVE: receive(&core, &given_to, now_us); break;
        case TICK: fb_tick(&core, now_us); break;
        case FAULTS: fb_set_faults(&core, number(&given_to, 4)); break;
        case BUTTON: fb_estop(&core); break;
        case MEASURE: measure(&core, &given_to); break;
        case TAKE: fb_sent(&core, (uint16_t)number(&given_to, 2)); break;
        case TASK:
            fb_task_ran(&core, (uint8_t)number(&given_to, 1));
            if (fb_watchdog_due(&core) != (number(&expected, 1) != 0)) what = "watchdog";
            break;
        default: return 2;
        }
        if (what != NULL || !shows(&core, &expected, &what)) {
            printf("{\"lives\": %u, \"steps\": %u, \"differs\": \"%s\"}\n", lives, steps, what);
            return 1;
        }
    }
    printf("{\"lives\": %u, \"steps\": %u, \"differs\": null}\n", lives, steps);
    return 0;
}
