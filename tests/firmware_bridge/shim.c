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
                  uint16_t supply_mv)
{
    core->supply_mv = supply_mv;
    for (int i = 0; i < FB_AXES; i++) {
        core->position[i] = position[i];
        core->velocity[i] = velocity[i];
        core->current[i] = current[i];
    }
}

size_t shim_take(fb_core *core, uint8_t *out)
{
    size_t length = core->tx_length;
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
    fb_frame frame;
    size_t at = 0;
    for (size_t i = 0; i < length; i++) {
        fb_decoded what = fb_decode(&decoder, bytes[i], schema_id, &frame);
        if (what == FB_DECODE_MORE) continue;
        events[at++] = (uint8_t)what;
        if (what != FB_DECODE_FRAME) continue;
        events[at++] = frame.flags;
        events[at++] = frame.type;
        events[at++] = frame.seq;
        events[at++] = frame.session;
        events[at++] = frame.length;
        for (size_t k = 0; k < frame.length; k++) events[at++] = frame.payload[k];
    }
    return at;
}
