/* The C core behind functions that ctypes can call, for the tests. */
#include <stdlib.h>

#include "core.h"

fb_core *shim_new(uint32_t boot_id, const uint8_t *firmware, uint32_t now_us, uint8_t reset_cause)
{
    fb_identity identity = {.boot_id = boot_id, .reset_cause = reset_cause, .uid = "host-process"};
    for (int i = 0; i < 40 && firmware[i]; i++) identity.firmware[i] = firmware[i];
    fb_core *core = malloc(sizeof *core);
    for (size_t i = 0; i < sizeof *core; i++) ((uint8_t *)core)[i] = 0xA5; /* fb_init may not count on zeros */
    fb_init(core, &identity, now_us);
    return core;
}

void shim_free(fb_core *core) { free(core); }
uint8_t shim_state(const fb_core *core) { return core->state; }
uint32_t shim_faults(const fb_core *core) { return core->faults; }
const int32_t *shim_outputs(const fb_core *core) { return core->output; }
const uint8_t *shim_drives(const fb_core *core) { return core->drive; }
void shim_stats(const fb_core *core, uint8_t *payload) { fbm_stats_pack(&core->stats, payload); }

void shim_measure(fb_core *core, const int32_t *position, const int32_t *velocity, const int16_t *current,
                  uint16_t supply_mv, int16_t temperature_dc)
{
    core->supply_mv = supply_mv;
    core->temperature_dc = temperature_dc;
    for (int i = 0; i < FB_AXES; i++) {
        core->position[i] = position[i];
        core->velocity[i] = velocity[i];
        core->current[i] = current[i];
    }
}

size_t shim_take(fb_core *core, uint8_t *out, size_t most)
{
    size_t length = core->tx_length < most ? core->tx_length : most;
    for (size_t i = 0; i < length; i++) out[i] = core->tx[i];
    fb_sent(core, (uint16_t)length);
    return length;
}

size_t shim_encode(uint8_t flags, uint8_t type, uint8_t seq, uint8_t session, const uint8_t *payload, size_t length,
                   uint32_t schema_id, uint8_t *wire)
{
    fb_frame frame = {.flags = flags, .type = type, .seq = seq, .session = session, .length = (uint8_t)length};
    for (size_t i = 0; i < length; i++) frame.payload[i] = payload[i];
    return fb_encode(&frame, schema_id, wire);
}

/* Decodes everything; per event one byte of kind, and for a frame its flags, type, seq, session, length and payload. */
size_t shim_decode(const uint8_t *bytes, size_t length, uint32_t schema_id, uint8_t *events)
{
    fb_decoder decoder = {.length = 0};
    struct {
        fb_frame frame;
        uint8_t behind;
    } into = {.behind = 0xA5};
    size_t at = 0;
    for (size_t i = 0; i < length; i++) {
        fb_decoded what = fb_decode(&decoder, bytes[i], schema_id, &into.frame);
        if (into.behind != 0xA5) abort(); /* the longest frame fits to the byte */
        if (what == FB_DECODE_MORE) continue;
        events[at++] = (uint8_t)what;
        if (what != FB_DECODE_FRAME) continue;
        events[at++] = into.frame.flags;
        events[at++] = into.frame.type;
        events[at++] = into.frame.seq;
        events[at++] = into.frame.session;
        events[at++] = into.frame.length;
        for (size_t k = 0; k < into.frame.length; k++) events[at++] = into.frame.payload[k];
    }
    return at;
}

static void say(fb_core *core, uint8_t type, uint8_t session, uint8_t seq, const uint8_t *payload, size_t length, uint32_t now_us)
{
    uint8_t wire[FB_MAX_WIRE];
    size_t size = shim_encode(0, type, seq, session, payload, length, FB_SCHEMA_ID, wire);
    fb_receive(core, wire, size, now_us);
}

/* A live host: ticks of 1 ms, a lease of 100 ms and a command every 20 ms. Returns after how many steps the core was not
 * ACTIVE or its first output not what was commanded; steps if that never happened. */
uint32_t shim_live(fb_core *core, uint8_t session, uint32_t start_us, uint32_t steps)
{
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t now_us = start_us + 1000u * step;
        if (step % 20 == 0) {
            uint8_t lease[FB_SIZE_LEASE] = {0}, command[FB_SIZE_SET_NOW] = {FB_MODE_VELOCITY, 1};
            fb_put(lease, now_us + 100000u, 4);
            lease[5] = 1;
            fb_put(command + 2, 5000, 4);
            fb_put(command + FB_SIZE_SET_NOW - 4, now_us + 100000u, 4);
            say(core, FB_TYPE_LEASE, session, (uint8_t)step, lease, sizeof lease, now_us);
            say(core, FB_TYPE_SET_NOW, session, (uint8_t)(step + 1), command, sizeof command, now_us);
            fb_sent(core, core->tx_length);
        }
        fb_tick(core, now_us);
        if (core->state != FB_STATE_ACTIVE || (step > 100 && core->output[0] != 5000)) return step;
    }
    return steps;
}
