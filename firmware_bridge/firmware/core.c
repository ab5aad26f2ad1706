/* The state machine: what may move, and when that ends. */
#include "parts.h"

bool fb_passed(uint32_t now_us, uint32_t deadline_us)
{
    return (int32_t)(now_us - deadline_us) >= 0;
}

bool fb_latched(const fb_core *c)
{
    return c->state == FB_STATE_ESTOP || c->state == FB_STATE_FAULT;
}

void fb_clear(void *memory, size_t size)
{
    uint8_t *bytes = memory;
    while (size--) *bytes++ = 0;
}

/* -- leaving motion ---------------------------------------------------------------------------------------------- */

static void forget_targets(fb_core *c)
{
    for (int i = 0; i < FB_AXES; i++) c->commanded[i] = false;
#if FB_TRAJECTORY_POINTS > 0
    c->moving = false;
    c->queued = 0;
#endif
}

static void stopped(fb_core *c, uint8_t state, uint8_t cause)
{
    c->state = state;
    c->stop_cause = cause;
    forget_targets(c);
    if (cause == FB_STOP_CAUSE_DISARMED) return;
    c->stats.trips++;
    fb_record_event(c);
}

void fb_ramp_down(fb_core *c, uint8_t cause)
{
    bool asked = cause == FB_STOP_CAUSE_DISARMED || cause == FB_STOP_CAUSE_NEW_SESSION;
    c->after_stop = asked ? FB_STATE_LINKED : FB_STATE_SAFE;
    stopped(c, FB_STATE_SAFE_STOP, cause);
}

void fb_cut(fb_core *c, uint8_t state, uint8_t cause)
{
    stopped(c, state, cause);
    for (int i = 0; i < FB_AXES; i++) {
        c->drive[i] = FB_DRIVE_OFF;
        c->speed[i] = 0;
        c->slew_rest[i] = 0;
        if (fb_axis_mode[i] == FB_MODE_VELOCITY) c->output[i] = 0;
    }
    do { /* xorshift32, Marsaglia 2003 */
        c->random ^= c->random << 13;
        c->random ^= c->random >> 17;
        c->random ^= c->random << 5;
        c->challenge = (uint16_t)c->random;
    } while (c->challenge == 0);
}

void fb_estop(fb_core *c)
{
    if (c->state != FB_STATE_ESTOP) fb_cut(c, FB_STATE_ESTOP, FB_STOP_CAUSE_ESTOP);
}

/* The ramp has ended: from now on each axis does what its policy says. Until here all are on. */
static void settle(fb_core *c)
{
    for (int i = 0; i < FB_AXES; i++) {
        int32_t policy = fb_axis_parameter(c, FB_PARAMETER_STOP_POLICY, i);
        if (policy == FB_STOP_POLICY_COAST) c->drive[i] = FB_DRIVE_OFF;
        if (policy == FB_STOP_POLICY_BRAKE) c->drive[i] = FB_DRIVE_BRAKE;
    }
    c->stopped_us = c->now_us;
    c->state = c->after_stop;
}

static void release(fb_core *c)
{
    if (c->state != FB_STATE_SAFE && c->state != FB_STATE_LINKED) return;
    for (int i = 0; i < FB_AXES; i++) {
        if (c->drive[i] != FB_DRIVE_ON || fb_axis_parameter(c, FB_PARAMETER_STOP_POLICY, i) != FB_STOP_POLICY_RELEASE)
            continue;
        uint32_t after_us = (uint32_t)fb_axis_parameter(c, FB_PARAMETER_RELEASE_AFTER_MS, i) * 1000u;
        if (c->now_us - c->stopped_us >= after_us) c->drive[i] = FB_DRIVE_OFF;
    }
}

/* -- time -------------------------------------------------------------------------------------------------------- */

static void advance(fb_core *c, uint32_t now_us)
{
    if (now_us < c->now_us) c->epoch++;
    c->now_us = now_us;
    if (c->lease_fresh && fb_passed(now_us, c->lease_expire_us)) {
        c->lease_fresh = false;
        if (c->state == FB_STATE_ACTIVE) fb_ramp_down(c, FB_STOP_CAUSE_LEASE_EXPIRED);
    }
    for (int i = 0; i < FB_AXES; i++) {
        if (c->state == FB_STATE_ACTIVE && c->commanded[i] && fb_passed(now_us, c->valid_until_us[i]))
            fb_ramp_down(c, FB_STOP_CAUSE_COMMAND_EXPIRED);
    }
    if (c->state == FB_STATE_ACTIVE && !c->engaged_once && fb_passed(now_us, c->armed_us + FB_ENGAGE_WITHIN_US))
        fb_ramp_down(c, FB_STOP_CAUSE_DISENGAGED);
}

/* -- the interface ----------------------------------------------------------------------------------------------- */

void fb_init(fb_core *c, const fb_identity *identity, uint32_t now_us)
{
    fb_clear(c, sizeof *c);
    c->identity = *identity;
    c->now_us = now_us;
    c->ticked_us = now_us;
    c->state = FB_STATE_BOOT;
    c->last_session = (uint8_t)identity->boot_id;
    c->random = identity->boot_id | 1u;
    c->temperature_dc = -32768;
    if (identity->reset_cause == 1) c->faults = FB_FAULT_WATCHDOG_RESET;
    fb_default_settings(c);
}

void fb_receive(fb_core *c, const uint8_t *bytes, size_t length, uint32_t now_us)
{
    fb_frame frame;
    advance(c, now_us);
    for (size_t i = 0; i < length; i++) {
        switch (fb_decode(&c->decoder, bytes[i], FB_SCHEMA_ID, &frame)) {
        case FB_DECODE_MORE: break;
        case FB_DECODE_FRAME: fb_handle(c, &frame); break;
        case FB_DECODE_BAD_CRC: c->stats.crc_errors++; break;
        case FB_DECODE_BAD_COBS: c->stats.cobs_errors++; break;
        case FB_DECODE_OVERRUN: c->stats.overruns++; break;
        case FB_DECODE_UNKNOWN: c->stats.unknown++; break;
        }
    }
}

void fb_tick(fb_core *c, uint32_t now_us)
{
    uint32_t elapsed_us = now_us - c->ticked_us;
    c->ticked_us = now_us;
    if (elapsed_us > c->stats.longest_tick_us) c->stats.longest_tick_us = elapsed_us;
    if (elapsed_us > FB_MAX_TICK_US) elapsed_us = FB_MAX_TICK_US;
    advance(c, now_us);
    if (c->state == FB_STATE_BOOT) {
        c->state = FB_STATE_IDLE;
        if (c->faults != 0) fb_cut(c, FB_STATE_FAULT, FB_STOP_CAUSE_FAULT);
    }
    fb_check_faults(c, elapsed_us);
    fb_move(c, elapsed_us);
    if (c->state == FB_STATE_SAFE_STOP) {
        bool still = true;
        for (int i = 0; i < FB_AXES; i++) still = still && c->speed[i] == 0;
        if (still) settle(c);
    }
    release(c);
    fb_send_periodic(c);
}

void fb_set_faults(fb_core *c, uint32_t present)
{
    c->fault_inputs = present;
    fb_raise_faults(c);
}

void fb_sent(fb_core *c, uint16_t bytes)
{
    for (uint16_t i = bytes; i < c->tx_length; i++) c->tx[i - bytes] = c->tx[i];
    c->tx_length = (uint16_t)(c->tx_length - bytes);
}

void fb_task_ran(fb_core *c, uint8_t task)
{
    c->tasks |= task;
}

bool fb_watchdog_due(fb_core *c)
{
    if (c->tasks != (FB_TASK_CONTROL | FB_TASK_LINK | FB_TASK_SAFETY)) return false;
    c->tasks = 0;
    return true;
}
